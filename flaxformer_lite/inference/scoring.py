"""Teacher-forced scoring: log-probabilities of given targets, attention weights and logits."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from flaxformer_lite.config.dataclasses import DecodeConfig
from flaxformer_lite.data.batching import make_batch, tokenize
from flaxformer_lite.data.buckets import pad_to_power_of_two
from flaxformer_lite.data.ragged import Pairs, Ragged, to_ragged
from flaxformer_lite.errors import InputError, require
from flaxformer_lite.inference.predict import Predictor, batches_by_shape
from flaxformer_lite.system.compile_log import LoggedJit
from flaxformer_lite.types import Batch

logger = logging.getLogger(__name__)


class ScoredTarget(NamedTuple):
    """A target of a source, with its score.

    Attributes:
      source_tokens: the source tokens as the vocabulary writes them, the end token last.
      tokens: the target tokens in the same way.
      log_probs: log-probability of each token given the source and the tokens before it, in nats; 0 for the tokens of
        ``Vocabulary.prefix_ids``.
      attention: attention weights of each token over the source tokens; width 0 for a model without attention.
    """

    source_tokens: list[str]
    tokens: list[str]
    log_probs: Float[np.ndarray, " t"]
    attention: Float[np.ndarray, "t _"]

    @property
    def log_prob(self) -> float:
        """Log-probability of the whole target, not normalized by length."""
        return float(self.log_probs.sum(dtype=np.float64))


class Scorer:
    """Scores targets with a trained model; its compiled programs serve all calls.

    Args:
      decode: how the members of an ensemble are averaged, and the number of rows of a batch.
    """

    def __init__(self, predictor: Predictor, decode: DecodeConfig):
        self._predictor = predictor
        self._rows = predictor.layout.round_up_rows(decode.batch_size)
        module = predictor.module_of(decode)
        self._log_probs = LoggedJit(jax.jit(partial(_log_probs_and_attention, module)), "scoring")
        self._logits = LoggedJit(jax.jit(partial(_logits, module)), "logits")

    def score(self, sources: Sequence[str], targets: Sequence[str]) -> list[ScoredTarget]:
        """Scores ``targets[i]``, closed by the end token, as the target of ``sources[i]``.

        Tokens that are not in the vocabulary are scored as the unknown token, with a message.

        Raises:
          InputError: the numbers of both differ, or one has more tokens than the model supports.
        """
        tokens = self._tokenize(sources, targets)
        if num_unknown := int((tokens[1].ids == self._predictor.vocabularies[1].special.unknown).sum()):
            logger.warning(
                f"{num_unknown} tokens of the targets are not in the vocabulary: scored as the unknown token"
            )
        return self._score_rows(*tokens)

    def score_ids(self, sources: Sequence[str], targets: Sequence[Sequence[int]]) -> list[ScoredTarget]:
        """Scores target ids of a search, with sources truncated as in the search.

        A target that reached its limit is scored without an end token.
        """
        tokens = tokenize(self._predictor.vocabularies[0], sources)
        return self._score_rows(self._predictor.truncate(tokens), to_ragged(targets))

    def logits(self, sources: Sequence[str], targets: Sequence[str]) -> list[Float[np.ndarray, "t v"]]:
        """Teacher-forced logits: row j of ``[i]`` belongs to token j of ``targets[i]``, the end token included.

        Raises:
          InputError: the numbers of both differ, or one has more tokens than the model supports.
        """
        tokens = self._tokenize(sources, targets)
        size = self._predictor.vocabularies[1].size  # there may be more logits: embeddings are padded
        found: dict[int, np.ndarray] = {}
        for members, batch in self._batches(*tokens):
            logits = self._run(self._logits, batch)
            found |= {int(i): logits[row, : tokens[1].lengths[i], :size] for row, i in enumerate(members)}
        return [found[index] for index in range(len(sources))]

    def _score_rows(self, sources: Ragged, targets: Ragged) -> list[ScoredTarget]:
        source, target = self._predictor.vocabularies
        found: dict[int, ScoredTarget] = {}
        for members, batch in self._batches(sources, targets):
            log_probs, attention = self._run(self._log_probs, batch)
            log_probs = np.where(np.arange(log_probs.shape[1]) < len(target.prefix_ids), np.float32(0), log_probs)
            for row, index in enumerate(members):
                s, t = int(sources.lengths[index]), int(targets.lengths[index])
                found[int(index)] = ScoredTarget(
                    [source.token(int(i)) for i in np.asarray(batch.source.ids)[row, :s]],
                    [target.token(int(i)) for i in np.asarray(batch.labels)[row, :t]],
                    log_probs[row, :t],
                    attention[row, :t, :s],
                )
        return [found[index] for index in range(len(sources.lengths))]

    def _batches(self, sources: Ragged, targets: Ragged) -> Iterator[tuple[np.ndarray, Batch]]:
        most, special = self._predictor.max_supported_length, self._predictor.vocabularies[1].special
        shapes = np.stack([pad_to_power_of_two(side.lengths, most) for side in (sources, targets)], axis=1)
        for members, (s, t) in batches_by_shape(np.arange(len(shapes)), shapes, sources.lengths, self._rows):
            padded = np.pad(members, (0, self._rows - len(members)), constant_values=-1)
            pairs = Pairs(sources, targets).take(padded)
            yield members, make_batch(pairs, np.ones(self._rows, np.int64), (s, t), special)

    def _run(self, program: Any, batch: Batch) -> Any:
        layout = self._predictor.layout
        return layout.fetch(program(self._predictor.params, layout.shard_replicated_batch(batch)))

    def _tokenize(self, sources: Sequence[str], targets: Sequence[str]) -> tuple[Ragged, Ragged]:
        require(
            len(sources) == len(targets),
            f"{len(sources)} sources and {len(targets)} targets",
            "the numbers differ",
            "give one target for each source",
        )
        source, target = self._predictor.vocabularies
        tokens = tokenize(source, sources), tokenize(target, targets)
        most = self._predictor.max_supported_length
        for side, rows in zip(("source", "target"), tokens, strict=True):
            if rows.lengths.max(initial=0) > most:
                longest = int(rows.lengths.argmax())
                raise InputError(
                    f"{side} {longest + 1}",
                    f"has {rows.lengths[longest]} tokens; this model's learned positions support {most}",
                    "leave it out, or truncate it",
                )
        return tokens


def _logits(module: nn.Module, params: Any, batch: Batch) -> Float[Array, "b t v"]:
    apply = partial(module.apply, {"params": params})
    encoded: Any = apply(batch.source, train=False, method="encode")
    logits: Any = apply(batch.target_in, encoded, train=False, method="decode")
    return logits


def _log_probs_and_attention(
    module: nn.Module, params: Any, batch: Batch
) -> tuple[Float[Array, "b t"], Float[Array, "b t _"]]:
    """Log-probabilities of the labels in float32, and attention weights."""
    apply = partial(module.apply, {"params": params})
    encoded: Any = apply(batch.source, train=False, method="encode")
    logits: Any = apply(batch.target_in, encoded, train=False, method="decode")
    attention: Any = apply(batch.target_in, encoded, method="attention")
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    return jnp.take_along_axis(log_probs, batch.labels[..., None], axis=-1)[..., 0], attention
