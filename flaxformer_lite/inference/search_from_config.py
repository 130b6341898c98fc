"""Builds the search that a config's ``decode`` group names."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from flaxformer_lite.config.dataclasses import DecodeConfig
from flaxformer_lite.config.import_path import build
from flaxformer_lite.data.vocabularies.base import Vocabulary
from flaxformer_lite.decoding import beam_scoring
from flaxformer_lite.decoding import logits_processors as processors
from flaxformer_lite.decoding.base import LogitsProcessor, Search
from flaxformer_lite.decoding.beam import BeamSearch
from flaxformer_lite.decoding.beam_scoring import BeamVariant
from flaxformer_lite.decoding.decode_loop import Greedy, Sample
from flaxformer_lite.errors import InputError, require

_EARLY_STOPPING: dict[str, Any] = {"true": True, "false": False, "never": "never"}


def make_search(decode: DecodeConfig, target: Vocabulary) -> Search:
    """The search of ``config.decode``, for targets of this vocabulary.

    A search ``module:name`` is a dataclass that implements ``Search``. Its fields ``processors`` and ``end_ids`` are
    filled as those of ``Greedy``; the others are its options.

    Raises:
      InputError: a suppressed token or an end token is not in the vocabulary, or an import path cannot be used.
    """
    end_ids = end_token_ids(decode.end_tokens, target)
    common = _common_processors(decode, target, (target.special.end, *end_ids))
    match decode.method:
        case "greedy":
            return Greedy(common, end_ids)
        case "beam":
            groups = decode.num_beam_groups, decode.diversity_penalty
            return BeamSearch(decode.beam_size, _beam_variant(decode), common, *groups, end_ids)
        case "sample" | "mbr":
            return Sample(decode.num_samples, common + _sampling_processors(decode), end_ids)
        case path:
            search = build(path, decode.options, "decode.method", processors=common, end_ids=end_ids)
            require(
                isinstance(search, Search), f"config.decode.method={path!r}", "does not implement decoding.base.Search"
            )
            return _hashable(search, f"config.decode.method={path!r}")


def _beam_variant(decode: DecodeConfig) -> BeamVariant:
    alpha = decode.length_penalty
    match decode.beam_variant:
        case "google":
            return beam_scoring.google(alpha)
        case "hf":
            return beam_scoring.hugging_face(alpha, _EARLY_STOPPING[decode.early_stopping])
        case "fairseq":
            return beam_scoring.fairseq(alpha)
        case "marian":
            return beam_scoring.marian(alpha)


def _common_processors(
    decode: DecodeConfig, target: Vocabulary, end_ids: tuple[int, ...]
) -> tuple[LogitsProcessor, ...]:
    suppressed = suppressed_ids(decode.suppress_tokens, target)
    single = tuple(ids[0] for ids in suppressed if len(ids) == 1)
    sequences = tuple(ids for ids in suppressed if len(ids) > 1)
    return _enabled(
        (decode.repetition_penalty != 1, processors.RepetitionPenalty(decode.repetition_penalty)),
        (decode.no_repeat_ngram_size > 0, processors.NoRepeatNgram(decode.no_repeat_ngram_size)),
        (decode.min_length > 0, processors.MinLength(decode.min_length, end_ids)),
        (bool(single), processors.SuppressTokens(single)),
        (bool(sequences), processors.SuppressSequences(sequences)),
        *((True, _own_processor(path, decode, target, end_ids)) for path in decode.logits_processors),
        (decode.renormalize_logits, processors.RenormalizeLogits()),
    )


def _own_processor(path: str, decode: DecodeConfig, target: Vocabulary, end_ids: tuple[int, ...]) -> LogitsProcessor:
    """A logits processor ``module:name``; fields ``vocabulary`` and ``end_ids`` of a dataclass are filled."""
    options = decode.logits_processor_options.get(path.rpartition(":")[2], {})
    processor = build(path, options, "decode.logits_processors", vocabulary=target, end_ids=end_ids)
    require(callable(processor), f"config.decode.logits_processors={path!r}", "is not a LogitsProcessor: not callable")
    return _hashable(processor, f"config.decode.logits_processors={path!r}")


def _hashable(value: Any, subject: str) -> Any:
    """``value``, which compiled searches are cached by."""
    try:
        hash(value)
    except TypeError as error:
        raise InputError(subject, f"must be hashable ({error})", "declare it as dataclass(frozen=True)") from error
    return value


def _sampling_processors(decode: DecodeConfig) -> tuple[LogitsProcessor, ...]:
    return _enabled(
        (decode.temperature != 1, processors.Temperature(decode.temperature)),
        (decode.top_k > 0, processors.TopK(decode.top_k)),
        (decode.top_p < 1, processors.TopP(decode.top_p)),
        (decode.min_p > 0, processors.MinP(decode.min_p)),
    )


def _enabled(*candidates: tuple[bool, LogitsProcessor]) -> tuple[LogitsProcessor, ...]:
    return tuple(processor for is_enabled, processor in candidates if is_enabled)


def end_token_ids(entries: Sequence[str], target: Vocabulary) -> tuple[int, ...]:
    """The token ids of ``config.decode.end_tokens``.

    Raises:
      InputError: an entry is not a token of the vocabulary.
    """
    if not entries:
        return ()
    ids_of = _ids_by_token(target)
    if unknown := [token for token in entries if token not in ids_of]:
        raise InputError("config.decode.end_tokens", f"{unknown[0]!r} is not a token of the target vocabulary")
    return tuple(i for token in entries for i in ids_of[token])


def suppressed_ids(entries: Sequence[str], target: Vocabulary) -> tuple[tuple[int, ...], ...]:
    """The token ids of each entry of ``config.decode.suppress_tokens``, a token or several separated by spaces.

    Raises:
      InputError: a token is not in the vocabulary.
    """
    if not entries:
        return ()
    ids_of, found = _ids_by_token(target), []
    for entry in entries:
        tokens = [entry] if entry in ids_of else entry.split(" ")
        if any(token not in ids_of for token in tokens):
            kind = "a token" if len(tokens) == 1 else "a token or a sequence of tokens separated by spaces"
            raise InputError("config.decode.suppress_tokens", f"{entry!r} is not {kind} of the target vocabulary")
        found += itertools.product(*(ids_of[token] for token in tokens))
    return tuple(found)


def _ids_by_token(target: Vocabulary) -> dict[str, list[int]]:
    """All ids that are written as each token, except pad and begin, which are never generated, and the end token."""
    special, ids = target.special, {}
    for i in range(target.size):
        if i not in (special.pad, special.begin, special.end):
            ids.setdefault(target.token(i), []).append(i)
    return ids
