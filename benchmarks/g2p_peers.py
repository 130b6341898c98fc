"""Word and phone error rates of Phonetisaurus on the very split of CMUdict that configs/g2p.py is measured on.

Phonetisaurus (Novak et al. 2016) is an 8-gram model over pairs of letters and phones. It learns every pronunciation of
the training words, without stress, and says one for each of the 12,604 test words; the metrics are this project's own.
It is no dependency of this project: install the version that was measured, here or in an environment of its own.

    pip install phonetisaurus==0.3.0

Examples:
  python benchmarks/g2p_peers.py                                       # Phonetisaurus alone
  python benchmarks/g2p_peers.py --workdir=runs/g2p_long               # and a model of ours beside it
  python benchmarks/g2p_peers.py --python=venvs/phonetisaurus/bin/python
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import flaxformer_lite
from flaxformer_lite.config.dataclasses import CmudictConfig
from flaxformer_lite.data import cmudict
from flaxformer_lite.data.tasks import Examples
from flaxformer_lite.metrics.compute import compute_metrics

logger = logging.getLogger(__name__)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=("validation", "test"), default="test", help="%(default)s by default")
    parser.add_argument("--python", default=sys.executable, help="the one that has phonetisaurus; this one by default")
    parser.add_argument("--workdir", help="a trained model of this project, to be measured too")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    arguments = parser.parse_args()
    if subprocess.run([arguments.python, "-c", "import phonetisaurus"], capture_output=True).returncode:
        sys.exit(f"{arguments.python} has no phonetisaurus: {arguments.python} -m pip install phonetisaurus==0.3.0")

    train, asked = (Examples(*cmudict.load(CmudictConfig(False, ""), split)) for split in ("train", arguments.split))
    rows = {}
    start = time.monotonic()
    rows["Phonetisaurus"] = scores(phonetisaurus(arguments.python, train, asked.sources), asked, start)
    if arguments.workdir:
        start = time.monotonic()
        rows[arguments.workdir] = scores(flaxformer_lite.load(arguments.workdir).decode(asked.sources), asked, start)
    show(rows, arguments.json)


def phonetisaurus(python: str, train: Examples, words: list[str]) -> list[str]:
    """Trains a model on all pronunciations and says one for each of the words; "" where it finds none."""
    with tempfile.TemporaryDirectory() as name:
        lexicon, model = Path(name) / "train.dict", Path(name) / "g2p.fst"
        lexicon.write_text("".join(f"{word}\t{phones}\n" for word, phones in zip(*train.pairs(), strict=True)), "utf-8")
        command = [python, "-m", "phonetisaurus"]
        logger.info(f"Phonetisaurus learns {len(train):,} words …")
        done = subprocess.run([*command, "train", "--model", str(model), str(lexicon)], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"Phonetisaurus could not be trained:\n{done.stderr}")
        logger.info(f"Phonetisaurus says {len(words):,} words …")
        said = subprocess.run(
            [*command, "predict", "--model", str(model)],
            input="\n".join(words),
            capture_output=True,
            text=True,
            check=True,
        )
    lines = (line.partition(" ") for line in said.stdout.splitlines())
    found = {word: phones for word, _, phones in lines}
    return [found.get(word, "") for word in words]


def scores(hypotheses: list[str], asked: Examples, start: float) -> dict[str, float]:
    """Error rates in percent, how many words got no pronunciation, and the seconds since the start."""
    found = compute_metrics(("wer", "per"), {}, hypotheses, asked.references)
    return found | {"unanswered": hypotheses.count(""), "seconds": round(time.monotonic() - start)}


def show(rows: dict[str, dict[str, float]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    width = max(map(len, rows))
    print(f"| {'model':{width}} | WER, % | PER, % | unanswered | seconds |")
    print(f"| {'-' * width} | -----: | -----: | ---------: | ------: |")
    for name, row in rows.items():
        print(
            f"| {name:{width}} | {row['wer']:6.2f} | {row['per']:6.2f} | {row['unanswered']:10} | {row['seconds']:7} |"
        )


if __name__ == "__main__":
    main()
