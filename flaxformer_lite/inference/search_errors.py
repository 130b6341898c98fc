"""What beam search misses: its hypotheses against the likeliest targets there are."""

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
from flaxformer_lite.data.buckets import pad_to_power_of_two
from flaxformer_lite.data.features import pad, tokenize
from flaxformer_lite.decoding.base import next_log_probs
from flaxformer_lite.decoding.exact import Exact, exact_search
from flaxformer_lite.inference.predict import Prediction, Predictor
from flaxformer_lite.system.compile_log import LoggedJit
from flaxformer_lite.types import SpecialIds, Tokens

_ROWS = 64  # beginnings read together
_SLACK = 1e-4  # nats by which the same target's log-probability differs between step by step and all at once


class Comparison(NamedTuple):
    """One source's search.

    Attributes:
      source: the line.
      found: what beam search with no length penalty said; its score is log P(Y|X).
      exact: the likeliest target. Both without the tokens that open every target.
      text: of it.
    """

    source: str
    found: Prediction
    exact: Exact
    text: str

    @property
    def missed(self) -> bool:
        """Whether there is a likelier target than the one that was found."""
        return self.exact.ids != self.found.ids and self.exact.log_prob > self.found.score + _SLACK

    @property
    def empty(self) -> bool:
        """Whether the likeliest target says nothing."""
        return len(self.exact.ids) == 1


def compare(predictor: Predictor, lines: Sequence[str], decode: DecodeConfig, budget: int) -> Iterator[Comparison]:
    """Searches each line by beam and exactly, under log P(Y|X) with no length penalty (Stahlberg & Byrne 2019).

    Args:
      predictor: the model.
      lines: sources, none of them blank.
      decode: the size of the beam, the limits of length, and how the members of an ensemble are averaged.
      budget: beginnings that may be read for one line; beyond it the result is not proven.
    """
    source, target = predictor.vocabularies
    run = LoggedJit(jax.jit(partial(_read, predictor.model_of(decode), target.special)), "exact search")
    opening = target.prefix_ids
    for line, (found, *_) in zip(lines, predictor.n_best(lines, _plain(decode)), strict=True):
        tokens = predictor.fit(tokenize(source, [line]))
        row = pad(tokens, np.array([0]), int(pad_to_power_of_two(tokens.lengths, predictor.reach)[0]), source.special)
        predict = partial(_predict, partial(run, predictor.params), row, (target.special.begin, *opening))
        limit = int(predictor.limits(tokens.lengths, decode)[0]) - len(opening)
        found = found._replace(ids=found.ids[len(opening) :])
        exact = exact_search(predict, (found.ids, found.score), limit, target.special, _ROWS, budget)
        yield Comparison(line, found, exact, target.decode(exact.ids))


def summarize(comparisons: Sequence[Comparison]) -> dict[str, float]:
    """Percentages of the lines, and the mean number of beginnings read for one."""
    return {
        "search_errors": 100 * float(np.mean([c.missed for c in comparisons])),
        "empty_is_best": 100 * float(np.mean([c.empty for c in comparisons])),
        "proven": 100 * float(np.mean([c.exact.proven for c in comparisons])),
        "read": float(np.mean([c.exact.read for c in comparisons])),
    }


def _plain(decode: DecodeConfig) -> DecodeConfig:
    """Beam search under log P(Y|X) and nothing else, which is what exact search goes by."""
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
        end_tokens=(),
        renormalize_logits=False,
        forced_bos=True,
        forced_eos=False,
        n_best=1,
    )


def _predict(
    run: Any, source: Tokens, opening: tuple[int, ...], beginnings: Sequence[tuple[int, ...]]
) -> Float[np.ndarray, "n v"]:
    read = [(*opening, *beginning) for beginning in beginnings]
    length = 8 * -(-max(map(len, read)) // 8)  # so that few shapes are compiled
    ids = np.full((_ROWS, length), opening[0], np.int32)
    for row, these in zip(ids, read, strict=False):
        row[: len(these)] = these
    last = np.zeros(_ROWS, np.int32)
    last[: len(read)] = [len(these) - 1 for these in read]
    return jax.device_get(run((source, ids, last)))[: len(beginnings)]


def _read(
    model: nn.Module, special: SpecialIds, params: Any, batch: tuple[Tokens, Int[Array, "n t"], Int[Array, " n"]]
) -> Float[Array, "n v"]:
    """The log-probabilities of what follows place ``last`` of each row, all of one source."""
    source, ids, last = batch
    apply = partial(model.apply, {"params": params})
    encoded = apply(source, train=False, method="encode")
    encoded = jax.tree.map(lambda x: jnp.repeat(x, ids.shape[0], axis=0), encoded)
    places = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
    target = Tokens(ids, (places <= last[:, None]).astype(jnp.int32), places)
    logits: Any = apply(target, encoded, train=False, method="decode")
    here = jnp.take_along_axis(logits, last[:, None, None], axis=1)
    return next_log_probs(here, jnp.zeros(ids.shape[0], bool), special)[:, 0]
