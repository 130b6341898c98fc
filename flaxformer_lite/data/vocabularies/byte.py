"""Byte vocabulary."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any, SupportsIndex

from flaxformer_lite.data.vocabularies.base import (
    NUM_SPECIAL,
    SPECIAL,
    UNKNOWN_CHARACTER,
    Vocabulary,
    byte_token,
    special_token,
    until_end,
)


class ByteVocabulary(Vocabulary):
    """The bytes of UTF-8, each at the id of its value plus the number of special ids."""

    @property
    def size(self) -> int:
        return NUM_SPECIAL + 256

    def encode(self, text: str) -> list[int]:
        return [byte + NUM_SPECIAL for byte in text.encode()]

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        """Returns the text of bytes; the replacement character stands for what is not valid UTF-8."""
        unknown = UNKNOWN_CHARACTER.encode()
        data = b"".join(unknown if i == SPECIAL.unknown else bytes([i - NUM_SPECIAL]) for i in until_end(ids))
        return data.decode(errors="replace")

    def token(self, i: SupportsIndex) -> str:
        return special_token(i) or byte_token(operator.index(i) - NUM_SPECIAL)

    def to_json(self) -> dict[str, Any]:
        return {"kind": "byte"}
