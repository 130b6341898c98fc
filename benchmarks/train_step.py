"""Speed of training: tokens/s, GFLOP/s and memory of one step, on the program that `train` runs.

A step is forward and backward pass, clipping and Adam, in float32, by jit over a mesh of all devices. Rows have no
padding. Tokens are target tokens; the source tokens of a batch (--source) are not counted.

Examples:
  python benchmarks/train_step.py                              # small and T5-small, 32 × 64 + 64 tokens, on all cores
  python benchmarks/train_step.py --size=small --cores=1 --json
  python benchmarks/train_step.py --size=g2p --batch=128 --source=9 --target=8   # as configs/g2p.py
"""

from __future__ import annotations

import argparse
import time
from typing import Any, NamedTuple

import jax
import numpy as np
from timing import (
    SIZES,
    Measurement,
    Timer,
    add_arguments,
    flops_of,
    measure_each,
    pin,
    random_tokens,
    show,
    summarize,
)

from flaxformer_lite.models.encoder_decoder import make_model
from flaxformer_lite.sharding.layout import make_layout
from flaxformer_lite.training.setup import make_training
from flaxformer_lite.types import Batch


class Case(NamedTuple):
    """One program to measure."""

    size: str
    batch: int
    source: int
    target: int
    timer: Timer
    changes: tuple[tuple[str, Any], ...] = ()  # overrides by dotted keys
    program: str = "train"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, source=64, batch=32, cores=0)
    arguments = parser.parse_args()
    pin(arguments.cores)
    timer = Timer(arguments.seconds, arguments.steps)
    shape = arguments.batch, arguments.source, arguments.target
    show(measure_each(measure, {size: Case(size, *shape, timer) for size in arguments.size}), arguments)


def measure(case: Case) -> Measurement:
    """Times the training step of one model size."""
    size = SIZES[case.size]
    longest = {"data.max_source_length": case.source, "data.max_target_length": case.target}
    config = size.config({"train.batch_size": case.batch, "train.steps": 100_000} | longest | dict(case.changes))
    training = make_training(config, make_model(config, size.vocabulary, size.vocabulary), [])
    layout = make_layout(config)
    shapes, state = layout.shapes(training.init_state), layout.init(training.init_state)
    batch = layout.shard_batch(random_batch(case, size.vocabulary))

    start = time.perf_counter()
    program: Any = layout.compile(training.step, jax.random.key(0), shapes)
    run = program.lower((), state, batch).compile()
    compiled_at = time.perf_counter()
    state, *_ = jax.block_until_ready(run((), state, batch))
    warm_at = time.perf_counter()

    def update() -> Any:
        nonlocal state  # the step donates the old state
        state, *rest = run((), state, batch)
        return state, rest

    return Measurement(
        size=case.size,
        program=case.program,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        compile_seconds=compiled_at - start,
        warm_up_seconds=warm_at - compiled_at,
        **summarize(case.timer.time(update), tokens=case.batch * case.target, flops=flops_of(run), compiled=run),
    )


def random_batch(case: Case, vocabulary: int) -> Batch:
    """A batch of sentence pairs of full length."""
    target = random_tokens(case.batch, case.target, vocabulary)
    labels = np.roll(target.ids, -1, axis=1)
    source = random_tokens(case.batch, case.source, vocabulary)
    return Batch(source, target, labels, np.ones(labels.shape, np.float32))


if __name__ == "__main__":
    main()
