"""Compiled functions that say when they compile."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax

from flaxformer_lite.report import say


class Announced:
    """A compiled function that says when it compiles, that is when it meets new shapes, and how long that took.

    Whoever sees nothing move for minutes does not know whether anything is happening.
    """

    def __init__(self, function: Callable[..., Any], name: str):
        self._function = function
        self._name = name
        self._seen: set[tuple[tuple[int, ...], ...]] = set()

    def __call__(self, state: Any, batch: Any) -> Any:
        """Calls the function; the shapes of ``batch`` are those that vary."""
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves(batch))
        if shapes in self._seen:
            return self._function(state, batch)
        self._seen.add(shapes)
        sizes = dict.fromkeys("×".join(map(str, shape)) for shape in shapes if len(shape) > 1 and 0 not in shape)
        say(f"compiling the {self._name} for {', '.join(sizes)} …")
        start = time.monotonic()
        result = self._function(state, batch)
        say(f"compiled in {time.monotonic() - start:.1f} s")
        return result
