"""Recurrent decoders: a stack of cells that is initialized from the source, and reads it in one of four ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flaxformer_lite.config.model_dataclasses import StackConfig
from flaxformer_lite.models.interface import EncoderOutput
from flaxformer_lite.models.layers.dropout import Dropout
from flaxformer_lite.models.layers.linear import Dense
from flaxformer_lite.models.rnn.attention import RnnSource, make_rnn_attention
from flaxformer_lite.models.rnn.cells import CELLS, Carry, is_residual, make_recurrent_layer, scan_time
from flaxformer_lite.types import Tokens


class RnnEncoded(NamedTuple):
    """The sources as a recurrent decoder reads them.

    Attributes:
      initial: the state of each layer before the first token.
      source: what each step reads of the source.
    """

    initial: tuple[Carry, ...]
    source: Any


class RnnCache(NamedTuple):
    """State of the hypotheses of a search; implements ``Cache``.

    Attributes:
      carries: the state of each layer.
      output: the previous step's output with input feeding; else of width 0.
    """

    carries: tuple[Carry, ...]
    output: Float[Array, "b m r"]

    def select(self, parents: Int[Array, "b m"]) -> RnnCache:
        return jax.tree.map(lambda leaf: jnp.take_along_axis(leaf, parents[:, :, None], axis=1), self)


class CellStack(nn.Module):
    """Layers of cells, one step at a time."""

    config: StackConfig

    def setup(self):
        self.cells = [make_recurrent_layer(self.config) for _ in range(self.config.num_layers)]

    def __call__(
        self, carries: tuple[Carry, ...], x: Float[Array, "b m i"], train: bool
    ) -> tuple[tuple[Carry, ...], Float[Array, "b m d"]]:
        """The states after reading x, and the output of the top layer."""
        after = []
        for number, (cell, carry) in enumerate(zip(self.cells, carries, strict=True), start=1):
            after.append(cell(carry, cell.project_input(x, train), train))
            x = after[-1][0] + x if is_residual(self.config, number) else after[-1][0]
        return tuple(after), x


class CopyBridge(nn.Module):
    """The decoder's layers start from the encoder's last states (Sutskever et al. 2014)."""

    config: StackConfig

    def __call__(self, summaries: tuple[Carry, ...]) -> tuple[Carry, ...]:
        """The state of each layer before the first token."""
        return summaries


class DenseBridge(nn.Module):
    """Each of the decoder's initial states is ``tanh(W x + b)`` of the encoder's last state at the same height.

    Heights are counted from the top; decoder layers below the encoder's lowest read that one. x is the whole state of
    the encoder's layer, of both directions (Bahdanau et al. 2015, section A.2.2, take the backward one).
    """

    config: StackConfig

    @nn.compact
    def __call__(self, summaries: tuple[Carry, ...]) -> tuple[Carry, ...]:
        """The state of each layer before the first token."""
        initial = []
        for height in range(self.config.num_layers, 0, -1):
            x = jnp.concatenate(summaries[-min(height, len(summaries))], axis=-1)
            arrays = range(CELLS[self.config.rnn.cell].num_state_arrays)
            dense = [Dense(self.config.width, ("embed", "mlp")) for _ in arrays]
            initial.append(tuple(jnp.tanh(to_state(x)) for to_state in dense))
        return tuple(initial)


class RnnDecoder(nn.Module):
    """Base of the recurrent decoders, which implement ``SearchableDecoder``.

    Training scans over ``cell_step``, which a search calls once per token; ``outputs``, which no step waits for, is
    computed for all positions at once. By default it is the first array of a step, which reads nothing of the source.
    """

    config: StackConfig
    remat: str

    def setup(self):
        c = self.config
        self.stack = CellStack(c)
        self.bridge = {"copy": CopyBridge, "dense": DenseBridge}[c.rnn.bridge](c)
        self.drop = Dropout(c.dropout, broadcast_dims=(1,) if c.rnn.variational_dropout else ())

    def project_states(self, encoder_output: EncoderOutput) -> Any:
        """What each step reads of the source."""
        return ()

    def cell_step(
        self, x: Float[Array, "b m i"], cache: RnnCache, source: Any, train: bool
    ) -> tuple[tuple[Float[Array, "b m _"], ...], RnnCache, Float[Array, "b m _"]]:
        """One step: the arrays that ``outputs`` needs, the state after it, and the attention weights."""
        raise NotImplementedError

    def outputs(self, x: Float[Array, "b l i"], *step_outputs: Float[Array, "b l _"]) -> Float[Array, "b l r"]:
        """The decoder's outputs, from the embeddings and the arrays of ``cell_step``."""
        return step_outputs[0]

    def project_source(self, encoder_output: EncoderOutput) -> RnnEncoded:
        return RnnEncoded(self.bridge(encoder_output.summaries), self.project_states(encoder_output))

    def __call__(
        self, x: Float[Array, "b t i"], target_in: Tokens, encoded: RnnEncoded, train: bool
    ) -> Float[Array, "b t r"]:
        def step(self: RnnDecoder, cache: RnnCache, x: Array) -> tuple[RnnCache, Any]:
            step_outputs, cache, _ = self.cell_step(x[:, None], cache, encoded.source, train)
            return cache, tuple(part[:, 0] for part in step_outputs)

        return self.drop(self.outputs(x, *self._scan(step, x, encoded)), train)

    def attention(self, x: Float[Array, "b t i"], target_in: Tokens, encoded: RnnEncoded) -> Float[Array, "b t _"]:
        def step(self: RnnDecoder, cache: RnnCache, x: Array) -> tuple[RnnCache, Array]:
            _, cache, weights = self.cell_step(x[:, None], cache, encoded.source, False)
            return cache, weights[:, 0]

        return self._scan(step, x, encoded)

    def _scan(self, step: Callable[..., Any], x: Float[Array, "b t i"], encoded: RnnEncoded) -> Any:
        scan = scan_time(step, self.config, self.remat)
        return scan(self, self.init_cache(encoded, 1, x.shape[1]), x)[1]

    def init_cache(self, encoded: RnnEncoded, beams: int, max_length: int) -> RnnCache:
        carries = jax.tree.map(lambda x: jnp.repeat(x[:, None], beams, axis=1), encoded.initial)
        h = carries[0][0]
        return RnnCache(carries, jnp.zeros((*h.shape[:2], self._feedback_dim()), h.dtype))

    def step(
        self, x: Float[Array, "b m i"], cache: RnnCache, encoded: RnnEncoded
    ) -> tuple[Float[Array, "b m r"], RnnCache]:
        step_outputs, cache, _ = self.cell_step(x, cache, encoded.source, False)
        return self.outputs(x, *step_outputs), cache

    def _feedback_dim(self) -> int:
        return 0


