"""Parameters by their paths, such as ``encoder/layers_0/self_attention/query``."""

from __future__ import annotations

from typing import Any

import jax


def path_of(key: Any) -> str:
    """Of a key of ``jax.tree.leaves_with_path``."""
    return jax.tree_util.keystr(key, simple=True, separator="/")


def flat(tree: Any) -> dict[str, Any]:
    """All leaves by their paths."""
    return {path_of(key): leaf for key, leaf in jax.tree.leaves_with_path(tree)}


def nested(leaves: dict[str, Any]) -> dict[str, Any]:
    """The tree of leaves by their paths."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *groups, name = path.split("/")
        inner = tree
        for group in groups:
            inner = inner.setdefault(group, {})
        inner[name] = leaf
    return tree
