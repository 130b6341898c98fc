"""Measures the growth of a training process in memory per 1,000 steps, from step 100 to 3,100 (Linux only).

The growth is a third of that over 3,000 steps, from the means of nine readings at the beginning and at the end, 50
steps apart, since single readings vary by 2 % with the state of saving.

The run evaluates and saves every 50 steps, so that everything is compiled and executed once before step 100. The exit
code is 1 where the growth is above 1 %.

Examples:
  python benchmarks/memory_growth.py                                   # configs/tiny.py, about 6 minutes
  python benchmarks/memory_growth.py --config=configs/g2p.py   # any flag of train except --workdir
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
        sizes = run_and_measure([sys.executable, str(ROOT / "train.py"), *flags, f"--workdir={folder}/run"])
    before, after = (statistics.mean(sizes[step] for step in steps) for steps in (FIRST, LAST))
    growth = (after / before - 1) * 1_000 / (TO - FROM)
    for step in range(FROM, TO + 1, 200):
        print(f"step {step:5,}  {sizes[step] / 2**20:8.1f} MiB")
    found = {"from": FROM, "to": TO, "bytes": [round(before), round(after)], "growth_per_1000_steps": round(growth, 5)}
    print(json.dumps(found))
    return int(growth > LIMIT)


def run_and_measure(command: list[str]) -> dict[int, int]:
    """Runs a training command; returns its resident bytes by step, at each line of progress."""
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
