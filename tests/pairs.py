"""The smallest model that has something to learn, and dropout; compiles in no time."""

from typing import Any

import flax.linen as nn

from flaxformer_lite.types import Tokens

SOURCE_SIZE, TARGET_SIZE = 16, 24  # those of ``tests.test_sharding.make_batch``


class Pairs(nn.Module):
    """Says the next token from the last one and the first of the source."""

    width: int = 6

    @nn.compact
    def __call__(self, source: Tokens, target_in: Tokens, train: bool) -> Any:
        x = nn.Embed(TARGET_SIZE, self.width)(target_in.ids) + nn.Embed(SOURCE_SIZE, self.width)(source.ids[:, :1])
        return nn.Dense(TARGET_SIZE)(nn.Dropout(0.5, deterministic=not train)(x))


class Still(Pairs):
    """The same without dropout, whose masks would be others for other shares of a batch."""

    def __call__(self, source: Tokens, target_in: Tokens, train: bool) -> Any:
        return super().__call__(source, target_in, False)
