"""The vocabulary interface, and what vocabularies that are built from training text have in common."""

from __future__ import annotations

import operator
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, SupportsIndex, runtime_checkable

from flaxformer_lite.types import SpecialIds

SPECIAL = SpecialIds(pad=0, end=1, begin=2, unknown=3)
NUM_SPECIAL = len(SPECIAL)  # the first id of a token of text
SENTINEL = "<extra_id_{}>"  # the name of sentinel i, as in T5
UNKNOWN_CHARACTER = "\N{REPLACEMENT CHARACTER}"  # decoded text of the unknown id


@runtime_checkable  # for the run-time checks of signatures in tests
class Vocabulary(Protocol):
    """Mapping between text and token ids.

    A class of one's own may inherit from this protocol; it then has the special ids of vocabularies that are built
    here, ends every text with the end id, and has no unknown tokens.
    """

    @property
    def special(self) -> SpecialIds:
        """The ids of special tokens."""
        return SPECIAL

    @property
    def prefix_ids(self) -> tuple[int, ...]:
        """The ids before those of every text. Searches force them as the first tokens of a target."""
        return ()

    @property
    def suffix_ids(self) -> tuple[int, ...]:
        """The ids after those of every text; of a target, the end id."""
        return (self.special.end,)

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of ids, special ones included: every id is below it."""
        ...

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text, without special ids except the unknown id."""
        ...

    @abstractmethod
    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        """Returns the text of ids up to the first end id, without pad and begin ids."""
        ...

    @abstractmethod
    def token(self, i: SupportsIndex) -> str:
        """Returns the token of one id, unique within the vocabulary; special tokens look like ``<end>``."""
        ...

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """The ids of named special tokens of objectives, such as ``<extra_id_0>`` and ``<mask>``."""
        return {}

    @property
    def special_separator(self) -> str:
        """The text between a named special token and its neighbors; " " where tokens imply the spaces around them."""
        return ""

    def unknown_tokens(self, text: str) -> list[str]:
        """Returns the parts of a text that ``encode`` maps to the unknown id, in their order."""
        del text
        return []

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Returns JSON values from which ``saved.from_json`` makes an equal vocabulary."""
        ...


def special_token(i: SupportsIndex) -> str:
    """The token of a special id, such as ``<end>``; "" for the id of a token of text."""
    return f"<{SpecialIds._fields[SPECIAL.index(i)]}>" if i in SPECIAL else ""


def until_end(ids: Iterable[SupportsIndex]) -> Iterator[int]:
    """The ids before the first end id, without pad and begin ids."""
    for i in map(operator.index, ids):
        if i == SPECIAL.end:
            return
        if i not in (SPECIAL.pad, SPECIAL.begin):
            yield i


def byte_token(byte: int) -> str:
    """The token of a byte: a printable ASCII character as it is, another byte as ``<0xE3>``."""
    return chr(byte) if byte < 128 and chr(byte).isprintable() else f"<0x{byte:02X}>"
