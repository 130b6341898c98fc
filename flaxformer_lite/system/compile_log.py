"""Compiled functions that say when they compile, how long that took, and why it happened again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import jax

from flaxformer_lite.errors import InputError

logger = logging.getLogger(__name__)


class LoggedJit:
    """A compiled function that says when it compiles, that is when it meets new shapes, and how long that took.

    Whoever sees nothing move for minutes does not know whether anything is happening. A program that is compiled again
    for shapes it has seen is a fault; what changed is said.

    Args:
      function: takes a state and a batch.
      name: what it does, for people.
      limit: the most programs that it may be compiled to; 0: any number.

    Attributes:
      compile_seconds: seconds spent so far on calls that compiled.
    """

    def __init__(self, function: Callable[..., Any], name: str, limit: int = 0):
        self._function = function
        self._name = name
        self._limit = limit
        self._programs = 0
        self.compile_seconds = 0.0
        self._seen: dict[tuple[tuple[int, ...], ...], dict[str, str]] = {}

    def __call__(self, state: Any, batch: Any) -> Any:
        """Calls the function; the shapes of ``batch`` are those that vary.

        Raises:
          InputError: this would be, or was, one program too many.
        """
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves(batch))
        if shapes in self._seen:
            return self._call_again(shapes, state, batch)
        sizes = dict.fromkeys("×".join(map(str, shape)) for shape in shapes if len(shape) > 1 and 0 not in shape)
        self._count(f"for {', '.join(sizes)}; lower config.data.num_buckets in another work folder, or raise the limit")
        self._seen[shapes] = _describe(state, batch)
        logger.info(f"compiling the {self._name} for {', '.join(sizes)} …")
        start, before = time.monotonic(), _requested.count - _loaded.count
        result = self._function(state, batch)
        anew = _requested.count - _loaded.count > before
        seconds = time.monotonic() - start
        self.compile_seconds += seconds
        took = f"in {seconds:.1f} s"
        logger.info(f"compiled {took}" if anew else f"loaded {took}: an earlier start compiled it")
        return result

    def _call_again(self, shapes: tuple[tuple[int, ...], ...], state: Any, batch: Any) -> Any:
        requested = _requested.count
        result = self._function(state, batch)
        if _requested.count > requested:
            before, now = self._seen[shapes], _describe(state, batch)
            changes = [f"{name}: {before.get(name)} → {what}" for name, what in now.items() if before.get(name) != what]
            why = "; ".join(changes) or "nothing that can be seen in its arguments"
            logger.info(f"compiled the {self._name} again, although it had been for these shapes; what changed: {why}")
            self._count(f"again ({why}); raise the limit")
            self._seen[shapes] = now
        return result

    def _count(self, what: str) -> None:
        self._programs += 1
        if 0 < self._limit < self._programs:
            raise InputError(
                f"config.train.max_compiles={self._limit}: the {self._name} is compiled once more, {what} (0: none)"
            )


class _Counter:
    """How often jax has told of an event."""

    def __init__(self, event: str):
        self.count = 0
        self._event = event
        jax.monitoring.register_event_listener(self._listen)
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, *_: float, **__: Any) -> None:
        self.count += event == self._event


_requested = _Counter("/jax/core/compile/backend_compile_duration")  # compiled, or loaded in its stead
_loaded = _Counter("/jax/compilation_cache/cache_hits")


def _describe(state: Any, batch: Any) -> dict[str, str]:
    """By the name of each array what a program is compiled for."""

    def describe(x: Any) -> str:
        weak = "weak " * bool(getattr(x, "weak_type", False))
        return f"{weak}{x.dtype}{list(x.shape)} {getattr(x, 'sharding', '')}".rstrip()

    leaves = jax.tree.leaves_with_path({"state": state, "batch": batch})
    return {jax.tree_util.keystr(path, simple=True, separator="."): describe(x) for path, x in leaves}