class SutskeverDecoder(RnnDecoder):
    """The source is read through the initial state only; outputs are the top layer's (Sutskever et al. 2014)."""

    def cell_step(self, x, cache, source, train):
        carries, h = self.stack(cache.carries, x, train)
        return (h,), cache._replace(carries=carries), h[..., :0]


class _ContextDecoder(RnnDecoder):
    """Reads a context vector c of the source at each step, ``h = cell([x; c])``; outputs are a ``MaxoutReadout``."""

    def setup(self):
        super().setup()
        self.readout = MaxoutReadout(self.config.readout_dim)

    def context(self, cache: RnnCache, source: Any) -> tuple[Float[Array, "b m e"], Float[Array, "b m _"]]:
        """The context vector of a step, and the attention weights."""
        raise NotImplementedError

    def cell_step(self, x, cache, source, train):
        c, weights = self.context(cache, source)
        carries, h = self.stack(cache.carries, jnp.concatenate([x, c], axis=-1), train)
        return (h, c), cache._replace(carries=carries), weights

    def outputs(self, x, *step_outputs):
        return self.readout(x, *step_outputs)


class ChoDecoder(_ContextDecoder):
    """The context is one summary of the source, the same at each step (Cho et al. 2014, appendix A.1).

    It is ``c = tanh(V h + b)`` of the last state of the encoder's top layer. The paper differs in two things: its
    initial state is computed from c, here by the bridge as in every design; and its reset gate also multiplies what the
    new state reads of c, here only what it reads of the last state.
    """

    def setup(self):
        super().setup()
        self.summary = Dense(self.config.width, ("embed", "mlp"))

    def project_states(self, encoder_output):
        return jnp.tanh(self.summary(encoder_output.summaries[-1][0]))

    def context(self, cache, source):
        c = jnp.repeat(source[:, None], cache.output.shape[1], axis=1)
        return c, c[..., :0]


class BahdanauDecoder(_ContextDecoder):
    """The context is attention of the top cell's state before the step (Bahdanau et al. 2015, section A.2.2).

    The readout is of the state after it, as in their equation 4.
    """

    def setup(self):
        super().setup()
        self.attend = make_rnn_attention(self.config)

    def project_states(self, encoder_output: EncoderOutput) -> RnnSource:
        return self.attend.project_states(encoder_output)

    def context(self, cache, source):
        return self.attend(cache.carries[-1][0], source)


class LuongDecoder(RnnDecoder):
    """Attention of the state after the step; outputs are ``tanh(W [c; h] + b)`` (Luong et al. 2015, equation 5).

    With input feeding, the next step reads the output beside the next token (their section 3.3). The state is the top
    layer's, with its input added if the layer is residual.
    """

    def setup(self):
        super().setup()
        self.attend = make_rnn_attention(self.config)
        self.readout = Dense(self.config.readout_dim, ("embed", "mlp"))

    def project_states(self, encoder_output: EncoderOutput) -> RnnSource:
        return self.attend.project_states(encoder_output)

    def cell_step(self, x, cache, source, train):
        carries, h = self.stack(cache.carries, jnp.concatenate([x, cache.output], axis=-1), train)
        c, weights = self.attend(h, source)
        output = jnp.tanh(self.readout(jnp.concatenate([c, h], axis=-1)))  # here, because input feeding reads it
        return (output,), RnnCache(carries, output[..., : self._feedback_dim()]), weights

    def _feedback_dim(self) -> int:
        return self.config.readout_dim if self.config.rnn.input_feeding else 0


class MaxoutReadout(nn.Module):
    """The maximum of each pair of ``W [x; h; c] + b`` (Goodfellow et al. 2013; Bahdanau et al. 2015, section A.2.2).

    Attributes:
      width: number of pairs.
    """

    width: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "b l i"], h: Float[Array, "b l d"], c: Float[Array, "b l e"]
    ) -> Float[Array, "b l r"]:
        pairs = Dense(2 * self.width, ("embed", "mlp"))(jnp.concatenate([x, h, c], axis=-1))
        return pairs.reshape(*pairs.shape[:-1], self.width, 2).max(-1)


RNN_DECODERS = {
    "sutskever": SutskeverDecoder,
    "cho": ChoDecoder,
    "bahdanau": BahdanauDecoder,
    "luong": LuongDecoder,
}
