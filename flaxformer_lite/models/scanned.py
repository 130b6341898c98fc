"""A Transformer whose layers are one, compiled once and scanned over their weights, which lie side by side.

It is for training alone: of many equal layers it is what compiles soon. What decodes takes the same weights layer by
layer; ``layer_by_layer`` and ``side_by_side`` lead from one to the other.
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
from flaxformer_lite.models.attention import Sight
from flaxformer_lite.models.interface import Memory
from flaxformer_lite.models.remat import rematerialised
from flaxformer_lite.models.transformer import Encoded, TransformerDecoder, TransformerEncoder
from flaxformer_lite.models.transformer_layers import DecoderLayer, EncoderLayer


class ScannedEncoder(TransformerEncoder):
    """The same encoder; its parameters are those of one layer, each with a leading axis of layers."""

    def make_layers(self) -> EncoderLayer:
        """The one layer."""
        return EncoderLayer(self.config, self.half)

    def through(self, x: Float[Array, "b s d"], sight: Sight, train: bool) -> Float[Array, "b s d"]:
        """One layer after the other."""

        def advance(layer: EncoderLayer, x: Array, reach: Array) -> tuple[Array, None]:
            return layer(x, self.narrow(sight, reach), train), None

        scan = _over_layers(rematerialised(advance, self.config.remat), self.half.num_layers)
        return scan(self.layers, x, jnp.array(self.reaches))[0]


class ScannedDecoder(TransformerDecoder):
    """The same decoder for whole targets; each layer reads the sources itself, so that one loop is enough."""

    def make_layers(self) -> DecoderLayer:
        """The one layer."""
        return DecoderLayer(self.config, self.half, self.memory_width)

    def read(self, memory: Memory) -> Encoded:
        """The sources as they are."""
        return Encoded(memory.states, memory.segments)

    def through(
        self, x: Float[Array, "b t d"], sight: Sight, encoded: Encoded, source_sight: Sight, train: bool
    ) -> Float[Array, "b t d"]:
        """One layer after the other."""

        def advance(layer: DecoderLayer, x: Array, reach: Array) -> tuple[Array, None]:
            own = self.narrow(sight, reach)
            return layer(x, own, layer.project_source(encoded.layers), source_sight, train), None

        scan = _over_layers(rematerialised(advance, self.config.remat), self.half.num_layers)
        return scan(self.layers, x, jnp.array(self.reaches))[0]


def _over_layers(advance: Callable[..., Any], count: int) -> Callable[..., Any]:
    return nn.scan(
        advance,
        variable_axes={"params": 0},
        split_rngs={"params": True, "dropout": True},
        length=count,
        metadata_params={nn.PARTITION_NAME: "layers"},
    )


def layer_by_layer(tree: Any, part: Callable[[Any, int], Any] = operator.getitem) -> Any:
    """``layers`` of a tree → ``layers_0``, ``layers_1``, …; a tree of which nothing is side by side stays as it is.

    Args:
      tree: parameters, or what has such trees in it: an optimizer's state.
      part: what becomes of an array for the layer of this number.
    """

    def parted(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        node = {name: layer_by_layer(inner, part) for name, inner in node.items()}
        if layers := node.pop("layers", None):
            if not jax.tree.leaves(layers):
                raise InputError(
                    "config.model.scan_layers: nothing is kept of layers that config.optim.frozen leaves as they are, "
                    "so their moments cannot be brought into the other form; go on with the value that it began with"
                )
            for number in range(jax.tree.leaves(layers)[0].shape[0]):
                node[f"layers_{number}"] = jax.tree.map(lambda array, at=number: part(array, at), layers)
        return node

    return jax.tree.map(parted, tree, is_leaf=_is_dict)


def side_by_side(tree: Any, join: Callable[[list[Any]], Any] = jnp.stack) -> Any:
    """The inverse of ``layer_by_layer``.

    Args:
      tree: parameters, or what has such trees in it.
      join: what becomes of one array of all layers, lowest first.
    """

    def joined(node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        node = {name: side_by_side(inner, join) for name, inner in node.items()}
        numbers = range(sum(re.fullmatch(r"layers_\d+", name) is not None for name in node))
        if layers := [node.pop(f"layers_{number}") for number in numbers]:
            node["layers"] = jax.tree.map(lambda *arrays: join(list(arrays)), *layers)
        return node

    return jax.tree.map(joined, tree, is_leaf=_is_dict)


def _is_dict(node: Any) -> bool:
    return isinstance(node, dict)
