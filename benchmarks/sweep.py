"""Measures what a sweep saves: 12 runs of configs/tiny.py, one after the other on all cores and then as a sweep.

Each run alone has all cores; the sweep shares them out among --parallel jobs. Both begin with an empty cache of
compiled programs, or, with --warm, with a full one. Printed is the sweep's time over the sum of the runs', which should
be 0.6 at most on two idle cores.

Examples:
  python benchmarks/sweep.py                                   # about half an hour on two cores
  python benchmarks/sweep.py --warm
  python benchmarks/sweep.py --points=4 --config.train.steps=300   # any flag of the config
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import pin

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-c", "import sys; from flaxformer_lite.cli.main import main; sys.exit(main())"]
POINTS = """
from flaxformer_lite.sweeps import LogUniform, random_draws


def sweep():
    yield from random_draws({{"optim.learning_rate": LogUniform(1e-3, 4e-3)}}, count={count}, seed=0)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=ROOT / "configs/tiny.py", help="configs/tiny.py by default")
    parser.add_argument("--points", type=int, default=12, help="how many, %(default)s by default")
    parser.add_argument("--parallel", type=int, default=2, help="jobs at once, %(default)s by default")
    parser.add_argument("--cores", type=int, default=2, help="CPU cores to run on, %(default)s by default")
    parser.add_argument("--warm", action="store_true", help="compile all programs before, in a sweep that is not timed")
    arguments, overrides = parser.parse_known_args()
    pin(arguments.cores)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "points.py").write_text(POINTS.format(count=arguments.points))
        config = [f"--config={arguments.config.resolve()}", *overrides]
        sweep = [*COMMAND, "sweep", *config, f"--sweep={folder / 'points.py'}", f"--parallel={arguments.parallel}"]
        if arguments.warm:
            timed([*sweep, f"--workdir={folder / 'warm'}"], folder / "cache" / "warm")
        caches = {name: folder / "cache" / ("warm" if arguments.warm else name) for name in ("alone", "sweep")}
        together = timed([*sweep, f"--workdir={folder / 'sweep'}"], caches["sweep"])
        print(f"sweep of {arguments.points}, {arguments.parallel} at once: {together:.1f} s", flush=True)
        alone = 0.0
        for i, point in enumerate(sorted((folder / "sweep").glob("*/config.json"))):
            taken = timed([*COMMAND, "train", f"--config={point}", f"--workdir={folder / str(i)}"], caches["alone"])
            print(f"run {i + 1} alone: {taken:.1f} s", flush=True)
            alone += taken
    print(f"all runs alone: {alone:.1f} s; the sweep takes {together / alone:.3f} of that")


def timed(command: list[str], cache: Path) -> float:
    """Seconds that a command takes which must succeed, with its compiled programs in ``cache``."""
    cache.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        sys.exit(f"{' '.join(command)} failed: {ended.stderr[-2000:]}")
    return time.monotonic() - start


if __name__ == "__main__":
    main()
