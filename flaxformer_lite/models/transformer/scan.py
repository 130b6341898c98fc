"""Scanned Transformer stacks: one layer is compiled and scanned over stacked parameters, for fast compilation.

They are for training. Decoding uses the same weights with separate layers; ``unstack_layers`` and ``stack_layers``
convert between the two layouts.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flaxformer_lite.errors import InputError
from flaxformer_lite.models.interface import EncoderOutput
from flaxformer_lite.models.layers.attention import AttentionContext, within_span
from flaxformer_lite.models.layers.remat import rematerialize
from flaxformer_lite.models.transformer.layers import DecoderLayer
from flaxformer_lite.models.transformer.stack import (
    TrainableTransformerDecoder,
    TransformerEncoded,
    TransformerEncoder,
    TransformerStack,
)


class _ScannedStack(TransformerStack):
    """A stack whose parameters are those of one layer with a leading axis of layers."""

    def make_layers(self) -> nn.Module:
        return self.make_layer()

    def scan(
        self, apply: Callable[..., Array], x: Float[Array, "b l d"], context: AttentionContext
    ) -> Float[Array, "b l d"]:
        """``apply(layer, x, own context of the layer)`` of each layer, lowest first."""

        def step(layer: nn.Module, x: Array, span: Array) -> tuple[Array, None]:
            return apply(layer, x, within_span(self.config, context, span)), None

        scan = nn.scan(
            rematerialize(step, self.remat),
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            length=self.config.num_layers,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        return scan(self.layers, x, jnp.array(self.spans))[0]


class ScannedEncoder(_ScannedStack, TransformerEncoder):
    """Scanned Transformer encoder; implements ``Encoder``."""

    def apply_layers(self, x, context, train):
        return self.scan(lambda layer, x, own: layer(x, own, train), x, context)


class ScannedDecoder(_ScannedStack, TrainableTransformerDecoder):
    """Scanned Transformer decoder, for training only; implements ``TrainableDecoder``.

    Each layer projects the source itself, so that one loop is enough.
    """

    def project_source(self, encoder_output: EncoderOutput) -> TransformerEncoded:
        return TransformerEncoded(encoder_output.states, encoder_output.segments)

    def apply_layers(self, x, context, encoded, source_context, train):
        def apply(layer: DecoderLayer, x: Array, own: AttentionContext) -> Array:
            return layer(x, own, layer.project_source(encoded.layers), source_context, train)

        return self.scan(apply, x, context)


def unstack_layers(tree: Any, take: Callable[[Any, int], Any] = operator.getitem) -> Any:
    """``layers`` of parameters, or of optimizer state → ``layers_0``, ``layers_1``, …; other trees stay as they are.

    ``take`` maps an array of all layers and the number of a layer to the array of that layer.

    Raises:
      InputError: a group of layers has no arrays, so that their number is unknown.
    """

    def unstack(node: Any) -> Any:
        if not _is_dict(node):
            return node
        node = {name: unstack_layers(inner, take) for name, inner in node.items()}
        if layers := node.pop("layers", None):
            if not jax.tree.leaves(layers):
                raise InputError(
                    "config.model.scan_layers",
                    "the optimizer has no moments of layers that config.optim.frozen keeps unchanged, so they cannot "
                    "be converted",
                    "resume with the value that the run began with",
                )
            for number in range(jax.tree.leaves(layers)[0].shape[0]):
                node[f"layers_{number}"] = jax.tree.map(lambda array, at=number: take(array, at), layers)
        return node

    return jax.tree.map(unstack, tree, is_leaf=_is_dict)


def stack_layers(tree: Any, stack: Callable[[list[Any]], Any] = jnp.stack) -> Any:
    """The inverse of ``unstack_layers``; ``stack`` maps the arrays of all layers, lowest first, to one array."""

    def stacked(node: Any) -> Any:
        if not _is_dict(node):
            return node
        node = {name: stack_layers(inner, stack) for name, inner in node.items()}
        numbers = range(sum(re.fullmatch(r"layers_\d+", name) is not None for name in node))
        if layers := [node.pop(f"layers_{number}") for number in numbers]:
            node["layers"] = jax.tree.map(lambda *arrays: stack(list(arrays)), *layers)
        return node

    return jax.tree.map(stacked, tree, is_leaf=_is_dict)


def _is_dict(node: Any) -> bool:
    return isinstance(node, dict)
