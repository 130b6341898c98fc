"""Speed of decoding: tokens/s, GFLOP/s and memory of greedy and beam search, on the program that `decode` runs.

The model has random parameters and no EOS token, so that no search stops early. A call encodes a batch of sources and
decodes their targets; only the tokens of the best hypothesis of a beam search are counted.

Examples:
  python benchmarks/decode.py                                  # small and T5-small, greedy and beam 4, on one core
  python benchmarks/decode.py --size=small --beams 1 --json    # one size, greedy alone, as JSON
  python benchmarks/decode.py --cores=2 --batch=64 --source=128
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
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

from flaxformer_lite.config.dataclasses import MeshConfig
from flaxformer_lite.decoding.base import plain_request
from flaxformer_lite.decoding.beam import BeamSearch
from flaxformer_lite.decoding.beam_scoring import google
from flaxformer_lite.decoding.decode_loop import Greedy
from flaxformer_lite.inference.predict import search_batch
from flaxformer_lite.models.encoder_decoder import EncoderDecoder
from flaxformer_lite.sharding.mesh_layout import MeshLayout
from flaxformer_lite.train_step.state import init_params
from flaxformer_lite.types import SpecialIds, Tokens


class Case(NamedTuple):
    """One search to measure."""

    size: str
    beams: int
    batch: int
    source: int
    target: int
    timer: Timer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--beams", nargs="+", type=int, default=[1, 4], help="beam sizes, 1 is greedy (default: %(default)s)"
    )
    add_arguments(parser, source=32, batch=16, cores=1)
    arguments = parser.parse_args()
    pin(arguments.cores)
    shape = arguments.batch, arguments.source, arguments.target
    timer = Timer(arguments.seconds, arguments.steps)
    cases = {
        f"{size}, {program_name(beams)}": Case(size, beams, *shape, timer)
        for size in arguments.size
        for beams in arguments.beams
    }
    show(measure_each(measure, cases), arguments)


def program_name(beams: int) -> str:
    return "greedy" if beams == 1 else f"beam {beams}"


def measure(case: Case) -> Measurement:
    """Times one search of one model size."""
    size = SIZES[case.size]
    special = SpecialIds(pad=0, begin=1, unknown=2, end=size.vocabulary)  # an id outside the vocabulary
    model = EncoderDecoder(size.config().model, size.vocabulary, size.vocabulary, max(case.source, case.target))
    layout = MeshLayout(MeshConfig(data=-1, fsdp=1, tensor=1))
    params = layout.init(lambda: init_params(model, seed=0))
    limits = np.full(case.batch, case.target, np.int32)
    batch = layout.shard_batch((random_tokens(case.batch, case.source, size.vocabulary), plain_request(limits)))
    search = Greedy() if case.beams == 1 else BeamSearch(case.beams, google(alpha=0.6))

    start = time.perf_counter()
    run = jax.jit(partial(search_batch, model, search, case.target, special)).lower(params, batch).compile()
    compiled_at = time.perf_counter()
    jax.block_until_ready(run(params, batch))
    warm_at = time.perf_counter()
    taken = case.timer.time(lambda: run(params, batch))
    return Measurement(
        size=case.size,
        program=program_name(case.beams),
        parameters=sum(leaf.size for leaf in jax.tree.leaves(params)),
        compile_seconds=compiled_at - start,
        warm_up_seconds=warm_at - compiled_at,
        **summarize(
            taken,
            tokens=case.batch * case.target,
            flops=flops_of(run) + (case.target - 1) * flops_of_step(model, params, batch, case),
            compiled=run,
        ),
    )


def flops_of_step(model: EncoderDecoder, params: Any, batch: tuple[Tokens, jax.Array], case: Case) -> float:
    """Operations of one decoding step; the cost analysis of the search counts the body of its loop once."""

    def start(params: Any) -> tuple[Any, Any]:
        encoded = model.apply({"params": params}, batch[0], train=False, method="encode")
        return model.apply({"params": params}, encoded, case.beams, case.target, method="init_cache"), encoded

    def step(params: Any, token: jax.Array, cache: Any, encoded: Any) -> Any:
        return model.apply({"params": params}, token, cache, encoded, method="step")

    token = jax.ShapeDtypeStruct((case.batch, case.beams), jnp.int32)
    return flops_of(jax.jit(step).lower(params, token, *jax.eval_shape(start, params)).compile())


if __name__ == "__main__":
    main()
