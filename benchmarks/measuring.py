"""What the benchmarks of speed share: the named sizes, the flags, the clock and the table."""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from typing import Any, TypeVar

import jax
import numpy as np

from flaxformer_lite.config import defaults, parsing
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.types import Tokens

logger = logging.getLogger(__name__)

Case = TypeVar("Case")


@dataclass(frozen=True)
class Size:
    """A model of as many encoder as decoder layers, with the choices of flaxformer_lite/config/defaults.py."""

    layers: int
    width: int
    mlp_dim: int
    heads: int
    vocabulary: int  # entries, of source and target alike

    def config(self, changes: Mapping[str, Any] | None = None) -> Config:
        """The same as the library takes it; ``changes`` go by dotted keys."""
        values = defaults.get_config()
        sizes = {"width": self.width, "num_heads": self.heads, "mlp_dim": self.mlp_dim, "num_layers": self.layers}
        sizes = {f"model.encoder.{name}": size for name, size in sizes.items()}
        values.update_from_flattened_dict(sizes | dict(changes or {}))
        return parsing.from_dict(values.to_dict())


SIZES = {
    "g2p": Size(layers=3, width=128, mlp_dim=512, heads=4, vocabulary=45),
    "small": Size(layers=3, width=256, mlp_dim=1024, heads=4, vocabulary=8_000),
    "t5-small": Size(layers=6, width=512, mlp_dim=2048, heads=8, vocabulary=32_000),
}


@dataclass(frozen=True)
class Measured:
    """What one program of one size did; a row of the table.

    Attributes:
      parameters: of the model.
      compile_seconds: tracing and compiling, once.
      warm_up_seconds: the first call after that, not counted in what follows.
      calls: timed calls.
      milliseconds: of one call: median, and the fastest and the slowest tenth.
      tokens_per_second: target tokens of one call over its median time.
      gflops: 10⁹ floating-point operations a second, as the compiler counts them in its program.
      program_mib: arguments, results and scratch memory of the program.
      peak_rss_mib: the largest resident size that the process had, compiling included.
    """

    size: str
    program: str
    parameters: int
    compile_seconds: float
    warm_up_seconds: float
    calls: int
    milliseconds: float
    milliseconds_fast: float
    milliseconds_slow: float
    tokens_per_second: float
    gflops: float
    program_mib: float
    peak_rss_mib: float


@dataclass(frozen=True)
class Clock:
    """How long to measure: ``seconds``, and ``calls`` at least."""

    seconds: float
    calls: int

    def time(self, call: Callable[[], Any]) -> list[float]:
        """Seconds of each of many calls; a call is over when its results are there."""
        taken: list[float] = []
        while sum(taken) < self.seconds or len(taken) < self.calls:
            start = time.perf_counter()
            jax.block_until_ready(call())
            taken.append(time.perf_counter() - start)
        return taken


