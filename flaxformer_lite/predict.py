"""From lines of text to hypotheses: tokenise, bucket, search on the device, detokenise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from flaxformer_lite import checkpoint
from flaxformer_lite.announced import Announced
from flaxformer_lite.config import Config, DecodeConfig, MeshConfig
from flaxformer_lite.data.features import Ragged, pad, tokenise, truncate
from flaxformer_lite.data.vocabulary import Vocabulary
from flaxformer_lite.decoding.beam import BeamSearch
from flaxformer_lite.decoding.greedy import Greedy
from flaxformer_lite.decoding.search import Search
from flaxformer_lite.models.build import make_model
from flaxformer_lite.report import say
from flaxformer_lite.sharding import MeshLayout
from flaxformer_lite.train_state import init_params
from flaxformer_lite.types import Hypotheses, SpecialIds, Tokens
from flaxformer_lite.workdir import WorkDir

_SMALLEST_BUCKET = 8  # tokens; buckets double from here, so that a handful of shapes is compiled


class Prediction(NamedTuple):
    """One hypothesis of a line, and by what it was ranked."""

    text: str
    score: float


class Predictor:
    """A trained model with its vocabularies.

    Attributes:
      params: the parameter tree.
      config: of the run that it comes from.
      step: of the checkpoint.
      vocabularies: of sources and of targets.
      model: the Linen module.
      layout: where its arrays live.
    """

    def __init__(
        self, config: Config, vocabularies: tuple[Vocabulary, Vocabulary], params: Any, step: int, layout: MeshLayout
    ):
        self.config = config
        self.params = params
        self.step = step
        self.vocabularies = vocabularies
        self._source, self._target = vocabularies
        self.model = make_model(config, *(vocabulary.size for vocabulary in vocabularies))
        self.layout = layout
        self._compiled: dict[Any, Callable[..., Hypotheses]] = {}

    def decode(self, lines: Sequence[str], decode: DecodeConfig | None = None) -> list[str]:
        """The best hypothesis of each line, in the lines' order."""
        return [predictions[0].text for predictions in self.n_best(lines, decode)]

    def n_best(self, lines: Sequence[str], decode: DecodeConfig | None = None) -> list[list[Prediction]]:
        """The best ``n_best`` hypotheses of each line, best first; an empty line has one, which is empty.

        What a line becomes depends on that line alone: it is searched in the shape of its own length's bucket, with
        the limit that its own length gives.
        """
        decode = decode or self.config.decode
        found = [[Prediction("", 0.0)] for _ in lines]
        sources = self._fit(tokenise(self._source, lines))
        spoken = np.array([bool(line.strip()) for line in lines], bool)
        rows = -(-decode.batch_size // self.layout.shards) * self.layout.shards
        lengths = self._buckets(sources.lengths)
        for length in np.unique(lengths[spoken]):
            members = np.flatnonzero(spoken & (lengths == length))
            members = members[np.argsort(sources.lengths[members], kind="stable")]  # batches that end together
            for start in range(0, len(members), rows):
                batch = members[start : start + rows]
                hypotheses = self._search(sources, batch, int(length), rows, decode)
                for row, index in enumerate(batch):
                    found[index] = self._predictions(hypotheses, row, decode.n_best)
        return found

    def _fit(self, sources: Ragged) -> Ragged:
        """Cuts what reaches beyond learned positions."""
        longest = self.model.max_length
        if self.config.model.positions != "learned" or not (sources.lengths > longest).any():
            return sources
        say(f"{(sources.lengths > longest).sum()} lines have more than the {longest} tokens that this model's learned "
            f"positions reach to; the rest of them is not read")  # fmt: skip
        return truncate(sources, longest)

    def _buckets(self, lengths: np.ndarray) -> np.ndarray:
        buckets = 2 ** np.ceil(np.log2(np.maximum(lengths, _SMALLEST_BUCKET))).astype(int)
        return np.minimum(buckets, self.model.max_length) if self.config.model.positions == "learned" else buckets

    def _search(self, sources: Ragged, batch: np.ndarray, length: int, rows: int, decode: DecodeConfig) -> Hypotheses:
        filled = np.pad(batch, (0, rows - len(batch)), constant_values=-1)
        tokens = pad(sources, filled, length, self._source.special)
        limits = np.zeros(rows, np.int32)
        limits[: len(batch)] = self._limits(sources.lengths[batch], decode)
        arguments = self.layout.put((tokens, limits))
        return jax.device_get(self._searcher(rows, length, decode)(self.params, arguments))

    def _limits(self, lengths: np.ndarray, decode: DecodeConfig) -> np.ndarray:
        limits = np.ceil(decode.max_length_ratio * lengths).astype(int) + decode.max_length_offset
        return np.minimum(limits, self.model.max_length) if self.config.model.positions == "learned" else limits

    def _searcher(self, rows: int, length: int, decode: DecodeConfig) -> Callable[..., Hypotheses]:
        """The compiled search of one shape, compiled when first asked for."""
        shape = (rows, length, decode)
        if shape not in self._compiled:
            search = make_search(decode)
            longest = int(self._limits(np.array([length]), decode)[0])
            run = jax.jit(partial(search_batch, self.model, search, longest, self._target.special))
            self._compiled[shape] = Announced(run, f"{decode.method} search")
        return self._compiled[shape]

    def _predictions(self, hypotheses: Hypotheses, row: int, count: int) -> list[Prediction]:
        return [
            Prediction(self._target.decode(ids), float(score))
            for ids, score, length in list(zip(*(field[row] for field in hypotheses), strict=True))[:count]
            if length > 0
        ]


def make_search(decode: DecodeConfig) -> Search:
    """The search that a config names."""
    return BeamSearch(decode.beam_size, decode.length_penalty) if decode.method == "beam" else Greedy()


def search_batch(
    model: nn.Module,
    search: Search,
    max_length: int,
    special: SpecialIds,
    params: Any,
    batch: tuple[Tokens, jax.Array],
) -> Hypotheses:
    """Encodes sources and searches for their targets, of at most ``batch[1]`` tokens: one program for the device."""
    source, limits = batch
    apply = partial(model.apply, {"params": params})
    encoded: Any = apply(source, train=False, method="encode")
    cache: Any = apply(encoded, search.beam_size, max_length, method="init_cache")
    step: Any = partial(apply, method="step")
    return search(step, cache, encoded, limits, max_length, special)


def load(workdir: str | Path, step: str | int = "best") -> Predictor:
    """A trained model from its work folder alone.

    Args:
      workdir: the folder that training was given.
      step: which checkpoint: ``best``, ``latest`` or its step.

    Raises:
      InputError: there is no such checkpoint.
    """
    folder = WorkDir(workdir)
    config, vocabularies = folder.config(), folder.vocabularies()
    layout = MeshLayout(MeshConfig(data=-1, fsdp=1, tensor=1))
    model = make_model(config, *(vocabulary.size for vocabulary in vocabularies))
    shapes = jax.eval_shape(lambda: nn.meta.unbox(init_params(model, config.seed)))
    found, params = checkpoint.restore_params(
        folder.checkpoints, step, config.eval.best_metric, layout.replicated(shapes)
    )
    return Predictor(config, vocabularies, params, found, layout)
