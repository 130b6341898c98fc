"""Multi-head attention over a sequence, over the source and over the KV cache of a search."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from flaxformer_lite.config.model_dataclasses import StackConfig
from flaxformer_lite.decoding_types import AnyArray
from flaxformer_lite.models.layers.dropout import Dropout
from flaxformer_lite.models.layers.initializers import kernel_init
from flaxformer_lite.models.layers.linear import add_bias, bias_param, constrain_activations, matmul_last, soft_cap
from flaxformer_lite.models.layers.positions import RotaryAngles, apply_rope

MASKED = -1e9  # logit of a masked position; finite, so that a row of padding alone yields no NaN
GLOBAL_SPAN = 2**30  # more tokens than any row has


class KeyValue(NamedTuple):
    """Keys and values by head; keys are transposed, so that their product with queries needs no transpose."""

    keys: Float[Array, "*b h k l"]
    values: Float[Array, "*b h l k"]


class AttentionContext(NamedTuple):
    """What attention of queries q to positions l depends on beside their vectors.

    Over a KV cache there is one query q per hypothesis, positions l belong to beams j, and fields have a second axis j.

    Attributes:
      mask: which positions may be attended to.
      distances: position minus query position; of self-attention only.
      bias: added to the logits.
      rope: rotary angles of the queries, and of the keys at the same positions.
    """

    mask: Bool[Array, "b *j #q l"]
    distances: Any = ()
    bias: tuple[Float[Array, "#b *j h q l"], ...] = ()
    rope: tuple[RotaryAngles, ...] = ()


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention in several heads (Vaswani et al. 2017, section 3.2).

    Keys and values are projected separately (``project``), because they are stored: those of a source once, those of a
    hypothesis one token per step. Groups of query heads share a key and value head if there are fewer of these.

    Attributes:
      weight_init: ``model.init``.
      kv_dim: width of what is attended to.
    """

    config: StackConfig
    weight_init: str
    kv_dim: int

    def setup(self):
        c, head_size, biased = self.config, self.config.head_size, self.config.attention.bias
        heads, kv_heads = (c.num_heads, head_size), (c.kv_heads, head_size)
        scalar = c.attention.query_pre_attn_scalar or head_size
        self.scale = scalar**-0.5
        self.drop = Dropout(c.attention.dropout)

        def projection(name: str, width: int, heads: tuple[int, int], factor: float = 1.0) -> Any:
            init = kernel_init(self.weight_init, in_axis=0, out_axis=(1, 2), factor=factor)
            init: Any = nn.with_logical_partitioning(init, ("embed", "heads", "head_dim"))
            return self.param(name, init, (width, *heads))

        # The factor gives scaled queries the same variance for every query_pre_attn_scalar.
        self.query = projection("query", c.width, heads, (scalar / head_size) ** 0.5)
        self.key, self.value = (projection(name, self.kv_dim, kv_heads) for name in ("key", "value"))
        self.query_bias, self.key_bias, self.value_bias = (
            bias_param(self, f"{name}_bias", biased, shape, ("heads", "head_dim"))
            for name, shape in (("query", heads), ("key", kv_heads), ("value", kv_heads))
        )
        init = kernel_init(self.weight_init, in_axis=(0, 1), out_axis=2)
        init: Any = nn.with_logical_partitioning(init, ("heads", "head_dim", "embed"))
        self.out = self.param("out", init, (*heads, c.width))
        self.out_bias = bias_param(self, "out_bias", biased, (c.width,), ("embed",))

    def project(self, x: Float[Array, "*b l d"], rope: tuple[RotaryAngles, ...]) -> KeyValue:
        """Keys, rotated, and values of x."""
        keys = _by_head(apply_rope(self._heads(x, self.key, self.key_bias), rope))
        return KeyValue(jnp.swapaxes(keys, -1, -2), _by_head(self._heads(x, self.value, self.value_bias)))

    def __call__(
        self, x: Float[Array, "b q d"], attended: KeyValue, context: AttentionContext, train: bool
    ) -> Float[Array, "b q d"]:
        """Attention of queries from x.

        Written by hand on CPUs, where ``jax.nn.dot_product_attention`` gains nothing (0.98 of a training step, 1.02 of
        a decoding step), and where it offers nothing: soft cap, the own dropout, caches of several beams.
        """
        if _has_cudnn() and self._is_fusible(x, attended, context, train):
            return self._merge(self.fused(x, attended, context, "cudnn"))
        weights = self._grouped(self.weights(x, attended, context, train)).astype(x.dtype)
        return self._merge(self._ungrouped(jnp.einsum("bhql,bhlk->bhqk", weights, attended.values)))

    def weights(
        self, x: Float[Array, "b q d"], attended: KeyValue, context: AttentionContext, train: bool
    ) -> Float[Array, "b h q l"]:
        """Attention weights by head, in float32."""
        logits = _logits("bhqk,bhkl->bhql", self._grouped(self._queries(x, context)), attended.keys)
        return self._softmax(self._ungrouped(logits), context, axis=-1, train=train)

    def fused(
        self, x: Float[Array, "b q d"], attended: KeyValue, context: AttentionContext, implementation: Any
    ) -> Float[Array, "b h q k"]:
        """The attended values of each head by ``jax.nn.dot_product_attention``."""
        queries, values = (jnp.swapaxes(heads, 1, 2) for heads in (self._queries(x, context), attended.values))
        keys = jnp.moveaxis(attended.keys, -1, 1)
        shape = x.shape[0], 1, x.shape[1], keys.shape[1]
        bias = sum(context.bias[1:], context.bias[0]).astype(x.dtype) if context.bias else None
        mask = jnp.broadcast_to(context.mask[:, None], shape)
        found = jax.nn.dot_product_attention(
            queries, keys, values, bias, mask, scale=1.0, implementation=implementation
        )
        return jnp.swapaxes(found, 1, 2)

    def _is_fusible(self, x, attended, context, train):
        """Whether cuDNN has a kernel for this, by the conditions of jax 0.10."""
        c, lengths = self.config, (x.shape[1], attended.keys.shape[-1])
        sized = x.dtype == jnp.bfloat16 and c.head_size % 8 == 0 and c.head_size <= 128
        plain = not c.attention.soft_cap and not (train and c.attention.dropout)
        return sized and plain and (not context.bias or all(length % 2 == 0 for length in lengths))

    def over_beams(
        self, x: Float[Array, "b m d"], attended: KeyValue, context: AttentionContext
    ) -> Float[Array, "b m d"]:
        """Attention of one token per hypothesis to the keys and values of all beams j.

        ``context.mask[b, j, m, l]``: beam j wrote position l of hypothesis m. So nothing is copied when hypotheses are
        reordered; the keys of all beams are read either way.
        """
        queries = self._grouped(self._queries(x, context))[:, None]
        per_beam = jnp.broadcast_to(queries, attended.keys.shape[:2] + queries.shape[2:])  # or XLA transposes all keys
        logits = self._ungrouped(_logits("bjhmk,bjhkl->bjhml", per_beam, attended.keys))
        weights = self._grouped(self._softmax(logits, context, axis=(1, 4), train=False)).astype(x.dtype)
        return self._merge(self._ungrouped(jnp.einsum("bjhml,bjhlk->bjhmk", weights, attended.values).sum(1)))

    def _heads(self, x, kernel, bias):
        return constrain_activations(add_bias(matmul_last(x, kernel), bias), "heads", None)

    def _queries(self, x, context):
        return _by_head(apply_rope(self._heads(x, self.query, self.query_bias), context.rope)) * self.scale

    def _softmax(self, logits, context, axis, train):
        logits = sum(context.bias, soft_cap(logits, self.config.attention.soft_cap))
        weights = jax.nn.softmax(jnp.where(context.mask[..., None, :, :], logits, MASKED), axis=axis)
        return self.drop(weights, train)

    def _grouped(self, x: Float[Array, "*b h q _"]) -> Float[Array, "*b g _ _"]:
        """Merges query heads that share keys and values into one head with more queries, so that no key is copied."""
        return x.reshape(*x.shape[:-3], self.config.kv_heads, -1, x.shape[-1])

    def _ungrouped(self, x: Float[Array, "*b g _ _"]) -> Float[Array, "*b h q _"]:
        """The inverse."""
        queries = x.shape[-2] * self.config.kv_heads // self.config.num_heads
        return x.reshape(*x.shape[:-3], self.config.num_heads, queries, x.shape[-1])

    def _merge(self, values: Float[Array, "b h q k"]) -> Float[Array, "b q d"]:
        b, _, q, _ = values.shape
        y = matmul_last(jnp.moveaxis(values, 1, 2).reshape(b, q, -1), self.out.reshape(-1, self.config.width))
        return constrain_activations(add_bias(y, self.out_bias))


