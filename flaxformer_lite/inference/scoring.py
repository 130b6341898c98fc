"""How likely given targets are, token by token, and where in the source each token was read."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from flaxformer_lite.config.dataclasses import DecodeConfig
from flaxformer_lite.data.buckets import pad_to_power_of_two
from flaxformer_lite.data.features import Ragged, make_batch, to_ragged, tokenize
from flaxformer_lite.data.vocabularies.base import Vocabulary
from flaxformer_lite.errors import InputError
from flaxformer_lite.inference.predict import Predictor
from flaxformer_lite.system.compile_log import LoggedJit
from flaxformer_lite.types import Batch

logger = logging.getLogger(__name__)


class Scored(NamedTuple):
    """A target of a source.

    Attributes:
      source_tokens: the source as its vocabulary writes it, the end token last.
      tokens: the target in the same way.
      log_probs: of each token, given the source and those before it, in nats; 0 of those that open every target.
      attention: for each token the share of each source token; nothing for a model without attention.
    """

    source_tokens: list[str]
    tokens: list[str]
    log_probs: Float[np.ndarray, " t"]
    attention: Float[np.ndarray, "t _"]

    @property
    def log_prob(self) -> float:
        """The whole target's log-probability, with nothing normalized."""
        return float(self.log_probs.sum(dtype=np.float64))


class Scorer:
    """Scores targets with a trained model; its compiled programs serve all calls.

    Args:
      predictor: the model.
      decode: how the members of an ensemble are averaged, and how many rows are read together.
    """

    def __init__(self, predictor: Predictor, decode: DecodeConfig):
        self._predictor = predictor
        self._rows = predictor.layout.round_up_rows(decode.batch_size)
        self._run = LoggedJit(jax.jit(partial(_read, predictor.model_of(decode))), "scoring")

    def texts(self, sources: Sequence[str], targets: Sequence[str]) -> list[Scored]:
        """Scores ``targets[i]``, closed by the end token, as the target of ``sources[i]``.

        Says how many targets have what the vocabulary does not know; that is scored as the unknown token.

        Raises:
          InputError: there are not as many of both, or one has more tokens than learned positions reach to.
        """
        if len(sources) != len(targets):
            raise InputError(f"{len(sources)} sources and {len(targets)} targets: give one target for each source")
        source, target = self._predictor.vocabularies
        tokens = tokenize(source, sources), tokenize(target, targets)
        for side, these in zip(("source", "target"), tokens, strict=True):
            self._check_reach(side, these)
        if unknown := int((tokens[1].ids == target.special.unknown).sum()):
            logger.info(f"{unknown} tokens of the targets are not in the vocabulary and scored as the unknown token")
        return self._score_all(*tokens)

    def hypotheses(self, sources: Sequence[str], targets: Sequence[Sequence[int]]) -> list[Scored]:
        """The same of target tokens as a search gives them, for the sources as it reads them.

        A target that was cut at its limit is scored without an end token.
        """
        return self._score_all(
            self._predictor.fit(tokenize(self._predictor.vocabularies[0], sources)), to_ragged(targets)
        )

    def _score_all(self, sources: Ragged, targets: Ragged) -> list[Scored]:
        shapes = np.stack(
            [pad_to_power_of_two(side.lengths, self._predictor.reach) for side in (sources, targets)], axis=1
        )
        found: dict[int, Scored] = {}
        for shape in np.unique(shapes, axis=0):
            members = np.flatnonzero((shapes == shape).all(axis=1))
            for start in range(0, len(members), self._rows):
                chosen = members[start : start + self._rows]
                found |= self._score(sources, targets, chosen, (int(shape[0]), int(shape[1])))
        return [found[index] for index in range(len(sources.lengths))]

    def _score(self, sources: Ragged, targets: Ragged, chosen: np.ndarray, shape: tuple[int, int]) -> dict[int, Scored]:
        filled = np.pad(chosen, (0, self._rows - len(chosen)), constant_values=-1)
        batch = make_batch(sources, targets, filled, shape, self._predictor.vocabularies[1].special)
        layout = self._predictor.layout
        log_probs, attention = layout.fetch(self._run(self._predictor.params, layout.shard_replicated_batch(batch)))
        source, target = self._predictor.vocabularies
        log_probs = np.where(np.arange(shape[1]) < len(target.prefix_ids), np.float32(0), log_probs)
        found = {}
        for row, index in enumerate(chosen):
            s, t = int(sources.lengths[index]), int(targets.lengths[index])
            found[int(index)] = Scored(
                _tokens(source, np.asarray(batch.source.ids)[row, :s]),
                _tokens(target, np.asarray(batch.labels)[row, :t]),
                log_probs[row, :t],
                attention[row, :t, :s],
            )
        return found

    def _check_reach(self, side: str, texts: Ragged) -> None:
        if texts.lengths.max(initial=0) > self._predictor.reach:
            worst = int(texts.lengths.argmax())
            raise InputError(
                f"{side} {worst + 1} has {texts.lengths[worst]} tokens, and this model's learned positions reach to "
                f"{self._predictor.reach}: leave it out, or cut it"
            )


def _tokens(vocabulary: Vocabulary, ids: np.ndarray) -> list[str]:
    return [vocabulary.token(int(i)) for i in ids]


def _read(model: nn.Module, params: Any, batch: Batch) -> tuple[Float[Array, "b t"], Float[Array, "b t _"]]:
    """The labels' log-probabilities in float32, and the attention."""
    apply = partial(model.apply, {"params": params})
    encoded: Any = apply(batch.source, train=False, method="encode")
    logits: Any = apply(batch.target_in, encoded, train=False, method="decode")
    attention: Any = apply(batch.target_in, encoded, method="attention")
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    return jnp.take_along_axis(log_probs, batch.labels[..., None], axis=-1)[..., 0], attention
