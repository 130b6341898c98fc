"""Search errors of beam search: its hypotheses compared with exact search (Stahlberg & Byrne 2019)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from flaxformer_lite.config.dataclasses import DecodeConfig
from flaxformer_lite.data.batching import pad, tokenize
from flaxformer_lite.data.buckets import pad_to_power_of_two
from flaxformer_lite.decoding.base import next_log_probs
from flaxformer_lite.decoding.exact import ExactResult, exact_search
from flaxformer_lite.inference.predict import Prediction, Predictor
from flaxformer_lite.system.compile_log import LoggedJit
from flaxformer_lite.types import SpecialIds, Tokens

_ROWS = 64  # partial targets that are scored together
_TOLERANCE = 1e-4  # nats by which incremental and teacher-forced log-probabilities of one target differ


class SearchComparison(NamedTuple):
    """Results of beam search and of exact search for one source. Ids are without ``Vocabulary.prefix_ids``.

    Attributes:
      source: the source line.
      found: result of beam search without a length penalty; its score is log P(Y|X).
      exact: the most likely target.
      text: text of ``exact``.
    """

    source: str
    found: Prediction
    exact: ExactResult
    text: str

    @property
    def is_error(self) -> bool:
        """Whether there is a more likely target than the one that beam search found."""
        return self.exact.ids != self.found.ids and self.exact.log_prob > self.found.score + _TOLERANCE

    @property
    def is_empty(self) -> bool:
        """Whether the most likely target is empty."""
        return len(self.exact.ids) == 1


def compare_searches(
    predictor: Predictor, lines: Sequence[str], decode: DecodeConfig, budget: int
) -> Iterator[SearchComparison]:
    """Beam search and exact search of each line, none of them blank, by log P(Y|X) without a length penalty.

    ``budget`` is the largest number of partial targets to score for one line; beyond it the result is not proven.
    """
    source, target = predictor.vocabularies
    run = LoggedJit(jax.jit(partial(_last_log_probs, predictor.module_of(decode), target.special)), "exact search")
    prefix = target.prefix_ids
    for line, (found, *_) in zip(lines, predictor.n_best(lines, _by_log_prob(decode)), strict=True):
        tokens = predictor.truncate(tokenize(source, [line]))
        row = pad(
            tokens,
            np.array([0]),
            int(pad_to_power_of_two(tokens.lengths, predictor.max_supported_length)[0]),
            source.special,
        )
        predict = partial(_predict, partial(run, predictor.params), row, (target.special.begin, *prefix))
        limit = int(predictor.max_lengths(tokens.lengths, decode)[0]) - len(prefix)
        found = found._replace(ids=found.ids[len(prefix) :])
        exact = exact_search(predict, (found.ids, found.score), limit, target.special, _ROWS, budget)
        yield SearchComparison(line, found, exact, target.decode(exact.ids))


def summarize(comparisons: Sequence[SearchComparison]) -> dict[str, float]:
    """Percentages of the lines, and the mean number of partial targets scored per line."""
    return {
        "search_errors": 100 * float(np.mean([c.is_error for c in comparisons])),
        "empty_is_best": 100 * float(np.mean([c.is_empty for c in comparisons])),
        "proven": 100 * float(np.mean([c.exact.proven for c in comparisons])),
        "expanded": float(np.mean([c.exact.expanded for c in comparisons])),
    }


def _by_log_prob(decode: DecodeConfig) -> DecodeConfig:
    """Beam search by log P(Y|X) alone, as exact search."""
    return dataclasses.replace(
        decode,
        method="beam",
        beam_variant="google",
        length_penalty=0.0,
        early_stopping="false",
        num_beam_groups=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        min_length=0,
        suppress_tokens=(),
        logits_processors=(),
        end_tokens=(),
        renormalize_logits=False,
        forced_bos=True,
        forced_eos=False,
        n_best=1,
    )


def _predict(
    run: Any, source: Tokens, prefix: tuple[int, ...], partial_targets: Sequence[tuple[int, ...]]
) -> Float[np.ndarray, "n v"]:
    inputs = [(*prefix, *ids) for ids in partial_targets]
    length = 8 * -(-max(map(len, inputs)) // 8)  # a multiple of 8, so that few shapes are compiled
    ids = np.full((_ROWS, length), prefix[0], np.int32)
    for row, row_ids in zip(ids, inputs, strict=False):
        row[: len(row_ids)] = row_ids
    last = np.zeros(_ROWS, np.int32)
    last[: len(inputs)] = [len(row_ids) - 1 for row_ids in inputs]
    return jax.device_get(run((source, ids, last)))[: len(partial_targets)]


def _last_log_probs(
    module: nn.Module, special: SpecialIds, params: Any, batch: tuple[Tokens, Int[Array, "n t"], Int[Array, " n"]]
) -> Float[Array, "n v"]:
    """Log-probabilities of the token after position ``last`` of each row, all of one source."""
    source, ids, last = batch
    apply = partial(module.apply, {"params": params})
    encoded = apply(source, train=False, method="encode")
    encoded = jax.tree.map(lambda x: jnp.repeat(x, ids.shape[0], axis=0), encoded)
    positions = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
    target = Tokens(ids, (positions <= last[:, None]).astype(jnp.int32), positions)
    logits: Any = apply(target, encoded, train=False, method="decode")
    last_logits = jnp.take_along_axis(logits, last[:, None, None], axis=1)
    return next_log_probs(last_logits, jnp.zeros(ids.shape[0], bool), special)[:, 0]
