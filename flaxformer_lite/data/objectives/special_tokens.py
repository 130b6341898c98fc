"""The special tokens that objectives use, in a vocabulary."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int32

from flaxformer_lite.data.vocabularies.base import SENTINEL, Vocabulary
from flaxformer_lite.errors import require

_SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？", "।", "؟")


def find_sentinels(vocabulary: Vocabulary, objective: str) -> Int32[np.ndarray, " k"]:
    """Returns the ids of ``<extra_id_0>``, ``<extra_id_1>``, … in this order.

    Raises:
      InputError: the vocabulary has none.
    """
    known, sentinels = vocabulary.special_tokens, list[int]()
    while (name := SENTINEL.format(len(sentinels))) in known:
        sentinels.append(known[name])
    require(
        bool(sentinels),
        f"config.data.objective={objective!r}",
        "the vocabulary has no sentinels <extra_id_0>, <extra_id_1>, …",
        "set config.data.source_vocabulary.num_sentinels=100, or use a vocabulary that has them",
    )
    return np.array(sentinels, np.int32)


def find_token(vocabulary: Vocabulary, token: str, objective: str) -> int:
    """Returns the id of a special token.

    Raises:
      InputError: the vocabulary does not have it.
    """
    require(
        token in vocabulary.special_tokens,
        f"config.data.objective={objective!r}",
        f"the vocabulary has no special token {token!r}",
        "add it to config.data.source_vocabulary.special_tokens, or use a vocabulary that has it",
    )
    return vocabulary.special_tokens[token]


def ends_sentence(vocabulary: Vocabulary) -> Bool[np.ndarray, " v"]:
    """Returns for each id whether its token ends with a period, an exclamation mark or a question mark."""
    return np.array([vocabulary.token(i).endswith(_SENTENCE_ENDS) for i in range(vocabulary.size)])
