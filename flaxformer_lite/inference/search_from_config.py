"""From a config's ``decode`` settings to the search that they name."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from flaxformer_lite.config.dataclasses import DecodeConfig
from flaxformer_lite.data.vocabularies.base import Vocabulary
from flaxformer_lite.decoding.base import Search, Transform
from flaxformer_lite.decoding.beam import BeamSearch
from flaxformer_lite.decoding.beam_variants import Convention, Fairseq, Google, HuggingFace, Marian
from flaxformer_lite.decoding.greedy import Greedy
from flaxformer_lite.decoding.logits_processors import (
    Forbidden,
    ForbiddenSequences,
    MinLength,
    MinP,
    NoRepeatNgram,
    RenormalizeLogits,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopP,
)
from flaxformer_lite.decoding.sample import Sample
from flaxformer_lite.errors import InputError


def make_search(decode: DecodeConfig, target: Vocabulary) -> Search:
    """The search that the settings name, for targets of this vocabulary.

    Raises:
      InputError: a token that is forbidden, or that ends an output, is none of the vocabulary.
    """
    ends = end_ids(decode.end_tokens, target)
    transforms = _of_all_searches(decode, target, (target.special.end, *ends))
    match decode.method:
        case "greedy":
            return Greedy(transforms, ends)
        case "beam":
            convention = _convention(decode)
            groups = decode.num_beam_groups, decode.diversity_penalty
            return BeamSearch(decode.beam_size, convention, transforms, *groups, ends)
        case "sample" | "mbr":
            return Sample(decode.num_samples, transforms + _of_sampling(decode), ends)


def _convention(decode: DecodeConfig) -> Convention:
    early_stopping: Any = {"true": True, "false": False, "never": "never"}[decode.early_stopping]
    make: dict[str, Callable[[float], Convention]] = {
        "google": Google,
        "hf": lambda alpha: HuggingFace(alpha, early_stopping),
        "fairseq": Fairseq,
        "marian": Marian,
    }
    return make[decode.beam_variant](decode.length_penalty)


def _of_all_searches(decode: DecodeConfig, target: Vocabulary, ends: tuple[int, ...]) -> tuple[Transform, ...]:
    forbidden = forbidden_ids(decode.suppress_tokens, target)
    single = tuple(ids[0] for ids in forbidden if len(ids) == 1)
    sequences = tuple(ids for ids in forbidden if len(ids) > 1)
    return _without_idle(
        (decode.repetition_penalty != 1, RepetitionPenalty(decode.repetition_penalty)),
        (decode.no_repeat_ngram_size > 0, NoRepeatNgram(decode.no_repeat_ngram_size)),
        (decode.min_length > 0, MinLength(decode.min_length, ends)),
        (bool(single), Forbidden(single)),
        (bool(sequences), ForbiddenSequences(sequences)),
        (decode.renormalize_logits, RenormalizeLogits()),
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


def end_ids(entries: Sequence[str], target: Vocabulary) -> tuple[int, ...]:
    """Of ``config.decode.end_tokens``.

    Raises:
      InputError: one is no token of the vocabulary.
    """
    if not entries:
        return ()
    written = _written(target)
    if unknown := [token for token in entries if token not in written]:
        raise InputError(f"config.decode.end_tokens: {unknown[0]!r} is no token of the target vocabulary")
    return tuple(i for token in entries for i in written[token])


def forbidden_ids(entries: Sequence[str], target: Vocabulary) -> tuple[tuple[int, ...], ...]:
    """The token ids of each entry of ``config.decode.suppress_tokens``.

    Raises:
      InputError: there is no such token.
    """
    if not entries:
        return ()
    written, found = _written(target), []
    for entry in entries:
        tokens = [entry] if entry in written else entry.split(" ")
        if any(token not in written for token in tokens):
            what = "no token" if len(tokens) == 1 else "neither a token nor several with blanks between"
            raise InputError(f"config.decode.suppress_tokens: {entry!r} is {what} of the target vocabulary")
        found += itertools.product(*(written[token] for token in tokens))
    return tuple(found)


def _written(target: Vocabulary) -> dict[str, list[int]]:
    """All ids that the vocabulary writes as each token, but for those that are never said or end an output anyway."""
    special, written = target.special, {}
    for i in range(target.size):
        if i not in (special.pad, special.begin, special.end):
            written.setdefault(target.token(i), []).append(i)
    return written
