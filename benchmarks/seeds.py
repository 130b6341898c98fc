"""What it saves to train seeds in one program (train.vmap_seeds) instead of one after the other.

First the training step: that of one seed and that of all, by turns, and how long each takes to compile. On a CPU it is
processor time that counts, which other programs disturb less; on one core it is what an idle one would take. Then whole
runs of a config by the command line, with data, evaluations and checkpoints: the seeds one after the other, and
together, each way beginning without compiled programs (of the runs one after the other, the later ones load what the
first one compiled).

Examples:
  python benchmarks/seeds.py --cores=1                             # the steps of four models, 4 seeds: 3 minutes
  python benchmarks/seeds.py --model micro --seeds=16
  python benchmarks/seeds.py --model --config=configs/tiny.py --config.train.steps=500     # whole runs alone
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from measuring import SIZES, Size, pin
from train_step import Case, Clock, random_batch

from flaxformer_lite.models.build import make_model
from flaxformer_lite.sharding.layout import SeedsLayout, make_layout
from flaxformer_lite.training.setup import make_training

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 7
SECONDS = 1.0  # of each round, for each way


@dataclass(frozen=True)
class Model:
    """A model and the batches that it reads.

    Attributes:
      size: of the model.
      rows: of a batch.
      tokens: of each source and target.
      changes: to the config, by dotted keys.
    """

    size: Size
    rows: int
    tokens: int
    changes: Mapping[str, Any] = field(default_factory=dict)


_TINY, _LSTM = Size(2, 64, 256, 4, 14), {"model.encoder": "rnn", "model.decoder": "rnn"}
MODELS = {
    "micro": Model(Size(1, 16, 24, 2, 14), 8, 6),
    "tiny": Model(_TINY, 64, 10),
    "tiny-lstm": Model(_TINY, 64, 10, _LSTM),
    "g2p": Model(SIZES["g2p"], 128, 9),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="*", choices=MODELS, default=list(MODELS), help="all by default")
    parser.add_argument("--seeds", type=int, default=4, help="%(default)s by default")
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)), help="%(default)s by default")
    parser.add_argument("--config", type=Path, help="whole runs of this config too; any flag of it may follow")
    arguments, overrides = parser.parse_known_args()
    pin(arguments.cores)
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {arguments.cores} cores, {arguments.seeds} seeds")
    for name in arguments.model:
        print(f"{name:<10} {compare_steps(MODELS[name], arguments.seeds)}", flush=True)
    if arguments.config:
        print(compare_runs([f"--config={arguments.config.resolve()}", *overrides], arguments.seeds))
    return 0


def compare_steps(model: Model, seeds: int) -> str:
    """A line of what a step takes either way."""
    longest = {"data.max_source_length": model.tokens, "data.max_target_length": model.tokens}
    config = model.size.config({"train.batch_size": model.rows, "train.steps": 100_000} | longest | dict(model.changes))
    training = make_training(config, make_model(config, model.size.vocabulary, model.size.vocabulary), [])
    batch = random_batch(Case("", model.rows, model.tokens, model.tokens, Clock(0, 0)), model.size.vocabulary)

    alone = make_layout(config)
    shapes, state = alone.shapes(training.first_state), alone.init(training.first_state)
    one: Any = alone.compile(training.step, jax.random.key(0), shapes)
    together = SeedsLayout(config.mesh, seeds)
    states = together.init(lambda seed: training._replace(seed=seed).first_state(), range(seeds))
    every = together.compile(training.step, [jax.random.key(seed) for seed in range(seeds)])
    batches = jax.tree.map(lambda x: np.stack([x] * seeds), batch)

    call_one, compile_one = started(one, state, alone.put(batch))
    call_all, compile_all = started(every, states, together.put(batches))
    pairs = [(per_call(call_one), per_call(call_all)) for _ in range(ROUNDS)]
    ratios = [seeds * own / joint for own, joint in pairs]
    own, joint = (1e3 * statistics.median(taken) for taken in zip(*pairs, strict=True))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(shapes.params))
    return (
        f"{parameters:>9,} parameters, {model.rows:>3} × {model.tokens} + {model.tokens} tokens: "
        f"a step of one {own:6.2f} ms, of all {joint:7.2f} ms: {statistics.median(ratios):.2f} times as fast "
        f"({min(ratios):.2f} to {max(ratios):.2f}); compiled in {compile_one:.1f} and {compile_all:.1f} s"
    )


def started(step: Callable[..., Any], state: Any, batch: Any) -> tuple[Callable[[], Any], float]:
    """A call that repeats the step, and the seconds of its first time, which compiles it."""

    def update() -> Any:
        nonlocal state  # the step uses the old one up
        state, results = step((), state, batch)
        return results

    start = time.perf_counter()
    jax.block_until_ready(update())
    return update, time.perf_counter() - start


def per_call(call: Callable[[], Any]) -> float:
    """Mean seconds; on a CPU those that the processor worked for it."""
    clock = time.process_time if jax.default_backend() == "cpu" else time.perf_counter
    start = clock()
    calls = len(Clock(SECONDS, 5).time(call))
    return (clock() - start) / calls


def compare_runs(flags: Sequence[str], seeds: int) -> str:
    """A line of what whole runs take either way."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = next((int(flag.rpartition("=")[2]) for flag in flags if flag.startswith("--config.seed=")), 0)
        apart = []
        for seed in range(first, first + seeds):
            apart.append(run([*flags, f"--config.seed={seed}"], folder / f"{seed}", folder / "compiled apart"))
            logger.info(f"seed {seed} alone: {apart[-1]:.1f} s")
        together = run(
            [*flags, f"--config.train.vmap_seeds={seeds}"], folder / "together", folder / "compiled together"
        )
        again = run([*flags, f"--config.train.vmap_seeds={seeds}"], folder / "again", folder / "compiled together")
        compiled = seeds * min(apart[1:])
    return (
        f"whole runs: one after the other {sum(apart):.1f} s, together {together:.1f} s: {sum(apart) / together:.2f} "
        f"times as fast; with compiled programs at hand {compiled:.1f} and {again:.1f} s: {compiled / again:.2f} times"
    )


def run(flags: Sequence[str], folder: Path, compiled: Path) -> float:
    """Seconds of one run; on a CPU those that the processor worked for it."""
    start = _clock_of_children()
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *flags, f"--workdir={folder}"],
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(compiled)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr)
    return _clock_of_children() - start


def _clock_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime if jax.default_backend() == "cpu" else time.perf_counter()


if __name__ == "__main__":
    sys.exit(main())
