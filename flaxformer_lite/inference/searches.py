"""From a config's ``decode`` settings to the search that they name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flaxformer_lite.config import DecodeConfig
from flaxformer_lite.data.vocabulary import Vocabulary
from flaxformer_lite.decoding.beam import BeamSearch
from flaxformer_lite.decoding.conventions import Convention, Fairseq, Google, HuggingFace, Marian
from flaxformer_lite.decoding.greedy import Greedy
from flaxformer_lite.decoding.sample import Sample
from flaxformer_lite.decoding.search import Search, Transform
from flaxformer_lite.decoding.transforms import (
    Forbidden,
    MinLength,
    MinP,
    NoRepeatNgram,
    Renormalise,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopP,
)
from flaxformer_lite.errors import InputError


def make_search(decode: DecodeConfig, target: Vocabulary) -> Search:
    """The search that the settings name, for targets of this vocabulary.

    Raises:
      InputError: a forbidden token is none of the vocabulary.
    """
    transforms = _of_all_searches(decode, target)
    match decode.method:
        case "greedy":
            return Greedy(transforms)
        case "beam":
            convention = _convention(decode)
            return BeamSearch(decode.beam_size, convention, transforms, decode.beam_groups, decode.diversity_penalty)
        case "sample" | "mbr":
            return Sample(decode.samples, transforms + _of_sampling(decode))


def _convention(decode: DecodeConfig) -> Convention:
    early_stopping: Any = {"true": True, "false": False, "never": "never"}[decode.early_stopping]
    make: dict[str, Callable[[float], Convention]] = {
        "google": Google,
        "hf": lambda alpha: HuggingFace(alpha, early_stopping),
        "fairseq": Fairseq,
        "marian": Marian,
    }
    return make[decode.convention](decode.length_penalty)


def _of_all_searches(decode: DecodeConfig, target: Vocabulary) -> tuple[Transform, ...]:
    return _without_idle(
        (decode.repetition_penalty != 1, RepetitionPenalty(decode.repetition_penalty)),
        (decode.no_repeat_ngram > 0, NoRepeatNgram(decode.no_repeat_ngram)),
        (decode.min_length > 0, MinLength(decode.min_length, target.special.end)),
        (bool(decode.forbidden), Forbidden(_ids(decode.forbidden, target))),
        (decode.renormalise, Renormalise()),
    )


def _of_sampling(decode: DecodeConfig) -> tuple[Transform, ...]:
    return _without_idle(
        (decode.temperature != 1, Temperature(decode.temperature)),
        (decode.top_k > 0, TopK(decode.top_k)),
        (decode.top_p < 1, TopP(decode.top_p)),
        (decode.min_p > 0, MinP(decode.min_p)),
    )


def _without_idle(*transforms: tuple[bool, Transform]) -> tuple[Transform, ...]:
    return tuple(transform for does_something, transform in transforms if does_something)


def _ids(tokens: tuple[str, ...], target: Vocabulary) -> tuple[int, ...]:
    """All ids that the vocabulary writes as one of these tokens."""
    if not tokens:
        return ()
    special, ids = target.special, []
    written = {i: target.token(i) for i in range(target.size) if i not in (special.pad, special.begin, special.end)}
    for token in tokens:
        same = [i for i, text in written.items() if text == token]
        if not same:
            raise InputError(f"config.decode.forbidden: {token!r} is no token of the target vocabulary")
        ids += same
    return tuple(ids)
