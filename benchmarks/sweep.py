"""Compares the time of a sweep with that of the same 12 runs one after the other.

A single run uses all cores; the sweep divides them among --parallel jobs. Both start with an empty compilation cache,
or, with --warm, with a full one. The sweep should take at most 0.6 of the sum of the runs' times on two idle
cores.

Examples:
  python benchmarks/sweep.py                                   # about half an hour on two cores
  python benchmarks/sweep.py --warm
  python benchmarks/sweep.py --trials=4 --config.train.steps=300   # any override
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from timing import pin

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-c", "import sys; from flaxformer_lite.cli.main import main; sys.exit(main())"]
SWEEP = """
from flaxformer_lite.sweeps import LogUniform, random_draws


def sweep():
    yield from random_draws({{"optim.learning_rate": LogUniform(1e-3, 4e-3)}}, count={count}, seed=0)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=ROOT / "configs/tiny.py", help="default: configs/tiny.py")
    parser.add_argument("--trials", type=int, default=12, help="number of trials (default: %(default)s)")
    parser.add_argument("--parallel", type=int, default=2, help="concurrent jobs (default: %(default)s)")
    parser.add_argument("--cores", type=int, default=2, help="CPU cores (default: %(default)s)")
    parser.add_argument("--warm", action="store_true", help="fill the compilation cache in a sweep that is not timed")
    arguments, overrides = parser.parse_known_args()
    pin(arguments.cores)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "trials.py").write_text(SWEEP.format(count=arguments.trials))
        config = [f"--config={arguments.config.resolve()}", *overrides]
        sweep = [*COMMAND, "sweep", *config, f"--sweep={folder / 'trials.py'}", f"--parallel={arguments.parallel}"]
        if arguments.warm:
            timed([*sweep, f"--workdir={folder / 'warm'}"], folder / "cache" / "warm")
        caches = {name: folder / "cache" / ("warm" if arguments.warm else name) for name in ("single", "sweep")}
        concurrent = timed([*sweep, f"--workdir={folder / 'sweep'}"], caches["sweep"])
        print(f"sweep of {arguments.trials}, {arguments.parallel} concurrent: {concurrent:.1f} s", flush=True)
        sequential = 0.0
        for i, config in enumerate(sorted((folder / "sweep").glob("*/config.json"))):
            taken = timed([*COMMAND, "train", f"--config={config}", f"--workdir={folder / str(i)}"], caches["single"])
            print(f"run {i + 1}: {taken:.1f} s", flush=True)
            sequential += taken
    print(f"all runs one after the other: {sequential:.1f} s; the sweep takes {concurrent / sequential:.3f} of that")


def timed(command: list[str], cache: Path) -> float:
    """Seconds of a command, which must succeed, with this compilation cache."""
    cache.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(f"{' '.join(command)} failed: {ended.stderr[-2000:]}")
    return time.monotonic() - start


if __name__ == "__main__":
    main()