def add_arguments(parser: argparse.ArgumentParser, *, source: int, batch: int, cores: int) -> None:
    """The flags that both benchmarks have."""
    every = len(os.sched_getaffinity(0))
    parser.add_argument(
        "--size",
        nargs="+",
        choices=SIZES,
        default=["small", "t5-small"],
        help="sizes to measure; %(default)s by default",
    )
    parser.add_argument("--batch", type=int, default=batch, help="sentence pairs at once, %(default)s by default")
    parser.add_argument("--source", type=int, default=source, help="tokens of each source, %(default)s by default")
    parser.add_argument("--target", type=int, default=64, help="tokens of each target, %(default)s by default")
    parser.add_argument("--seconds", type=float, default=10, help="how long to measure each, %(default)s by default")
    parser.add_argument("--steps", type=int, default=5, help="calls to time at least, %(default)s by default")
    parser.add_argument(
        "--cores",
        type=int,
        default=cores or every,
        help=f"CPU cores to run on, %(default)s by default; {every} are free",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")


def pin(cores: int) -> None:
    """Confines this process and its children to so many cores: their thread pools are made as large as that."""
    free = sorted(os.sched_getaffinity(0))
    if not 0 < cores <= len(free):
        sys.exit(f"--cores={cores}: there are {len(free)}")
    os.sched_setaffinity(0, free[-cores:])


def measure_each(measure: Callable[[Case], Measured], cases: Mapping[str, Case]) -> list[Measured]:
    """Measures the cases, by name, each in a process of its own, so that memory is each one's own."""
    found = []
    for name, case in cases.items():
        logger.info(f"measuring {name} …")
        with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as fresh:
            found.append(fresh.submit(measure, case).result())
    return found


def summarize(taken: Sequence[float], *, tokens: int, flops: float, compiled: jax.stages.Compiled) -> dict[str, Any]:
    """The fields of ``Measured`` that come from the clock and from the compiler.

    Args:
      taken: seconds of each call.
      tokens: target tokens of a call.
      flops: floating-point operations of a call.
      compiled: the program.
    """
    fast, median, slow = (float(seconds) for seconds in np.quantile(taken, (0.1, 0.5, 0.9)))
    memory: Any = compiled.memory_analysis()
    parts = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    return {
        "calls": len(taken),
        "milliseconds": 1e3 * median,
        "milliseconds_fast": 1e3 * fast,
        "milliseconds_slow": 1e3 * slow,
        "tokens_per_second": tokens / median,
        "gflops": flops / median / 1e9,
        "program_mib": (parts - memory.alias_size_in_bytes) / 2**20,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10,
    }


def random_tokens(rows: int, length: int, vocabulary: int) -> Tokens:
    """Rows of full length: no padding, which would count as work done for nothing."""
    ids = np.random.default_rng(0).integers(3, vocabulary, (rows, length), dtype=np.int32)
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), ids.shape)
    return Tokens(ids, np.ones_like(ids), positions)


def flops_of(compiled: jax.stages.Compiled) -> float:
    """Floating-point operations of a program, as the compiler counts them; it counts the body of a loop once."""
    analysis: Any = compiled.cost_analysis()
    return analysis["flops"]


def show(found: Sequence[Measured], arguments: argparse.Namespace) -> None:
    """Prints the results, as JSON or as a table, and what they were measured on."""
    settings = {name: value for name, value in vars(arguments).items() if name not in ("json", "size")}
    place = {"jax": jax.__version__, "device": jax.devices()[0].device_kind, **settings}
    if arguments.json:
        print(json.dumps({"settings": place, "results": [asdict(row) for row in found]}, indent=1))
        return
    print(", ".join(f"{name} {value}" for name, value in place.items()))
    columns = {
        "size": [row.size for row in found],
        "program": [row.program for row in found],
        "parameters": [f"{row.parameters:,}" for row in found],
        "compile, s": [f"{row.compile_seconds:.1f}" for row in found],
        "first call, s": [f"{row.warm_up_seconds:.2f}" for row in found],
        "ms a call (tenths)": [
            f"{row.milliseconds:,.1f} ({row.milliseconds_fast:,.1f} to {row.milliseconds_slow:,.1f})" for row in found
        ],
        "target tokens/s": [f"{row.tokens_per_second:,.0f}" for row in found],
        "GFLOP/s": [f"{row.gflops:.1f}" for row in found],
        "program, MiB": [f"{row.program_mib:,.0f}" for row in found],
        "peak RSS, MiB": [f"{row.peak_rss_mib:,.0f}" for row in found],
    }
    widths = [max(map(len, [name, *cells])) for name, cells in columns.items()]
    for line in (columns, ["-" * width for width in widths], *zip(*columns.values(), strict=True)):
        print("| " + " | ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) + " |")
    print(
        "Tenths: the fastest and the slowest. GFLOP/s: operations as the compiler counts them (cost_analysis), over the"
    )
    print("median. Program: its arguments, results and scratch memory (memory_analysis). RSS: compiling included.")
