"""Scoring, finishing and stopping of beam search, as Google, transformers, fairseq and Marian define them.

The same model with "beam 4, length penalty 1" gives different outputs in each of them. Lengths |Y| count the end token;
m is the number of beams of one source, or of one group of its beams:

    ======  ==========================  ==========================  =================================================
    name    score                       beams at the limit          the search stops when
    ======  ==========================  ==========================  =================================================
    google  log P / ((5 + |Y|) / 6)^α   are forced to end           no beam can still enter the best m
    hf      log P / |Y|^α               finish without an end token m have finished, and by early_stopping
    fairseq log P / |Y|^α               are forced to end           m have finished
    marian  log P / |Y|^α               finish without an end token m have finished, each of which took a beam's place
    ======  ==========================  ==========================  =================================================

Only hf is verified against the system itself: tests run both with one model. The others follow papers and source code,
and tests compare them with plain searches written from the same reading.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from flaxformer_lite.decoding.base import NEG_INF


class BeamStatus(NamedTuple):
    """Values by which the search for each source stops.

    Attributes:
      best_alive: the best log-probability of an unfinished beam.
      worst_finished: the lowest score of the best m finished hypotheses; ``NEG_INF`` while there are fewer.
      length: number of tokens of every beam.
      limits: the largest number of tokens.
    """

    best_alive: Float[Array, " b"]
    worst_finished: Float[Array, " b"]
    length: Int[Array, ""]
    limits: Int[Array, " b"]


@dataclass(frozen=True)
class BeamVariant:
    """One system's beam search, as the values in which it differs from the others.

    Attributes:
      alpha: exponent of the length penalty; 0 ranks by log-probability, a higher one favors longer targets.
      gnmt_penalty: whether the penalty's base is (5 + |Y|) / 6 (Wu et al. 2016, equation 14) instead of |Y|.
      forces_end: whether a beam one token before its limit can only end; otherwise a beam at its limit finishes as it
        is, and its score lacks the end token's probability.
      replaces_finished: whether better hypotheses replace worse finished ones; otherwise the first m are the result.
      narrows: whether each finished hypothesis takes the place of a beam.
      bound: once m have finished, the search goes on while the best beam would score better than the worst finished
        hypothesis if it ended with its present log-probability at its present length, or at its limit; with "none" it
        stops.
    """

    alpha: float
    gnmt_penalty: bool = False
    forces_end: bool = False
    replaces_finished: bool = False
    narrows: bool = False
    bound: Literal["none", "present_length", "limit"] = "none"

    def score(self, log_probs: Float[Array, "*any"], lengths: Int[Array, "*#any"]) -> Float[Array, "*any"]:
        """Length-normalized scores, by which finished hypotheses are ranked."""
        base = lengths.astype(jnp.float32)
        return log_probs / ((5.0 + base) / 6.0 if self.gnmt_penalty else base) ** self.alpha

    def num_candidates(self, beams: int, most: int, num_finished: Int[Array, " b"]) -> Int[Array, " b"]:
        """Number of the best continuations that a step considers, at most ``most``.

        Those among the first m that end become finished; the first m of the others stay alive.
        """
        return beams - num_finished if self.narrows else jnp.full_like(num_finished, most)

    def num_finish_slots(self, beams: int, num_finished: Int[Array, " b"]) -> Int[Array, " b"]:
        """Number of hypotheses that may finish in a step."""
        return jnp.full_like(num_finished, beams) if self.replaces_finished else beams - num_finished

    def should_stop(self, status: BeamStatus) -> Bool[Array, " b"]:
        """Whether the search stops. It also stops at the limit, and where no beam is alive."""
        is_full = status.worst_finished > NEG_INF
        if self.bound == "none":
            return is_full
        lengths = status.limits if self.bound == "limit" else jnp.broadcast_to(status.length, status.limits.shape)
        return is_full & (status.worst_finished >= self.score(status.best_alive, lengths))


def google(alpha: float) -> BeamVariant:
    """Beam search of Wu et al. (2016): stops when no beam can enter the result, so stopping early changes nothing."""
    if alpha < 0:  # the penalty would then be largest for the shortest targets, and the bound would not be one
        raise ValueError(f"alpha={alpha} must be at least 0")
    return BeamVariant(alpha, gnmt_penalty=True, forces_end=True, replaces_finished=True, bound="limit")


def hugging_face(alpha: float, early_stopping: bool | Literal["never"] = False) -> BeamVariant:
    """Beam search of ``generate`` in transformers 4.54 and later.

    Args:
      alpha: its ``length_penalty``.
      early_stopping: True: stop with m finished hypotheses; False: stop when, besides, the best beam would be worse
        than they are if it ended at its present length (a heuristic); "never": at its limit, for alpha above 0.
    """
    at_limit = early_stopping == "never" and alpha > 0
    bound = "none" if early_stopping is True else "limit" if at_limit else "present_length"
    return BeamVariant(alpha, replaces_finished=True, bound=bound)


def fairseq(alpha: float) -> BeamVariant:
    """Beam search of fairseq (Ott et al. 2019): the first m finished hypotheses are the result; alpha: ``--lenpen``.

    By default fairseq never returns the empty hypothesis (``--min-len 1``): add a minimum length of 1.
    """
    return BeamVariant(alpha, forces_end=True)


def marian(alpha: float) -> BeamVariant:
    """Beam search of Marian (Junczys-Dowmunt et al. 2018): each finished hypothesis makes the beam narrower.

    Alpha is its ``--normalize`` (default 0; 1 without a number). The unknown token may be generated (``--allow-unk``),
    and the limit is each source's own, not that of the batch.
    """
    return BeamVariant(alpha, narrows=True)
