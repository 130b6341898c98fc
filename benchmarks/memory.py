"""Trains 3,100 steps and tells by how much the process grows in 1,000 of them, the first 100 aside. Linux only.

That is a third of the growth over 3,000: the mean of nine readings at their end over the mean of nine at their
beginning, 50 steps apart. Single readings scatter by 2 %, depending on what is just being saved.

It evaluates and saves every 50 steps, so that by step 100 all has been compiled and done once that a run does; what
grows from there on would grow for ever. The exit code is 1 where that is more than 1 %.

Examples:
  python benchmarks/memory.py                                   # configs/tiny.py, about 6 minutes
  python benchmarks/memory.py --config=configs/g2p.py           # any flag of `flaxformer-lite train` but --workdir
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROGRESS = re.compile(r"step +([\d,]+)/")
FROM, TO = 100, 3_100  # steps
FIRST, LAST = range(FROM, FROM + 401, 50), range(TO - 400, TO + 1, 50)
LIMIT = 0.01
EVERY = ("log_every", "eval_every", "save_every")


def main() -> int:
    flags = sys.argv[1:] or ["--config=configs/tiny.py"]
    if flags[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    flags += [f"--config.train.steps={TO}", *(f"--config.train.{key}=50" for key in EVERY)]
    with tempfile.TemporaryDirectory() as folder:
        sizes = watch([sys.executable, str(ROOT / "train.py"), *flags, f"--workdir={folder}/run"])
    before, after = (statistics.mean(sizes[step] for step in steps) for steps in (FIRST, LAST))
    growth = (after / before - 1) * 1_000 / (TO - FROM)
    for step in range(FROM, TO + 1, 200):
        print(f"step {step:5,}  {sizes[step] / 2**20:8.1f} MiB")
    found = {"from": FROM, "to": TO, "bytes": [round(before), round(after)], "growth_per_1000_steps": round(growth, 5)}
    print(json.dumps(found))
    return int(growth > LIMIT)


def watch(command: list[str]) -> dict[int, int]:
    """Runs a training command; returns the bytes that it held in memory at each line of progress, by step."""
    sizes = {}
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for line in process.stderr:
            print(line, end="", file=sys.stderr, flush=True)
            if progress := PROGRESS.match(line):
                pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
                sizes[int(progress[1].replace(",", ""))] = pages * os.sysconf("SC_PAGE_SIZE")
    if process.returncode:
        raise SystemExit(process.returncode)
    return sizes


if __name__ == "__main__":
    sys.exit(main())
