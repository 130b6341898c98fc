"""Model sizes, flags, timers and result tables of the speed benchmarks."""

from __future__ import annotations

import argparse
import json
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

Case = TypeVar("Case")


@dataclass(frozen=True)
class ModelSize:
    """A Transformer with equal stacks and the defaults of flaxformer_lite/config/defaults.py."""

    layers: int
    width: int
    mlp_dim: int
    heads: int
    vocabulary: int  # entries of the source and of the target vocabulary

    def config(self, changes: Mapping[str, Any] | None = None) -> Config:
        """The config, with ``changes`` by dotted keys."""
        values = defaults.get_config()
        sizes = {"width": self.width, "num_heads": self.heads, "mlp_dim": self.mlp_dim, "num_layers": self.layers}
        sizes = {f"model.encoder.{name}": size for name, size in sizes.items()}
        values.update_from_flattened_dict(sizes | dict(changes or {}))
        return parsing.from_dict(values.to_dict())


SIZES = {
    "g2p": ModelSize(layers=3, width=128, mlp_dim=512, heads=4, vocabulary=45),
    "small": ModelSize(layers=3, width=256, mlp_dim=1024, heads=4, vocabulary=8_000),
    "t5-small": ModelSize(layers=6, width=512, mlp_dim=2048, heads=8, vocabulary=32_000),
}


@dataclass(frozen=True)
class Measurement:
    """Results of one program for one model size, a row of the table.

    Attributes:
      parameters: number of parameters.
      compile_seconds: tracing and compilation.
      warm_up_seconds: the first call, excluded from the fields below.
      calls: number of timed calls.
      milliseconds: median time of a call.
      milliseconds_fast: 0.1 quantile.
      milliseconds_slow: 0.9 quantile.
      tokens_per_second: target tokens per second at the median time.
      gflops: 10⁹ floating-point operations per second, by the compiler's cost analysis.
      program_mib: arguments, results and temporary memory of the program.
      peak_rss_mib: peak resident memory of the process, compilation included.
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
class Timer:
    """Times calls for at least ``seconds`` and at least ``calls`` times."""

    seconds: float
    calls: int

    def time(self, call: Callable[[], Any]) -> list[float]:
        """Seconds of each call, until its results are ready."""
        taken: list[float] = []
        while sum(taken) < self.seconds or len(taken) < self.calls:
            start = time.perf_counter()
            jax.block_until_ready(call())
            taken.append(time.perf_counter() - start)
        return taken


def add_arguments(parser: argparse.ArgumentParser, *, source: int, batch: int, cores: int) -> None:
    """Adds the common flags."""
    every = len(os.sched_getaffinity(0))
    parser.add_argument(
        "--size",
        nargs="+",
        choices=SIZES,
        default=["small", "t5-small"],
        help="model sizes (default: %(default)s)",
    )
    parser.add_argument("--batch", type=int, default=batch, help="sentence pairs per batch (default: %(default)s)")
    parser.add_argument("--source", type=int, default=source, help="tokens per source (default: %(default)s)")
    parser.add_argument("--target", type=int, default=64, help="tokens per target (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10, help="minimum time per program (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=5, help="minimum number of timed calls (default: %(default)s)")
    parser.add_argument(
        "--cores",
        type=int,
        default=cores or every,
        help=f"CPU cores (default: %(default)s of {every})",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")


def pin(cores: int) -> None:
    """Restricts this process and its children to this number of cores, which also sets the size of thread pools."""
    free = sorted(os.sched_getaffinity(0))
    if not 0 < cores <= len(free):
        sys.exit(f"--cores={cores}: there are {len(free)}")
    os.sched_setaffinity(0, free[-cores:])


def measure_each(measure: Callable[[Case], Measurement], cases: Mapping[str, Case]) -> list[Measurement]:
    """Measures the cases in separate processes, so that peak memory is measured for each."""
    found = []
    for name, case in cases.items():
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as process:
            found.append(process.submit(measure, case).result())
    return found


def summarize(taken: Sequence[float], *, tokens: int, flops: float, compiled: jax.stages.Compiled) -> dict[str, Any]:
    """The fields of ``Measurement`` from the timer and from the compiler.

    Args:
      taken: seconds of each call.
      tokens: target tokens per call.
      flops: floating-point operations per call.
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
    """Rows of full length, without padding."""
    ids = np.random.default_rng(0).integers(3, vocabulary, (rows, length), dtype=np.int32)
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), ids.shape)
    return Tokens(ids, np.ones_like(ids), positions)


def flops_of(compiled: jax.stages.Compiled) -> float:
    """Floating-point operations of a program by its cost analysis, which counts the body of a loop once."""
    analysis: Any = compiled.cost_analysis()
    return analysis["flops"]


def show(found: Sequence[Measurement], arguments: argparse.Namespace) -> None:
    """Prints the results and the settings, as a table or as JSON."""
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
        "ms per call (0.1 to 0.9 quantile)": [
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
    print("GFLOP/s: operations of cost_analysis() over the median time. Program: arguments, results and temporary")
    print("memory of memory_analysis(). RSS: compilation included.")
