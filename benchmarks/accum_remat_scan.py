"""Compilation time, memory and speed of gradient accumulation, rematerialization and scanned layers.

The training step of a Transformer of width 256 (heads 4, feed-forward 1,024, 8k vocabulary) with 6 and with 24 layers
in each stack. The exit code is 1 where 24 scanned layers take longer to compile than 6 unrolled ones.

Examples:
  python benchmarks/accum_remat_scan.py                     # 8 × 128 + 128 tokens, on all cores: about 6 minutes
  python benchmarks/accum_remat_scan.py --source=32 --target=32 --json
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from timing import Timer, add_arguments, measure_each, pin, show
from train_step import Case, measure

CHANGES: dict[str, dict[str, Any]] = {
    "6 layers": {"model.encoder.num_layers": 6},
    "6 layers, 4 microbatches": {"model.encoder.num_layers": 6, "train.grad_accum_steps": 4},
    "6 layers, remat dots": {"model.encoder.num_layers": 6, "model.remat": "dots"},
    "6 layers, remat full": {"model.encoder.num_layers": 6, "model.remat": "full"},
    "6 layers, scanned": {"model.encoder.num_layers": 6, "model.scan_layers": True},
    "24 layers": {"model.encoder.num_layers": 24},
    "24 layers, scanned": {"model.encoder.num_layers": 24, "model.scan_layers": True},
    "24 layers, scanned, remat full": {
        "model.encoder.num_layers": 24,
        "model.scan_layers": True,
        "model.remat": "full",
    },
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, source=128, batch=8, cores=0)
    parser.set_defaults(size=["small"], target=128, seconds=2, steps=3)
    arguments = parser.parse_args()
    pin(arguments.cores)
    shape = arguments.batch, arguments.source, arguments.target
    timer = Timer(arguments.seconds, arguments.steps)
    cases = {name: Case("small", *shape, timer, tuple(changes.items()), name) for name, changes in CHANGES.items()}
    found = measure_each(measure, cases)
    show(found, arguments)
    seconds = {row.program: row.compile_seconds for row in found}
    return int(seconds["24 layers, scanned"] > seconds["6 layers"])


if __name__ == "__main__":
    sys.exit(main())
