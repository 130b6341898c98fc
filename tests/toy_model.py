"""The smallest model that can be trained, with dropout; it compiles immediately."""

from typing import Any

import flax.linen as nn

from flaxformer_lite.types import Tokens

SOURCE_SIZE, TARGET_SIZE = 16, 24  # as in ``tests.sharding.test_many_devices.batch``


class Pairs(nn.Module):
    """Predicts the next token from the last one and the first token of the source."""

    width: int = 6

    @nn.compact
    def __call__(self, source: Tokens, target_in: Tokens, train: bool) -> Any:
        x = nn.Embed(TARGET_SIZE, self.width)(target_in.ids) + nn.Embed(SOURCE_SIZE, self.width)(source.ids[:, :1])
        return nn.Dense(TARGET_SIZE)(nn.Dropout(0.5, deterministic=not train)(x))


class PairsWithoutDropout(Pairs):
    """The same without dropout, whose masks depend on how a batch is divided."""

    def __call__(self, source: Tokens, target_in: Tokens, train: bool) -> Any:
        return super().__call__(source, target_in, False)
