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
from flaxformer_lite.models.transformer.layers import DecoderLayer, EncoderLayer
from flaxformer_lite.models.transformer.stack import (
    TrainableTransformerDecoder,
    TransformerEncoded,
    TransformerEncoder,
)


class ScannedEncoder(TransformerEncoder):
    """Transformer encoder whose parameters are those of one layer with a leading axis of layers."""

    def make_layers(self) -> nn.Module:
        return self.make_layer()

    def apply_layers(self, x: Float[Array, "b s d"], context: AttentionContext, train: bool) -> Float[Array, "b s d"]:
        def apply(layer: EncoderLayer, x: Array, span: Array) -> tuple[Array, None]:
            return layer(x, within_span(self.config, context, span), train), None

        scan = _scan_layers(rematerialize(apply, self.remat), self.config.num_layers)
        return scan(self.layers, x, jnp.array(self.spans))[0]


class ScannedDecoder(TrainableTransformerDecoder):
    """Transformer decoder for training only; implements ``TrainableDecoder``.

    Each layer projects the source itself, so that one loop is enough.
    """

    def make_layers(self) -> nn.Module:
        return self.make_layer()

    def project_source(self, encoder_output: EncoderOutput) -> TransformerEncoded:
        return TransformerEncoded(encoder_output.states, encoder_output.segments)

    def apply_layers(
        self,
        x: Float[Array, "b t d"],
        context: AttentionContext,
        encoded: TransformerEncoded,
        source_context: AttentionContext,
        train: bool,
    ) -> Float[Array, "b t d"]:
        def apply(layer: DecoderLayer, x: Array, span: Array) -> tuple[Array, None]:
            own = within_span(self.config, context, span)
            return layer(x, own, layer.project_source(encoded.layers), source_context, train), None

        scan = _scan_layers(rematerialize(apply, self.remat), self.config.num_layers)
        return scan(self.layers, x, jnp.array(self.spans))[0]


def _scan_layers(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    return nn.scan(
        function,
        variable_axes={"params": 0},
        split_rngs={"params": True, "dropout": True},
        length=count,
        metadata_params={nn.PARTITION_NAME: "layers"},
    )


def unstack_layers(tree: Any, take: Callable[[Any, int], Any] = operator.getitem) -> Any:
    """``layers`` of a tree → ``layers_0``, ``layers_1``, …; a tree without stacked layers stays as it is.

    Args:
      tree: parameters, or a tree that contains parameters, such as optimizer state.
      take: maps an array of all layers and the number of a layer to the array of that layer.

    Raises:
      InputError: a group of layers has no arrays, so that their number is unknown.
    """

    def unstack(node: Any) -> Any:
        if not isinstance(node, dict):
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
    """The inverse of ``unstack_layers``.

    Args:
      tree: parameters, or a tree that contains parameters.
      stack: maps the arrays of all layers, lowest first, to one array.
    """

    def stacked(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        node = {name: stack_layers(inner, stack) for name, inner in node.items()}
        numbers = range(sum(re.fullmatch(r"layers_\d+", name) is not None for name in node))
        if layers := [node.pop(f"layers_{number}") for number in numbers]:
            node["layers"] = jax.tree.map(lambda *arrays: stack(list(arrays)), *layers)
        return node

    return jax.tree.map(stacked, tree, is_leaf=_is_dict)


def _is_dict(node: Any) -> bool:
    return isinstance(node, dict)
