"""Speed of training: tokens/s, GFLOP/s and memory of one step, on the program that `train` runs.

A step is forward, backward, clipping and Adam, in float32, laid out by jit over a mesh of the devices there are. Rows
have no padding. Tokens are target tokens: a batch has as many source tokens again (--source), which are not counted.

Examples:
  python benchmarks/train_step.py                              # small and T5-small, 32 × 64 + 64 tokens, on all cores
  python benchmarks/train_step.py --size=small --cores=1 --json
  python benchmarks/train_step.py --size=g2p --batch=128 --source=9 --target=8   # the usual shape of configs/g2p.py
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from measuring import (
    SIZES,
    Clock,
    Measured,
    add_arguments,
    flops_of,
    measure_each,
    pin,
    random_tokens,
    show,
    summarise,
)

from configs import base
from flaxformer_lite.config import MeshConfig
from flaxformer_lite.losses import cross_entropy
from flaxformer_lite.models.encoder_decoder import EncoderDecoder
from flaxformer_lite.objective import Criterion, OnePass
from flaxformer_lite.optim import make_optimizer, make_schedule
from flaxformer_lite.schema import from_dict
from flaxformer_lite.sharding import MeshLayout
from flaxformer_lite.steps import TrainStep
from flaxformer_lite.train_state import init_params, init_state
from flaxformer_lite.types import Batch

OPTIM = from_dict(base.get_config().to_dict()).optim  # Adam


class Case(NamedTuple):
    """What to measure."""

    size: str
    batch: int
    source: int
    target: int
    clock: Clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, source=64, batch=32, cores=0)
    arguments = parser.parse_args()
    pin(arguments.cores)
    clock = Clock(arguments.seconds, arguments.steps)
    shape = arguments.batch, arguments.source, arguments.target
    show(measure_each(measure, {size: Case(size, *shape, clock) for size in arguments.size}), arguments)


def measure(case: Case) -> Measured:
    """Times the training step of one size."""
    size = SIZES[case.size]
    model = EncoderDecoder(size.model(), size.vocabulary, size.vocabulary, max(case.source, case.target))
    layout = MeshLayout(MeshConfig(data=-1, fsdp=1, tensor=1))
    params = jax.eval_shape(partial(init_params, model, 0))
    optimizer = make_optimizer(OPTIM, make_schedule(OPTIM, steps=100_000), params)
    shapes = layout.shapes(lambda: init_state(model, optimizer, seed=0))
    state = layout.init(lambda: init_state(model, optimizer, seed=0))
    batch = layout.put(random_batch(case, size.vocabulary))
    criterion = Criterion(partial(cross_entropy, smoothing=0.1))
    step = TrainStep(OnePass(model, criterion), optimizer)

    start = time.perf_counter()
    program: Any = layout.compile(step, jax.random.key(0), shapes)
    run = program.lower((), state, batch).compile()
    compiled_at = time.perf_counter()
    state, *_ = jax.block_until_ready(run((), state, batch))
    warm_at = time.perf_counter()

    def update() -> Any:
        nonlocal state  # the step uses the old one up
        state, *rest = run((), state, batch)
        return state, rest

    return Measured(
        size=case.size,
        program="train",
        parameters=sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        compile_seconds=compiled_at - start,
        warm_up_seconds=warm_at - compiled_at,
        **summarise(case.clock.time(update), tokens=case.batch * case.target, flops=flops_of(run), compiled=run),
    )


def random_batch(case: Case, vocabulary: int) -> Batch:
    """Sentence pairs of full length."""
    target = random_tokens(case.batch, case.target, vocabulary)
    labels = np.roll(target.ids, -1, axis=1)
    source = random_tokens(case.batch, case.source, vocabulary)
    return Batch(source, target, labels, np.ones(labels.shape, np.float32))


if __name__ == "__main__":
    main()
