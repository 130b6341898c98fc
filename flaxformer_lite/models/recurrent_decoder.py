"""Recurrent decoders: a stack of cells that is started by the source, and reads it in one of four ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flaxformer_lite.config.dataclasses import ModelConfig
from flaxformer_lite.models.cells import CELLS, Carry, Recurrence, over_time
from flaxformer_lite.models.interface import Memory
from flaxformer_lite.models.layers import Dense, Dropout
from flaxformer_lite.models.recurrent_attention import Attended, Attention, make_score
from flaxformer_lite.models.recurrent_encoder import is_residual
from flaxformer_lite.types import Tokens


class Encoded(NamedTuple):
    """What a recurrent decoder knows of the sources.

    Attributes:
      start: the state of each layer before the first token.
      source: what it reads of them at every step.
    """

    start: tuple[Carry, ...]
    source: Any


class RecurrentCache(NamedTuple):
    """What hypotheses have said so far.

    Attributes:
      carries: the state of each layer.
      output: the last step's output, where it is fed back; else of width 0.
    """

    carries: tuple[Carry, ...]
    output: Float[Array, "b m r"]

    def select(self, parents: Int[Array, "b m"]) -> RecurrentCache:
        """Makes beam i go on from beam ``parents[:, i]``."""
        return jax.tree.map(lambda leaf: jnp.take_along_axis(leaf, parents[:, :, None], axis=1), self)


class Stack(nn.Module):
    """Cells one above the other, one step at a time."""

    config: ModelConfig

    def setup(self):
        c = self.config
        self.cells = [
            Recurrence(c.rnn.cell, c.width, c.dropout, c.rnn.variational_dropout) for _ in range(c.num_decoder_layers)
        ]

    def __call__(
        self, carries: tuple[Carry, ...], x: Float[Array, "b m i"], train: bool
    ) -> tuple[tuple[Carry, ...], Float[Array, "b m d"]]:
        """The states after reading x, and what the top layer says."""
        after = []
        for number, (cell, carry) in enumerate(zip(self.cells, carries, strict=True), start=1):
            after.append(cell(carry, cell.read(x, train), train))
            x = after[-1][0] + x if is_residual(self.config, number) else after[-1][0]
        return tuple(after), x


class CopyBridge(nn.Module):
    """The decoder's layers start from the encoder's last states (Sutskever et al. 2014)."""

    config: ModelConfig

    def __call__(self, summaries: tuple[Carry, ...]) -> tuple[Carry, ...]:
        """The state of each layer before the first token."""
        return summaries


class DenseBridge(nn.Module):
    """Each of the decoder's states starts as ``tanh(W x + b)`` of the encoder's last state at its height.

    Where one half has more layers than the other, their highest face each other, and what is below the encoder's lowest
    reads that. x is all that the source's layer keeps, both directions' (Bahdanau et al. 2015, section A.2.2, take the
    backward one's).
    """

    config: ModelConfig

    @nn.compact
    def __call__(self, summaries: tuple[Carry, ...]) -> tuple[Carry, ...]:
        """The state of each layer before the first token."""
        starts = []
        for below_top in range(self.config.num_decoder_layers, 0, -1):
            x = jnp.concatenate(summaries[-min(below_top, len(summaries))], axis=-1)
            dense = [Dense(self.config.width, ("embed", "mlp")) for _ in range(CELLS[self.config.rnn.cell].leaves)]
            starts.append(tuple(jnp.tanh(to_state(x)) for to_state in dense))
        return tuple(starts)


class RecurrentDecoder(nn.Module):
    """What the four have in common; each says what it reads of the source, what one step is, and what is said of it.

    All places are a scan over the step that a search takes one at a time; what is said, which no step waits for, is
    computed of all places at once.
    """

    config: ModelConfig

    def setup(self):
        c = self.config
        self.stack = Stack(c)
        self.bridge = {"copy": CopyBridge, "dense": DenseBridge}[c.rnn.bridge](c)
        self.drop = Dropout(c.dropout, one_mask_over=(1,) if c.rnn.variational_dropout else ())

    def read_source(self, memory: Memory) -> Any:
        """What each step reads of the sources."""
        raise NotImplementedError

    def advance(
        self, x: Float[Array, "b m i"], cache: RecurrentCache, source: Any, train: bool
    ) -> tuple[tuple[Float[Array, "b m _"], ...], RecurrentCache, Float[Array, "b m _"]]:
        """One step: what ``speak`` needs of it, the state after it, and how much of each source place it read."""
        raise NotImplementedError

    def speak(self, x: Float[Array, "b l i"], *heard: Float[Array, "b l _"]) -> Float[Array, "b l r"]:
        """What the output layer compares with words, of the last word and what a step gave."""
        raise NotImplementedError

    def read(self, memory: Memory) -> Encoded:
        """All that depends on the sources alone."""
        return Encoded(self.bridge(memory.summaries), self.read_source(memory))

    def __call__(
        self, x: Float[Array, "b t i"], target_in: Tokens, encoded: Encoded, train: bool
    ) -> Float[Array, "b t r"]:
        """All places of the targets, one after the other."""

        def advance(self: RecurrentDecoder, cache: RecurrentCache, x: Array) -> tuple[RecurrentCache, Any]:
            heard, cache, _ = self.advance(x[:, None], cache, encoded.source, train)
            return cache, tuple(part[:, 0] for part in heard)

        return self.drop(self.speak(x, *self._scan(advance, x, encoded)), train)

    def attention(self, x: Float[Array, "b t i"], target_in: Tokens, encoded: Encoded) -> Float[Array, "b t _"]:
        """How much of each place of the source every place of the targets reads; of no width without attention."""

        def advance(self: RecurrentDecoder, cache: RecurrentCache, x: Array) -> tuple[RecurrentCache, Array]:
            _, cache, weights = self.advance(x[:, None], cache, encoded.source, False)
            return cache, weights[:, 0]

        return self._scan(advance, x, encoded)

    def _scan(self, advance: Callable[..., Any], x: Float[Array, "b t i"], encoded: Encoded) -> Any:
        scan = over_time(self.config)(advance)
        return scan(self, self.init_cache(encoded, 1, x.shape[1]), x)[1]

    def init_cache(self, encoded: Encoded, beams: int, max_length: int) -> RecurrentCache:
        """The state before the first token; it has one size, whatever the ``max_length``."""
        carries = jax.tree.map(lambda x: jnp.repeat(x[:, None], beams, axis=1), encoded.start)
        h = carries[0][0]
        return RecurrentCache(carries, jnp.zeros((*h.shape[:2], self._fed_back()), h.dtype))

    def step(
        self, x: Float[Array, "b m i"], cache: RecurrentCache, encoded: Encoded
    ) -> tuple[Float[Array, "b m r"], RecurrentCache]:
        """The next place of each hypothesis."""
        heard, cache, _ = self.advance(x, cache, encoded.source, False)
        return self.speak(x, *heard), cache

    def _fed_back(self) -> int:
        return 0


class SutskeverDecoder(RecurrentDecoder):
    """Knows the source by the state it starts from, and says its top layer's (Sutskever et al. 2014)."""

    def read_source(self, memory: Memory) -> tuple[()]:
        """Nothing."""
        return ()

    def advance(self, x, cache, source, train):
        """One step."""
        carries, h = self.stack(cache.carries, x, train)
        return (h,), cache._replace(carries=carries), h[..., :0]

    def speak(self, x, *heard):
        """The state itself."""
        return heard[0]


class _ContextDecoder(RecurrentDecoder):
    """Reads a context c of the source at each step, ``h = cell([x; c])``, and says ``MaxoutReadout`` of x, h and c."""

    def setup(self):
        super().setup()
        self.readout = MaxoutReadout(self.config.rnn.readout_width or self.config.width)

    def context(self, cache: RecurrentCache, source: Any) -> tuple[Float[Array, "b m e"], Float[Array, "b m _"]]:
        """What this step reads of the source, and how much of each place of it."""
        raise NotImplementedError

    def advance(self, x, cache, source, train):
        """One step."""
        c, weights = self.context(cache, source)
        carries, h = self.stack(cache.carries, jnp.concatenate([x, c], axis=-1), train)
        return (h, c), cache._replace(carries=carries), weights

    def speak(self, x, *heard):
        """The readout."""
        return self.readout(x, *heard)


class ChoDecoder(_ContextDecoder):
    """The context is one summary of the source, the same at each step (Cho et al. 2014, appendix A.1).

    It is ``c = tanh(V h + b)`` of the encoder's highest layer's last state. The paper differs in two things: its first
    state is made of c, here by the bridge as in every design; and its reset gate falls on what the new state reads of c
    too, here on what it reads of the last state.
    """

    def setup(self):
        super().setup()
        self.summary = Dense(self.config.width, ("embed", "mlp"))

    def read_source(self, memory: Memory) -> Float[Array, "b d"]:
        """The summary."""
        return jnp.tanh(self.summary(memory.summaries[-1][0]))

    def context(self, cache, source):
        """The summary, read from nowhere in particular."""
        c = jnp.repeat(source[:, None], cache.output.shape[1], axis=1)
        return c, c[..., :0]


class BahdanauDecoder(_ContextDecoder):
    """The context is what the top cell's state before the step attends to (Bahdanau et al. 2015, section A.2.2).

    The readout is of the state after it, as their equation 4 has it.
    """

    def setup(self):
        super().setup()
        self.attend = Attention(_score(self.config))

    def read_source(self, memory: Memory) -> Attended:
        """Keys and values of the source."""
        return self.attend.read(memory)

    def context(self, cache, source):
        """What attention finds."""
        return self.attend(cache.carries[-1][0], source)


class LuongDecoder(RecurrentDecoder):
    """Attends by the state after the step, and says ``tanh(W [c; h] + b)`` (Luong et al. 2015, equation 5).

    With input feeding, the next step reads what was said beside the next word (their section 3.3). The state is the top
    layer's, with its input added where the layer is residual.
    """

    def setup(self):
        super().setup()
        self.attend = Attention(_score(self.config))
        self.readout = Dense(self.config.rnn.readout_width or self.config.width, ("embed", "mlp"))

    def read_source(self, memory: Memory) -> Attended:
        """Keys and values of the source."""
        return self.attend.read(memory)

    def advance(self, x, cache, source, train):
        """One step."""
        carries, h = self.stack(cache.carries, jnp.concatenate([x, cache.output], axis=-1), train)
        c, weights = self.attend(h, source)
        output = jnp.tanh(self.readout(jnp.concatenate([c, h], axis=-1)))
        return (output,), RecurrentCache(carries, output[..., : self._fed_back()]), weights

    def speak(self, x, *heard):
        """That output, which the next step may have to wait for."""
        return heard[0]

    def _fed_back(self) -> int:
        return (self.config.rnn.readout_width or self.config.width) if self.config.rnn.input_feeding else 0


class MaxoutReadout(nn.Module):
    """The larger of each two of ``W [x; h; c] + b`` (Goodfellow et al. 2013; Bahdanau et al. 2015, section A.2.2).

    Attributes:
      width: number of pairs.
    """

    width: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b l i"], h: Float[Array, "b l d"], c: Float[Array, "b l e"]
    ) -> Float[Array, "b l r"]:
        """Of the last word, the new state and what is known of the source."""
        both = Dense(2 * self.width, ("embed", "mlp"))(jnp.concatenate([x, h, c], axis=-1))
        return both.reshape(*both.shape[:-1], self.width, 2).max(-1)


def _score(config: ModelConfig) -> nn.Module:
    return make_score(config.rnn.attention, config.width, config.rnn.attention_width or config.width)


DECODERS = {
    "sutskever": SutskeverDecoder,
    "cho": ChoDecoder,
    "bahdanau": BahdanauDecoder,
    "luong": LuongDecoder,
}
