"""Memory and time of training SentencePiece, per character of its sample.

The text is synthetic: lines of words with the frequencies of Zipf's law and a number, about 75 characters long. Each
kind of model is trained in a process of its own.

Examples:
  python benchmarks/vocabulary_memory.py
  python benchmarks/vocabulary_memory.py --lines=1000000
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time

import numpy as np

from flaxformer_lite.data.vocabularies.sentencepiece_training import train_model
from flaxformer_lite.system.console import format_duration, format_size

_NUM_WORDS, _LINE_WORDS, _NUM_PIECES = 50_000, 12, 8_000


def make_lines(count: int) -> list[str]:
    random = np.random.default_rng(0)
    lengths = random.integers(2, 10, _NUM_WORDS)
    letters = random.choice(list("etaoinshrdlucmfwyp"), lengths.sum())
    ends = np.cumsum(lengths)
    words = ["".join(letters[end - length : end]) for end, length in zip(ends, lengths, strict=True)]
    ranks = random.zipf(1.2, (count, _LINE_WORDS)) % _NUM_WORDS
    numbers = random.integers(10**6, size=count)
    return [" ".join([*(words[i] for i in row), str(n)]) for row, n in zip(ranks, numbers, strict=True)]


def measure(model_type: str, count: int) -> None:
    lines = make_lines(count)
    characters, before, start = sum(map(len, lines)), peak_memory(), time.perf_counter()
    train_model(lines, _NUM_PIECES, "bpe" if model_type == "bpe" else "unigram", sample_size=0)
    more = peak_memory() - before
    print(
        f"{model_type:<8} {count:,} lines, {characters / 1e6:.1f} M characters: {format_size(more)} of memory, "
        f"{more / characters:.1f} bytes per character, {format_duration(time.perf_counter() - start)}"
    )


def peak_memory() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=200_000)
    arguments = parser.parse_args()
    for model_type in ("unigram", "bpe"):
        process = multiprocessing.get_context("spawn").Process(target=measure, args=(model_type, arguments.lines))
        process.start()
        process.join()


if __name__ == "__main__":
    main()
