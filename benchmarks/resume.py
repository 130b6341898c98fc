"""Kills a training run at random times, resumes it, and compares the result with that of an uninterrupted run.

One process trains without interruption. Another is killed (SIGKILL) while it trains, evaluates, saves or starts, and
resumed by the same command each time. Parameters, optimizer state, counters, data position and evaluation history must
be bit-identical in the end; otherwise the exit code is 1.

Examples:
  python benchmarks/resume.py                                     # 20 kills of configs/tiny.py, about 10 minutes
  python benchmarks/resume.py --kills=3 --seed=1
  python benchmarks/resume.py --config=configs/g2p.py --kills=5 --config.train.steps=3000   # any override
"""

from __future__ import annotations

import argparse
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from flaxformer_lite.checkpoints.storage import silence_orbax

ROOT = Path(__file__).resolve().parents[1]
PROGRESS = re.compile(r"step +([\d,]+)/([\d,]+) ")
EVERY = 10  # steps between two lines of progress, at which kills are timed
IN_START_UP = 0.25  # fraction of the kills


class Uninterrupted(NamedTuple):
    """Steps and times of the uninterrupted run."""

    steps: int
    start_up: float  # seconds until the first line of progress
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=ROOT / "configs/tiny.py", help="default: configs/tiny.py")
    parser.add_argument("--kills", type=int, default=20, help="number of kills (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the times (default: %(default)s)")
    arguments, overrides = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, str(ROOT / "train.py"), f"--config={arguments.config.resolve()}"]
        command += [f"--config.train.log_every={EVERY}", *overrides, "--workdir"]
        whole = run_uninterrupted([*command, str(folder / "whole")])
        print(
            f"uninterrupted: {whole.steps:,} steps in {whole.seconds:.0f} s, {whole.start_up:.0f} of them to start up",
            flush=True,
        )
        times = random.Random(arguments.seed)
        for turn in range(arguments.kills):
            target = whole.steps * times.uniform(turn, turn + 1) / arguments.kills
            early = times.uniform(0, whole.start_up) if times.random() < IN_START_UP else None
            late = times.uniform(0, 1)
            when = kill([*command, str(folder / "killed")], target, early, late)
            print(f"kill {turn + 1:2} of {arguments.kills}: {when}", flush=True)
        run([*command, str(folder / "killed")])
        differing = differences(*(last_checkpoint(folder / name) for name in ("whole", "killed")))
    if differing:
        sys.exit("NOT identical: " + ", ".join(differing))
    print("identical: parameters, optimizer state, counters, data position and history, bit for bit")


def run_uninterrupted(command: list[str]) -> Uninterrupted:
    """Trains without interruption."""
    start, first, last = time.monotonic(), None, None
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stderr
        for line in process.stderr:
            if found := PROGRESS.match(line):
                first, last = first or time.monotonic(), found
    if process.returncode or not first or not last:
        sys.exit(f"training failed with exit code {process.returncode}; try: {' '.join(command)}")
    return Uninterrupted(number(last[2]), first - start, time.monotonic() - start)


def kill(command: list[str], target: float, early: float | None, late: float) -> str:
    """Starts or resumes the run, and kills it.

    Args:
      command: starts or resumes the run.
      target: the step to wait for.
      early: seconds after the start to kill at, instead of waiting for the step.
      late: seconds after the step to kill at.

    Returns:
      A description of the time.
    """
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stderr
        if early is None:
            steps = (number(found[1]) for line in process.stderr if (found := PROGRESS.match(line)))
            reached = next((step for step in steps if step >= target), None)
            when = f"{late:.2f} s after step {reached}"
            time.sleep(late)
        else:
            when = f"{early:.1f} s after its start"
            time.sleep(early)
        process.kill()
    if process.returncode not in (-signal.SIGKILL, 0):
        sys.exit(f"training failed with exit code {process.returncode} before it was killed; try: {' '.join(command)}")
    return when if process.returncode else f"{when}: after the end"


def run(command: list[str]) -> None:
    """Resumes the run and trains to its end."""
    subprocess.run(command, stderr=subprocess.DEVNULL, check=True, cwd=ROOT)


def last_checkpoint(workdir: Path) -> dict[str, Any]:
    """The arrays and counters of the last checkpoint, by name, as bytes."""
    options = ocp.CheckpointManagerOptions(read_only=True)
    folder = (workdir / "checkpoints").absolute()
    with silence_orbax(), ocp.CheckpointManager(folder, options=options) as manager:
        found: Any = manager.restore(
            manager.latest_step(),
            args=ocp.args.Composite(
                params=ocp.args.StandardRestore(), training=ocp.args.StandardRestore(), run=ocp.args.JsonRestore()
            ),
        )
    arrays = jax.tree_util.tree_leaves_with_path({"params": found.params, "training": found.training})
    named = {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in arrays}
    return {name: np.asarray(leaf).tobytes() for name, leaf in named.items()} | dict(found.run)


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The names whose values differ."""
    return [name for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name)]


def number(text: str) -> int:
    return int(text.replace(",", ""))


if __name__ == "__main__":
    main()