def _by_head(x: Float[Array, "*b l h k"]) -> Float[Array, "*b h l k"]:
    return jnp.moveaxis(x, -2, -3)


def _has_cudnn() -> bool:
    return jax.default_backend() == "gpu" and "cuda" in jax.devices()[0].client.platform_version


_logits = partial(jnp.einsum, preferred_element_type=jnp.float32)


def segment_mask(queries: Int[AnyArray, "b q"], attended: Int[AnyArray, "b l"]) -> Bool[Array, "b q l"]:
    """Tokens attend to their own segment; padding (segment 0) neither attends nor is attended to."""
    return (queries[:, :, None] == attended[:, None, :]) & (queries[:, :, None] != 0)


def causal_mask(length: int) -> Bool[Array, "1 l l"]:
    """Tokens attend to themselves and to earlier ones."""
    return jnp.tril(jnp.ones((1, length, length), bool))


def attention_spans(config: StackConfig, causal: bool) -> tuple[int, ...]:
    """For each layer the distance from which on positions are masked, by ``attention.layer_pattern``.

    A sliding window of w is the token itself and w - 1 before it; in an encoder, itself and w on either side (T5Gemma,
    Zhang et al. 2025, and its code).
    """
    spans = {"global": GLOBAL_SPAN, "local": config.attention.sliding_window + (0 if causal else 1)}
    pattern = config.attention.layer_pattern
    return tuple(spans[pattern[layer % len(pattern)]] for layer in range(config.num_layers))


def within_span(config: StackConfig, context: AttentionContext, span: Any) -> AttentionContext:
    """The context of a layer with this span, a number or a scalar array."""
    if not config.attention.sliding_window:
        return context
    return context._replace(mask=context.mask & (jnp.abs(context.distances) < span))
