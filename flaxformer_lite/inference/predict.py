"""From lines of text to hypotheses: tokenize, bucket, search on the device, detokenize."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from flaxformer_lite.checkpoints.restoring import restore_params
from flaxformer_lite.checkpoints.work_dir import WorkDir
from flaxformer_lite.config.dataclasses import Config, DecodeConfig, MeshConfig
from flaxformer_lite.data.buckets import pad_to_power_of_two
from flaxformer_lite.data.features import Ragged, pad, to_ragged, tokenize, truncate
from flaxformer_lite.data.vocabularies.base import Vocabulary
from flaxformer_lite.decoding.base import Query, Search
from flaxformer_lite.decoding.mbr import by_expected_utility
from flaxformer_lite.errors import InputError
from flaxformer_lite.inference.search_from_config import make_search
from flaxformer_lite.metrics.compute import UTILITIES
from flaxformer_lite.models.encoder_decoder import make_decoding_model
from flaxformer_lite.models.ensemble import Ensemble, mean_of_log_probabilities, mean_of_probabilities
from flaxformer_lite.sharding.mesh import MeshLayout
from flaxformer_lite.system.compile_log import LoggedJit
from flaxformer_lite.train_step.state import param_shapes
from flaxformer_lite.types import Hypotheses, SpecialIds, Tokens

logger = logging.getLogger(__name__)

_USUAL_BEAMS = 5  # hypotheses a line with which a batch has as many lines as the config says
_MEANS = {"probability": mean_of_probabilities, "log_probability": mean_of_log_probabilities}


class Prediction(NamedTuple):
    """One hypothesis of a line.

    Attributes:
      text: what it says.
      score: by what it was ranked, as the search says; for ``mbr`` the expected utility, 0 to 100.
      ids: the tokens that it is made of, the end token included where it was reached.
    """

    text: str
    score: float
    ids: tuple[int, ...] = ()


class Predictor:
    """A trained model with its vocabularies, or several as an ensemble.

    Args:
      config: of the run that it comes from.
      vocabularies: of sources and of targets.
      params: the parameter tree; of an ensemble, those of the members under ``members_0``, ``members_1``, …
      step: of the checkpoint.
      layout: where its arrays live.
      others: configs of the other members of an ensemble.

    Attributes:
      params, config, step, vocabularies, layout: as above; config and step are those of an ensemble's first member.
      reach: the most tokens that a source or target may have.
      seed: of sampling, beside the line: the run's own unless set.
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
        self.reach = min(member.max_supported_length for member in self._members)
        self.layout = layout
        self.seed = config.seed
        self._compiled: dict[Any, Callable[..., Hypotheses]] = {}

    def model_of(self, decode: DecodeConfig) -> nn.Module:
        """The Linen module that ``params`` belong to; several models' mean is the one that ``decode`` names."""
        return self._members[0] if len(self._members) == 1 else Ensemble(self._members, _MEANS[decode.ensemble])

    def decode(self, lines: Sequence[str], decode: DecodeConfig | None = None) -> list[str]:
        """The best hypothesis of each line, in the lines' order."""
        return [predictions[0].text for predictions in self.n_best(lines, decode)]

    def n_best(
        self, lines: Sequence[str], decode: DecodeConfig | None = None, prefixes: Sequence[str] = ()
    ) -> list[list[Prediction]]:
        """The best ``n_best`` hypotheses of each line, best first; an empty line has one, which is empty.

        What a line becomes depends on that line (and its prefix) alone: it is searched in the shape of its own length's
        bucket, with the limit that its own length gives, and what is sampled is a function of its tokens.

        Args:
          lines: the sources.
          decode: how to search; as the config says unless given.
          prefixes: for each line what the output must begin with, which counts in its length and score.

        Raises:
          InputError: a prefix cannot be said, or there is not one for each line.
        """
        decode = decode or self.config.decode
        found = [[Prediction("", 0.0)] for _ in lines]
        sources = self.fit(tokenize(self._source, lines))
        begun = self.tokenize_prefixes(prefixes or [""] * len(lines), decode.forced_bos)
        if len(begun.lengths) != len(lines):
            raise InputError(f"{len(prefixes)} prefixes for {len(lines)} lines: give one for each, blank for none")
        spoken = np.array([bool(line.strip()) for line in lines], bool)
        rows = self.rows(decode)
        shapes = np.stack([pad_to_power_of_two(sources.lengths, self.reach), _prefix_buckets(begun.lengths)], axis=1)
        for shape in np.unique(shapes[spoken], axis=0):
            members = np.flatnonzero(spoken & (shapes == shape).all(axis=1))
            members = members[np.argsort(sources.lengths[members], kind="stable")]  # batches that end together
            for start in range(0, len(members), rows):
                batch = members[start : start + rows]
                hypotheses = self._search(sources, begun, batch, (rows, *shape.tolist()), decode)
                for row, index in enumerate(batch):
                    found[index] = self._predictions(hypotheses, row, decode)
        return found

    def tokens(self, prediction: Prediction) -> list[str]:
        """A hypothesis as the target vocabulary writes each of its tokens, without the end token."""
        return [self._target.token(i) for i in prediction.ids if i != self._target.special.end]

    def fit(self, sources: Ragged) -> Ragged:
        """Cuts what reaches beyond learned positions, and says so."""
        too_long = sources.lengths > self.reach
        if not too_long.any():
            return sources
        logger.info(f"{too_long.sum()} lines have more than the {self.reach} tokens that this model's learned "
            f"positions reach to; the rest of them is not read")  # fmt: skip
        return truncate(sources, int(self.reach))

    def tokenize_prefixes(self, prefixes: Sequence[str], opened: bool = True) -> Ragged:
        """The tokens of prefixes; without an end.

        Args:
          prefixes: what outputs shall begin with.
          opened: whether also with what opens every text of the target vocabulary; before a prefix it comes anyway.

        Raises:
          InputError: one cannot be said.
        """
        said = [self._target.encode(prefix) if prefix.strip() else [] for prefix in prefixes]
        for number, (prefix, ids) in enumerate(zip(prefixes, said, strict=True), start=1):
            if self._target.special.unknown in ids:
                raise InputError(f"prefix {number}, {prefix!r}, has what the model cannot say: not in its vocabulary")
            if len(self._target.prefix_ids) + len(ids) >= self.reach:
                raise InputError(
                    f"prefix {number} has {len(ids)} tokens; this model's learned positions reach to {self.reach}"
                )
        return to_ragged([[*self._target.prefix_ids * (opened or bool(ids)), *ids] for ids in said])

    def rows(self, decode: DecodeConfig) -> int:
        """Lines searched together, on each device as many.

        Each sample's attention reads the keys of all samples of its line under a mask; so with many samples there are
        fewer lines, that memory stays what ordinary beams take.
        """
        lines = decode.batch_size
        if decode.method in ("sample", "mbr"):
            lines = min(lines, max(lines * _USUAL_BEAMS // decode.num_samples, 1))
        return self.layout.round_up_rows(lines)

    def _search(
        self, sources: Ragged, begun: Ragged, batch: np.ndarray, shape: tuple[int, int, int], decode: DecodeConfig
    ) -> Hypotheses:
        """Searches for the lines of a batch in the shape (rows, source length, prefix length)."""
        rows, length, prefix_length = shape
        filled = np.pad(batch, (0, rows - len(batch)), constant_values=-1)
        limits, seeds = np.zeros(rows, np.int32), np.zeros(rows, np.uint32)
        limits[: len(batch)] = np.maximum(self.limits(sources.lengths[batch], decode), begun.lengths[batch] + 1)
        seeds[: len(batch)] = [_seed(self.seed, sources.ids[slice(*sources.offsets[i : i + 2])]) for i in batch]
        prefix = pad(begun, filled, prefix_length, self._target.special).ids
        free, free_end = np.full(rows, len(self._target.prefix_ids), np.int32), np.full(rows, decode.forced_eos)
        query = Query(limits, prefix, seeds, free, free_end)
        arguments = self.layout.shard_replicated_batch((pad(sources, filled, length, self._source.special), query))
        return self.layout.fetch(self._searcher(shape, decode)(self.params, arguments))

    def limits(self, lengths: np.ndarray, decode: DecodeConfig) -> np.ndarray:
        """The most tokens that are said to sources of these lengths, the end token included."""
        limits = np.ceil(decode.max_length_ratio * lengths).astype(int) + decode.max_length_offset
        return np.minimum(limits, self.reach).astype(int)

    def _searcher(self, shape: tuple[int, int, int], decode: DecodeConfig) -> Callable[..., Hypotheses]:
        """The compiled search of one shape, compiled when first asked for."""
        search = make_search(decode, self._target)
        if (shape, decode, search) not in self._compiled:
            _, length, prefix_length = shape
            longest = max(int(self.limits(np.array([length]), decode)[0]), prefix_length + 1)
            run = jax.jit(partial(search_batch, self.model_of(decode), search, longest, self._target.special))
            self._compiled[shape, decode, search] = LoggedJit(run, f"{decode.method} search")
        return self._compiled[shape, decode, search]

    def _predictions(self, hypotheses: Hypotheses, row: int, decode: DecodeConfig) -> list[Prediction]:
        found = [
            Prediction(self._target.decode(ids), float(score), tuple(ids[:length].tolist()))
            for ids, score, length in zip(*(field[row] for field in hypotheses), strict=True)
            if length > 0
        ]
        if decode.method == "mbr":
            by_text = {prediction.text: prediction for prediction in found}
            ranked = by_expected_utility([prediction.text for prediction in found], UTILITIES[decode.utility])
            found = [by_text[text]._replace(score=utility) for text, utility in ranked]
        return found[: decode.n_best]


def _prefix_buckets(lengths: np.ndarray) -> np.ndarray:
    """0 for no prefix, otherwise powers of two."""
    return np.where(lengths > 0, 2 ** np.ceil(np.log2(np.maximum(lengths, 1))).astype(int), 0)


def _seed(seed: int, ids: np.ndarray) -> int:
    """A number of 32 bits made of a seed and a line's tokens."""
    digest = hashlib.blake2b(f"{seed} ".encode() + ids.astype("<i4").tobytes(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def search_batch(
    model: nn.Module,
    search: Search,
    max_length: int,
    special: SpecialIds,
    params: Any,
    batch: tuple[Tokens, Query],
) -> Hypotheses:
    """Encodes sources and searches for their targets, as ``batch[1]`` asks: one program for the device."""
    source, query = batch
    apply = partial(model.apply, {"params": params})
    encoded: Any = apply(source, train=False, method="encode")
    cache: Any = apply(encoded, search.beam_size, max_length, method="init_cache")
    step: Any = partial(apply, method="step")
    return search(step, cache, encoded, query, max_length, special)


def load(workdir: str | Path | Sequence[str | Path], step: str | int = "best") -> Predictor:
    """A trained model from its work folder alone, or several models as an ensemble.

    Args:
      workdir: the folder that training was given, or several; their architectures may differ, not their vocabularies.
      step: which checkpoint, of each: ``best``, ``latest``, its step, or ``average``.

    Raises:
      InputError: there is no such checkpoint, or the vocabularies differ.
    """
    folders = [WorkDir(path) for path in ([workdir] if isinstance(workdir, str | Path) else workdir)]
    configs = [folder.config() for folder in folders]
    vocabularies = _common_vocabularies(folders)
    layout = MeshLayout(MeshConfig(data=-1, fsdp=1, tensor=1))
    found = []
    for folder, config in zip(folders, configs, strict=True):
        model = make_decoding_model(config, *(vocabulary.size for vocabulary in vocabularies))
        shapes = layout.replicated_shapes(param_shapes(model, config.precision.param_dtype))
        found.append(restore_params(folder.checkpoints, step, config.eval.best_metric, shapes))
    steps, params = zip(*found, strict=True)
    whole = params[0] if len(params) == 1 else {f"members_{i}": member for i, member in enumerate(params)}
    return Predictor(configs[0], vocabularies, whole, steps[0], layout, configs[1:])


def _common_vocabularies(folders: Sequence[WorkDir]) -> tuple[Vocabulary, Vocabulary]:
    first, *others = folders
    vocabularies = first.vocabularies()
    for other in others:
        for side, ours, theirs in zip(("source", "target"), vocabularies, other.vocabularies(), strict=True):
            if ours.to_json() != theirs.to_json():
                raise InputError(
                    f"{first.path} and {other.path} cannot be one ensemble: their {side} vocabularies differ (of "
                    f"{ours.size:,} and {theirs.size:,} entries); train the models on the same text"
                )
    return vocabularies
