"""Word and phone error rates of Phonetisaurus on the split of CMUdict that configs/g2p.py is evaluated on.

Phonetisaurus (Novak et al. 2016) is an 8-gram model over pairs of letters and phones. It is trained on all
pronunciations of the training words, without stress, and predicts one for each of the 12,604 test words; the metrics
are this project's. It is not a dependency of this project: install the measured version.

    pip install phonetisaurus==0.3.0

Examples:
  python benchmarks/g2p_baselines.py                                       # only Phonetisaurus
  python benchmarks/g2p_baselines.py --workdir=runs/g2p_long               # and a trained model
  python benchmarks/g2p_baselines.py --python=venvs/phonetisaurus/bin/python
"""

from __future__ import annotations

import argparse
import json
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=("validation", "test"), default="test", help="default: %(default)s")
    parser.add_argument("--python", default=sys.executable, help="interpreter with phonetisaurus (default: this one)")
    parser.add_argument("--workdir", help="work directory of a trained model, for comparison")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    arguments = parser.parse_args()
    if subprocess.run([arguments.python, "-c", "import phonetisaurus"], capture_output=True).returncode:
        sys.exit(f"{arguments.python} has no phonetisaurus: {arguments.python} -m pip install phonetisaurus==0.3.0")

    train, test = (Examples(*cmudict.load(CmudictConfig(False, ""), split)) for split in ("train", arguments.split))
    rows = {}
    start = time.monotonic()
    rows["Phonetisaurus"] = scores(phonetisaurus(arguments.python, train, test.sources), test, start)
    if arguments.workdir:
        start = time.monotonic()
        rows[arguments.workdir] = scores(flaxformer_lite.load(arguments.workdir).decode(test.sources), test, start)
    show(rows, arguments.json)


def phonetisaurus(python: str, train: Examples, words: list[str]) -> list[str]:
    """Trains a model and predicts a pronunciation for each word; "" where it finds none."""
    with tempfile.TemporaryDirectory() as name:
        lexicon, model = Path(name) / "train.dict", Path(name) / "g2p.fst"
        lexicon.write_text("".join(f"{word}\t{phones}\n" for word, phones in zip(*train.pairs(), strict=True)), "utf-8")
        command = [python, "-m", "phonetisaurus"]
        print(f"training Phonetisaurus on {len(train):,} words …", file=sys.stderr, flush=True)
        done = subprocess.run([*command, "train", "--model", str(model), str(lexicon)], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"Phonetisaurus could not be trained:\n{done.stderr}")
        print(f"predicting {len(words):,} words …", file=sys.stderr, flush=True)
        predicted = subprocess.run(
            [*command, "predict", "--model", str(model)],
            input="\n".join(words),
            capture_output=True,
            text=True,
            check=True,
        )
    lines = (line.partition(" ") for line in predicted.stdout.splitlines())
    found = {word: phones for word, _, phones in lines}
    return [found.get(word, "") for word in words]


def scores(hypotheses: list[str], test: Examples, start: float) -> dict[str, float]:
    """Error rates in percent, the number of words without a prediction, and the seconds since the start."""
    found = compute_metrics(("wer", "per"), {}, hypotheses, test.references)
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
