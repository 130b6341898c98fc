"""Speed of the data pipeline alone, and the padding of length buckets and of packed rows.

Speed: source and target tokens, without padding, per second of one thread, from token ids in memory to padded batches.
Texts are random ids with lengths as those of sentences (supervised) and paragraphs (objectives). Padding: Multi30k
en-de in the joint BPE of ``multi30k-bpe`` below the folder of the environment variable ``FLAXFORMER_LITE_DATA``.

Examples:
  python benchmarks/data_pipeline.py
  taskset -c 0 python benchmarks/data_pipeline.py --seconds=10
"""

from __future__ import annotations

import argparse
import gzip
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from flaxformer_lite.data.buckets import Buckets, choose_buckets
from flaxformer_lite.data.dataset import Dataset
from flaxformer_lite.data.objectives.bart import Bart
from flaxformer_lite.data.objectives.base import Objective
from flaxformer_lite.data.objectives.prefix_lm import PrefixLm
from flaxformer_lite.data.objectives.span_corruption import SpanCorruption
from flaxformer_lite.data.objectives.ul2 import Ul2
from flaxformer_lite.data.packing import pack_into_rows
from flaxformer_lite.data.pipeline import training_batches
from flaxformer_lite.data.ragged import Ragged, to_offsets
from flaxformer_lite.data.tokenized import Affixes, Tokenized, TokenizedPairs, TokenizedTexts
from flaxformer_lite.data.vocabularies.base import SENTINEL, SPECIAL
from flaxformer_lite.data.vocabularies.extended import ExtendedVocabulary
from flaxformer_lite.data.vocabularies.integer import IntegerVocabulary

_SIZE = 32_000  # ids of text
_ROWS = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement (default: %(default)s)")
    arguments = parser.parse_args()
    print(f"{'million tokens/s':<28}{'buckets of 8 shapes':>20}{'packed rows':>14}")
    for name, examples in _cases():
        speeds = [_speed(examples, packed, arguments.seconds) for packed in (False, True)]
        print(f"{name:<28}{speeds[0] / 1e6:>20.1f}{speeds[1] / 1e6:>14.1f}")
    data = Path(os.environ.get("FLAXFORMER_LITE_DATA", ""), "multi30k-bpe")
    if not data.is_dir():
        print("padding is not measured: FLAXFORMER_LITE_DATA names no folder with multi30k-bpe/")
        return
    source, target = (_lengths(data / f"train.{language}.gz") for language in ("en", "de"))
    print("\npadding of Multi30k en-de, BPE")
    for count in (4, 8, 12):
        print(f"  {count} length buckets      {_padding(choose_buckets(source, target, count), source, target):.1%}")
    for length in (64, 128, 256):
        print(f"  packed rows of {length:<4}   {_padding(pack_into_rows(source, target, length), source, target):.1%}")


def _cases() -> Iterator[tuple[str, Tokenized]]:
    random = np.random.default_rng(0)
    source = np.clip(random.normal(14, 5, 100_000), 2, 60).astype(int)
    target = np.clip(source + random.normal(0, 3, len(source)), 2, 60).astype(int)
    yield "supervised", TokenizedPairs(_random_ids(source), _random_ids(target))
    texts = _random_ids(np.clip(random.lognormal(5, 1, 30_000), 5, 512).astype(int))
    sentinels = [SENTINEL.format(i) for i in reversed(range(100))]
    vocabulary = ExtendedVocabulary(IntegerVocabulary(_SIZE), ["<mask>", "[NLU]", "[NLG]", "[S2S]", *sentinels])
    affixes = Affixes(vocabulary.prefix_ids, vocabulary.suffix_ids)
    objectives: tuple[Objective, ...] = (SpanCorruption(), Ul2(), Bart(), PrefixLm())
    for objective in objectives:
        yield type(objective).__name__, TokenizedTexts(texts, objective.bind(vocabulary), affixes, affixes)


def _random_ids(lengths: np.ndarray) -> Ragged:
    offsets = to_offsets(lengths)
    return Ragged(np.random.default_rng(1).integers(10, _SIZE, offsets[-1]).astype(np.int32), offsets)


def _speed(examples: Tokenized, packed: bool, seconds: float) -> float:
    lengths = examples.max_lengths()
    buckets = pack_into_rows(*lengths, 512) if packed else choose_buckets(*lengths, 8)
    batches = training_batches(Dataset(examples, buckets, SPECIAL), lambda shape: _ROWS, 0, (0, 1), 0)
    next(batches)
    start, tokens = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        batch = next(batches)
        tokens += np.count_nonzero(batch.source.segments) + np.count_nonzero(batch.weights)
    return tokens / (time.perf_counter() - start)


def _lengths(path: Path) -> np.ndarray:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return np.array([len(line.split()) + 1 for line in lines])  # with the end token


def _padding(buckets: Buckets, source: np.ndarray, target: np.ndarray) -> float:
    return 1 - (source.sum() + target.sum()) / buckets.padded_tokens


if __name__ == "__main__":
    main()
