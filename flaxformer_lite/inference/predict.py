"""Predictions for lines of text: tokenize, bucket, search on the device, detokenize."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from flaxformer_lite.config.dataclasses import Config, DecodeConfig
from flaxformer_lite.data.batching import pad, tokenize
from flaxformer_lite.data.buckets import pad_to_power_of_two
from flaxformer_lite.data.ragged import Ragged, to_ragged
from flaxformer_lite.data.vocabularies.base import Vocabulary
from flaxformer_lite.decoding.base import DecodeRequest, Search
from flaxformer_lite.decoding.mbr import by_expected_utility
from flaxformer_lite.decoding_types import Hypotheses
from flaxformer_lite.errors import require
from flaxformer_lite.inference.search_from_config import make_search
from flaxformer_lite.metrics.compute import UTILITIES
from flaxformer_lite.models.encoder_decoder import make_decoding_model
from flaxformer_lite.models.ensemble import Ensemble, mean_of_log_probabilities, mean_of_probabilities
from flaxformer_lite.sharding.mesh_layout import MeshLayout
from flaxformer_lite.system.compile_log import LoggedJit
from flaxformer_lite.types import SpecialIds, Tokens

logger = logging.getLogger(__name__)

_USUAL_BEAMS = 5  # up to so many hypotheses per line, a batch has config.decode.batch_size lines
_MEANS = {"probability": mean_of_probabilities, "log_probability": mean_of_log_probabilities}


class Prediction(NamedTuple):
    """One hypothesis of a line.

    Attributes:
      text: its text.
      score: the score of the search that ranks hypotheses; for ``mbr`` the expected utility, 0 to 100. NaN where the
        model computed NaN.
      ids: its token ids, the end token included where it was reached.
    """

    text: str
    score: float
    ids: tuple[int, ...] = ()


class Predictor:
    """A trained model with its vocabularies, or several as an ensemble.

    Args:
      others: configs of the other members of an ensemble; ``config`` and ``step`` are those of its first member.

    Attributes:
      params: the parameter tree; of an ensemble, the members' trees under ``members_0``, ``members_1``, …
      vocabularies: the source and the target vocabulary.
      max_supported_length: the largest number of tokens of a source or target.
      seed: seed of sampling, which also depends on the line; the run's own by default.
    """

    def __init__(
        self,
        config: Config,
        vocabularies: tuple[Vocabulary, Vocabulary],
        params: Any,
        step: int,
        layout: MeshLayout,
        others: Sequence[Config] = (),
    ):
        self.config = config
        self.params = params
        self.step = step
        self.vocabularies = vocabularies
        self._source, self._target = vocabularies
        self._members = [make_decoding_model(own, self._source.size, self._target.size) for own in (config, *others)]
        self.max_supported_length = min(member.max_supported_length for member in self._members)
        self.layout = layout
        self.seed = config.seed
        self._compiled: dict[Any, Callable[..., Hypotheses]] = {}

    def module_of(self, decode: DecodeConfig) -> nn.Module:
        """The Linen module of ``params``; ``decode.ensemble`` chooses how an ensemble averages its members."""
        return self._members[0] if len(self._members) == 1 else Ensemble(self._members, _MEANS[decode.ensemble])

    def decode(self, lines: Sequence[str], decode: DecodeConfig | None = None) -> list[str]:
        """The best hypothesis of each line, in the order of the lines."""
        return [predictions[0].text for predictions in self.n_best(lines, decode)]

    def n_best(
        self, lines: Sequence[str], decode: DecodeConfig | None = None, prefixes: Sequence[str] = ()
    ) -> list[list[Prediction]]:
        """The best ``n_best`` hypotheses of each line, best first; a blank line has one, which is empty.

        The hypotheses depend on the line and its prefix alone, not on the other lines: shapes and maximum lengths
        follow from the line's length, and samples from its tokens.

        ``prefixes`` has for each line the text that its outputs begin with, which counts in length and score. The
        search is that of ``decode``, by default ``config.decode``.

        Raises:
          InputError: a prefix has unknown tokens or is too long, or there is not one for each line.
        """
        decode = decode or self.config.decode
        sources = self.truncate(tokenize(self._source, lines))
        forced = self.tokenize_prefixes(prefixes or [""] * len(lines), decode.forced_bos)
        require(
            len(forced.lengths) == len(lines),
            "prefixes",
            f"{len(prefixes)} for {len(lines)} lines",
            "give one for each line, blank for none",
        )
        found = [[Prediction("", 0.0)] for _ in lines]
        rows = self.rows(decode)
        shapes = np.stack(
            [pad_to_power_of_two(sources.lengths, self.max_supported_length), _prefix_buckets(forced.lengths)], 1
        )
        nonblank = np.flatnonzero([bool(line.strip()) for line in lines])
        for members, shape in batches_by_shape(nonblank, shapes, sources.lengths, rows):
            hypotheses = self._search(sources, forced, members, (rows, shape[0], shape[1]), decode)
            for row, index in enumerate(members):
                found[index] = self._predictions(hypotheses, row, decode)
        if num_nan := sum(bool(np.isnan(predictions[0].score)) for predictions in found):
            logger.warning(f"{num_nan} of {len(lines)} lines have no sound output: the model computed NaN")
        return found

    def tokens(self, prediction: Prediction) -> list[str]:
        """The tokens of a hypothesis as the target vocabulary writes them, without the end token."""
        return [self._target.token(i) for i in prediction.ids if i != self._target.special.end]

    def truncate(self, sources: Ragged) -> Ragged:
        """Truncates sources that are longer than the model supports, with a message."""
        too_long = sources.lengths > self.max_supported_length
        if not too_long.any():
            return sources
        most = int(self.max_supported_length)
        logger.warning(f"{too_long.sum()} lines have more than the {most} tokens that this model's learned positions "
            f"support; the rest of them is ignored")  # fmt: skip
        return sources.truncate(most)

    def tokenize_prefixes(self, prefixes: Sequence[str], forced_bos: bool = True) -> Ragged:
        """The token ids of texts that the outputs begin with, without an end token.

        With ``forced_bos``, outputs without a prefix also begin with ``Vocabulary.prefix_ids``.

        Raises:
          InputError: a prefix has unknown tokens or is too long.
        """
        ids_of = [self._target.encode(prefix) if prefix.strip() else [] for prefix in prefixes]
        for number, (prefix, ids) in enumerate(zip(prefixes, ids_of, strict=True), start=1):
            require(
                self._target.special.unknown not in ids,
                f"prefix {number}, {prefix!r}",
                "has tokens that are not in the target vocabulary",
            )
            require(
                len(self._target.prefix_ids) + len(ids) < self.max_supported_length,
                f"prefix {number}",
                f"has {len(ids)} tokens; this model's learned positions support {self.max_supported_length}",
            )
        return to_ragged([[*self._target.prefix_ids * (forced_bos or bool(ids)), *ids] for ids in ids_of])

    def rows(self, decode: DecodeConfig) -> int:
        """Number of lines that are searched together, a multiple of the number of devices.

        With more samples per line there are fewer lines, because each sample attends to the keys of all samples of its
        line under a mask: so memory stays that of ordinary beams.
        """
        lines = decode.batch_size
        if decode.method in ("sample", "mbr"):
            lines = min(lines, max(lines * _USUAL_BEAMS // decode.num_samples, 1))
        return self.layout.round_up_rows(lines)

    def max_lengths(self, source_lengths: np.ndarray, decode: DecodeConfig) -> np.ndarray:
        """The largest number of target tokens for sources of these lengths, the end token included."""
        limits = np.ceil(decode.max_length_ratio * source_lengths).astype(int) + decode.max_length_offset
        return np.minimum(limits, self.max_supported_length).astype(int)

    def _search(
        self, sources: Ragged, forced: Ragged, members: np.ndarray, shape: tuple[int, int, int], decode: DecodeConfig
    ) -> Hypotheses:
        """Searches for a batch of lines in the shape (rows, source length, prefix length)."""
        rows, length, prefix_length = shape
        padded = np.pad(members, (0, rows - len(members)), constant_values=-1)
        limits, seeds = np.zeros(rows, np.int32), np.zeros(rows, np.uint32)
        limits[: len(members)] = np.maximum(
            self.max_lengths(sources.lengths[members], decode), forced.lengths[members] + 1
        )
        seeds[: len(members)] = [_seed(self.seed, sources.ids[slice(*sources.offsets[i : i + 2])]) for i in members]
        request = DecodeRequest(
            max_lengths=limits,
            prefix=pad(forced, padded, prefix_length, self._target.special).ids,
            seeds=seeds,
            unscored_prefix=np.full(rows, len(self._target.prefix_ids), np.int32),
            forced_eos=np.full(rows, decode.forced_eos),
        )
        batch = self.layout.shard_replicated_batch((pad(sources, padded, length, self._source.special), request))
        return self.layout.fetch(self._compiled_search(shape, decode)(self.params, batch))

    def _compiled_search(self, shape: tuple[int, int, int], decode: DecodeConfig) -> Callable[..., Hypotheses]:
        search = make_search(decode, self._target)
        if (shape, decode, search) not in self._compiled:
            _, length, prefix_length = shape
            longest = max(int(self.max_lengths(np.array([length]), decode)[0]), prefix_length + 1)
            run = jax.jit(partial(search_batch, self.module_of(decode), search, longest, self._target.special))
            self._compiled[shape, decode, search] = LoggedJit(run, f"{decode.method} search")
        return self._compiled[shape, decode, search]

    def _predictions(self, hypotheses: Hypotheses, row: int, decode: DecodeConfig) -> list[Prediction]:
        found = [
            Prediction(self._target.decode(ids), float(score), tuple(ids[:length].tolist()))
            for ids, score, length in zip(*(field[row] for field in hypotheses), strict=True)
            if length > 0
        ]
        if not found:  # no candidate is better than NaN
            return [Prediction("", float("nan"))]
        if decode.method == "mbr":
            by_text = {prediction.text: prediction for prediction in found}
            ranked = by_expected_utility([prediction.text for prediction in found], UTILITIES[decode.utility])
            found = [by_text[text]._replace(score=utility) for text, utility in ranked]
        return found[: decode.n_best]


def batches_by_shape(
    indices: np.ndarray, shapes: np.ndarray, lengths: np.ndarray, rows: int
) -> Iterator[tuple[np.ndarray, tuple[int, ...]]]:
    """Batches of at most ``rows`` examples of one padded shape, sorted by length so that they finish together.

    Yields the indices of a batch and its shape; ``shapes`` [n, k] and ``lengths`` [n] are those of all examples.
    """
    for shape in np.unique(shapes[indices], axis=0):
        members = indices[(shapes[indices] == shape).all(axis=1)]
        members = members[np.argsort(lengths[members], kind="stable")]
        for start in range(0, len(members), rows):
            yield members[start : start + rows], tuple(shape.tolist())


def _prefix_buckets(lengths: np.ndarray) -> np.ndarray:
    """Padded lengths of prefixes: 0 for none, otherwise powers of two."""
    return np.where(lengths > 0, 2 ** np.ceil(np.log2(np.maximum(lengths, 1))).astype(int), 0)


def _seed(seed: int, ids: np.ndarray) -> int:
    """A hash of 32 bits of a seed and a line's tokens."""
    digest = hashlib.blake2b(f"{seed} ".encode() + ids.astype("<i4").tobytes(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def search_batch(
    module: nn.Module,
    search: Search,
    max_length: int,
    special: SpecialIds,
    params: Any,
    batch: tuple[Tokens, DecodeRequest],
) -> Hypotheses:
    """Encodes sources and searches for their targets by the request: one program for the device."""
    source, request = batch
    apply = partial(module.apply, {"params": params})
    encoded: Any = apply(source, train=False, method="encode")
    cache: Any = apply(encoded, search.beam_size, max_length, method="init_cache")
    step: Any = partial(apply, method="step")
    return search(step, cache, encoded, request, max_length, special)
