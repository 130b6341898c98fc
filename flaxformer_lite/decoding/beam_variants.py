"""How systems differ in beam search: by what hypotheses are ranked, which of them finish, and when the search ends.

The same model with "beam 4, length penalty 1" gives other outputs in each of them. Lengths |Y| count the end token,
and all numbers are those of one source, or of one group of its beams:

    ======  ==========================  ======================  =================================================
    name    score                       at the limit            the search ends when
    ======  ==========================  ======================  =================================================
    google  log P / ((5 + |Y|) / 6)^α   a beam can but end      no beam could still come among the best m
    hf      log P / |Y|^α               a beam counts as it is  m have finished, and early_stopping says so
    fairseq log P / |Y|^α               a beam can but end      m have finished
    marian  log P / |Y|^α               a beam counts as it is  m have finished, each of which took a beam's place
    ======  ==========================  ======================  =================================================

Only hf is verified against the system itself: tests drive both with one model. The others follow their papers and
sources, and tests hold them to a plain search written from the same reading.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from flaxformer_lite.decoding.base import NEVER


class Progress(NamedTuple):
    """How far the search for each source is.

    Attributes:
      attained: the best log-probability of a beam that has not ended.
      worst: the lowest score of the best m finished hypotheses; ``NEVER`` while there are fewer.
      length: number of tokens of every beam.
      limits: the largest number of tokens.
    """

    attained: Float[Array, " b"]
    worst: Float[Array, " b"]
    length: Int[Array, ""]
    limits: Int[Array, " b"]


@runtime_checkable  # so that the tests' run-time checks can ask
class Convention(Protocol):
    """What a system means by beam search."""

    @property
    def forces_end(self) -> bool:
        """Whether a beam one token before its limit can but end; otherwise it counts there as it is."""
        ...

    def score(self, log_probs: Float[Array, "*any"], lengths: Int[Array, "*#any"]) -> Float[Array, "*any"]:
        """By what finished hypotheses are ranked."""
        ...

    def looked_at(self, beams: int, enough: int, finished: Int[Array, " b"]) -> Int[Array, " b"]:
        """How many of the best continuations are looked at in a step, at most ``enough``: then m live on.

        Those that end among the first m finish; the first m of the others live on.
        """
        ...

    def room(self, beams: int, finished: Int[Array, " b"]) -> Int[Array, " b"]:
        """How many may finish in a step when so many have finished before."""
        ...

    def is_over(self, progress: Progress) -> Bool[Array, " b"]:
        """Whether the search ends; where no beam is left and at the limit it does anyway."""
        ...


@dataclass(frozen=True)
class Google:
    """Wu et al. (2016), equation 14, searched to the end: a beam is followed as long as it could matter.

    That is as long as it would be better than the worst finished hypothesis, if it lost nothing more up to its limit.
    So stopping early changes nothing.

    Attributes:
      alpha: of the length penalty, at least 0; 0 ranks by probability alone, a higher one favors longer targets.
    """

    alpha: float
    forces_end = True

    def __post_init__(self):
        if self.alpha < 0:  # a beam could then be better the sooner it ends, and the bound below would be none
            raise ValueError(f"alpha={self.alpha} must be at least 0")

    def score(self, log_probs: Float[Array, "*any"], lengths: Int[Array, "*#any"]) -> Float[Array, "*any"]:
        """Gives log P(Y|X) / ((5 + |Y|) / 6)**alpha."""
        return log_probs / ((5.0 + lengths.astype(jnp.float32)) / 6.0) ** self.alpha

    def looked_at(self, beams: int, enough: int, finished: Int[Array, " b"]) -> Int[Array, " b"]:
        """Enough that m live on whatever ends."""
        return jnp.full_like(finished, enough)

    def room(self, beams: int, finished: Int[Array, " b"]) -> Int[Array, " b"]:
        """Better hypotheses push worse ones out."""
        return jnp.full_like(finished, beams)

    def is_over(self, progress: Progress) -> Bool[Array, " b"]:
        """Whether even the highest score that a beam could reach is too low."""
        return progress.worst >= self.score(progress.attained, progress.limits)


@dataclass(frozen=True)
class HuggingFace:
    """Beam search of ``generate`` in transformers 4.54 and later, where tests drive both with one model.

    A beam that has not ended at the limit counts as it is, so its score lacks the end token's probability.

    Attributes:
      alpha: its ``length_penalty``.
      early_stopping: True: ends with m finished hypotheses; False: ends when, besides, the best beam would be worse
        than they are if it ended at its present length, a guess; "never": at its limit, where alpha is above 0.
    """

    alpha: float
    early_stopping: bool | Literal["never"] = False
    forces_end = False

    def score(self, log_probs: Float[Array, "*any"], lengths: Int[Array, "*#any"]) -> Float[Array, "*any"]:
        """Gives log P(Y|X) / |Y|**alpha."""
        return _by_power(log_probs, lengths, self.alpha)

    def looked_at(self, beams: int, enough: int, finished: Int[Array, " b"]) -> Int[Array, " b"]:
        """Enough that m live on whatever ends."""
        return jnp.full_like(finished, enough)

    def room(self, beams: int, finished: Int[Array, " b"]) -> Int[Array, " b"]:
        """Better hypotheses push worse ones out."""
        return jnp.full_like(finished, beams)

    def is_over(self, progress: Progress) -> Bool[Array, " b"]:
        """Whether there are m, and as ``early_stopping`` says."""
        if self.early_stopping is True:
            return _are_full(progress)
        at_the_limit = self.early_stopping == "never" and self.alpha > 0
        lengths = progress.limits if at_the_limit else jnp.broadcast_to(progress.length, progress.limits.shape)
        return _are_full(progress) & (progress.worst >= self.score(progress.attained, lengths))


@dataclass(frozen=True)
class Fairseq:
    """Beam search of fairseq (Ott et al. 2019): the first m hypotheses that end are the result, best first.

    By default fairseq never returns the empty hypothesis (``--min-len 1``); that is a minimum length of 1 beside this.

    Attributes:
      alpha: its ``--lenpen``.
    """

    alpha: float
    forces_end = True

    def score(self, log_probs: Float[Array, "*any"], lengths: Int[Array, "*#any"]) -> Float[Array, "*any"]:
        """Gives log P(Y|X) / |Y|**alpha."""
        return _by_power(log_probs, lengths, self.alpha)

    def looked_at(self, beams: int, enough: int, finished: Int[Array, " b"]) -> Int[Array, " b"]:
        """Enough that m live on whatever ends."""
        return jnp.full_like(finished, enough)

    def room(self, beams: int, finished: Int[Array, " b"]) -> Int[Array, " b"]:
        """What has finished stays."""
        return beams - finished

    def is_over(self, progress: Progress) -> Bool[Array, " b"]:
        """Whether there are m."""
        return _are_full(progress)


@dataclass(frozen=True)
class Marian:
    """Beam search of Marian (Junczys-Dowmunt et al. 2018): each hypothesis that finishes makes the beam narrower.

    Its ``--beam-size`` and ``--normalize``; the unknown token is as sayable as any other (``--allow-unk``), and the
    limit is the source's own, not that of the batch.

    Attributes:
      alpha: its ``--normalize``; 0 is its default, 1 what it means without a number.
    """

    alpha: float
    forces_end = False

    def score(self, log_probs: Float[Array, "*any"], lengths: Int[Array, "*#any"]) -> Float[Array, "*any"]:
        """Gives log P(Y|X) / |Y|**alpha."""
        return _by_power(log_probs, lengths, self.alpha)

    def looked_at(self, beams: int, enough: int, finished: Int[Array, " b"]) -> Int[Array, " b"]:
        """As many as have not finished; so where one ends, one fewer lives on."""
        return beams - finished

    def room(self, beams: int, finished: Int[Array, " b"]) -> Int[Array, " b"]:
        """What has finished stays."""
        return beams - finished

    def is_over(self, progress: Progress) -> Bool[Array, " b"]:
        """Whether there are m."""
        return _are_full(progress)


def _by_power(log_probs: Float[Array, "*any"], lengths: Int[Array, "*#any"], alpha: float) -> Float[Array, "*any"]:
    return log_probs / lengths.astype(jnp.float32) ** alpha


def _are_full(progress: Progress) -> Bool[Array, " b"]:
    return progress.worst > NEVER
