"""A stack of recurrent layers that reads the source in one direction or both."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from flaxformer_lite.config.dataclasses import ModelConfig
from flaxformer_lite.models.cells import Carry, Recurrence, over_time
from flaxformer_lite.models.interface import Memory
from flaxformer_lite.types import Tokens

_BACKWARDS = {"forward": (False,), "backward": (True,), "both": (False, True)}


class RecurrentEncoder(nn.Module):
    """Recurrent layers, one above the other; implements ``Encoder``.

    ``backward`` reads from the last token to the first, which is the reversed source of Sutskever et al. (2014); with
    ``both`` each place is told by the two directions' states side by side (Bahdanau et al. 2015, section 3.2), and so
    is the source as a whole by their last ones. Padding changes no state, wherever it stands.
    """

    config: ModelConfig

    def setup(self):
        c = self.config
        self.layers = [
            [Recurrence(c.rnn.cell, c.width, c.dropout, c.rnn.variational_dropout) for _ in _BACKWARDS[c.rnn.direction]]
            for _ in range(c.num_layers)
        ]

    def __call__(self, x: Float[Array, "b s d"], source: Tokens, train: bool) -> Memory:
        """Reads word vectors x of the tokens ``source``."""
        inside = jnp.asarray(source.segments != 0)
        summaries = []
        for number, layer in enumerate(self.layers, start=1):
            ways = zip(layer, _BACKWARDS[self.config.rnn.direction], strict=True)
            states, lasts = zip(*(self._read(cell, x, inside, train, reverse) for cell, reverse in ways), strict=True)
            y = jnp.concatenate(states, axis=-1)
            x = y + x if is_residual(self.config, number) else y
            summaries.append(tuple(jnp.concatenate(leaves, axis=-1) for leaves in zip(*lasts, strict=True)))
        return Memory(x, source.segments, tuple(summaries))

    def _read(
        self, cell: Recurrence, x: Float[Array, "b s i"], inside: Bool[Array, "b s"], train: bool, reverse: bool
    ) -> tuple[Float[Array, "b s d"], Carry]:
        def advance(cell, carry, place):
            read, inside = place
            new = jax.tree.map(lambda new, old: jnp.where(inside[:, None], new, old), cell(carry, read, train), carry)
            return new, new[0]

        scan = over_time(self.config, reverse)(advance)
        last, states = scan(cell, cell.start(x.shape[0], x.dtype), (cell.read(x, train), inside))
        return states, last


def is_residual(config: ModelConfig, layer: int) -> bool:
    """Whether this layer, 1 being the lowest, adds its input to its output."""
    return 0 < config.rnn.residual_from <= layer
