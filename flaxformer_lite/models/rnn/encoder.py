"""Recurrent encoder, in one direction or both."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from flaxformer_lite.config.model_dataclasses import StackConfig
from flaxformer_lite.models.interface import EncoderOutput
from flaxformer_lite.models.rnn.cells import Carry, RecurrentLayer, is_residual, make_recurrent_layer, scan_time
from flaxformer_lite.types import Tokens

_IS_REVERSED = {"forward": (False,), "backward": (True,), "both": (False, True)}


class RnnEncoder(nn.Module):
    """Recurrent encoder; implements ``Encoder``.

    ``backward`` reads from the last token to the first, like the reversed source of Sutskever et al. (2014). With
    ``both``, states of the two directions are concatenated (Bahdanau et al. 2015, section 3.2), and so are their last
    states, the summaries. Padding changes no state, wherever it is.
    """

    config: StackConfig
    remat: str

    def setup(self):
        c = self.config
        directions = _IS_REVERSED[c.rnn.direction]
        self.layers = [[make_recurrent_layer(c) for _ in directions] for _ in range(c.num_layers)]

    def __call__(self, x: Float[Array, "b s d"], source: Tokens, train: bool) -> EncoderOutput:
        inside = jnp.asarray(source.segments != 0)
        summaries = []
        for number, layer in enumerate(self.layers, start=1):
            directions = zip(layer, _IS_REVERSED[self.config.rnn.direction], strict=True)
            found = [self._run(cell, x, inside, train, reverse) for cell, reverse in directions]
            states, lasts = zip(*found, strict=True)
            y = jnp.concatenate(states, axis=-1)
            x = y + x if is_residual(self.config, number) else y
            summaries.append(tuple(jnp.concatenate(arrays, axis=-1) for arrays in zip(*lasts, strict=True)))
        return EncoderOutput(x, source.segments, tuple(summaries))

    def _run(
        self, layer: RecurrentLayer, x: Float[Array, "b s i"], inside: Bool[Array, "b s"], train: bool, reverse: bool
    ) -> tuple[Float[Array, "b s d"], Carry]:
        """All states of a layer in one direction, and the last one."""

        def step(layer, carry, inputs):
            x_gates, inside = inputs
            after = layer(carry, x_gates, train)
            carry = jax.tree.map(lambda new, old: jnp.where(inside[:, None], new, old), after, carry)
            return carry, carry[0]

        scan = scan_time(step, self.config, self.remat, reverse)
        last, states = scan(layer, layer.initial_carry(x.shape[0], x.dtype), (layer.project_input(x, train), inside))
        return states, last
