"""Logging of compilations: for which shapes, how long they take, and why a function is compiled again."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import Any

from flaxformer_lite.errors import InputError

logger = logging.getLogger(__name__)


class LoggedJit:
    """A jitted function that logs each compilation and its duration, since nothing else happens for minutes.

    A second compilation for the same shapes is a fault; the log then lists the arguments that changed.

    Args:
      function: takes a state and a batch.
      name: of the function, for messages.
      limit: the largest number of programs that it may be compiled to; 0: any number.

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
          InputError: the limit of programs is exceeded.
        """
        import jax  # deferred, as in all of system/: commands that need no arrays start without it

        shapes = tuple(leaf.shape for leaf in jax.tree.leaves(batch))
        if shapes in self._seen:
            return self._call_again(shapes, state, batch)
        sizes = dict.fromkeys("×".join(map(str, shape)) for shape in shapes if len(shape) > 1 and 0 not in shape)
        self._count(
            f"for {', '.join(sizes)}", "lower config.data.num_buckets in another work directory, or raise the limit"
        )
        self._seen[shapes] = _describe(state, batch)
        logger.info(f"compiling the {self._name} for {', '.join(sizes)} …")
        events = _compile_events()
        start, before = time.monotonic(), events.requested - events.loaded
        result = self._function(state, batch)
        anew = events.requested - events.loaded > before
        seconds = time.monotonic() - start
        self.compile_seconds += seconds
        took = f"in {seconds:.1f} s"
        logger.info(f"compiled {took}" if anew else f"loaded {took} from the compilation cache")
        return result

    def _call_again(self, shapes: tuple[tuple[int, ...], ...], state: Any, batch: Any) -> Any:
        events = _compile_events()
        requested = events.requested
        result = self._function(state, batch)
        if events.requested > requested:
            before, now = self._seen[shapes], _describe(state, batch)
            changes = [f"{name}: {before.get(name)} → {what}" for name, what in now.items() if before.get(name) != what]
            why = "; ".join(changes) or "nothing that its arguments show"
            logger.info(f"compiled the {self._name} again for the same shapes; what changed: {why}")
            self._count(f"again ({why})", "raise the limit")
            self._seen[shapes] = now
        return result

    def _count(self, what: str, remedy: str) -> None:
        self._programs += 1
        if 0 < self._limit < self._programs:
            subject = f"config.train.max_compiles={self._limit}"
            raise InputError(subject, f"the {self._name} is compiled once more, {what}", f"{remedy} (0: none)")


class _CompileEvents:
    """Counts of the programs that jax has compiled or loaded, and of those that it has loaded from its cache."""

    def __init__(self):
        import jax

        self.requested = self.loaded = 0
        jax.monitoring.register_event_listener(self._listen)
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, *_: float, **__: Any) -> None:
        self.requested += event == "/jax/core/compile/backend_compile_duration"
        self.loaded += event == "/jax/compilation_cache/cache_hits"


_compile_events = functools.cache(_CompileEvents)


def _describe(state: Any, batch: Any) -> dict[str, str]:
    """For each array, by name, the properties that a program is compiled for."""
    import jax

    def describe(x: Any) -> str:
        weak = "weak " * bool(getattr(x, "weak_type", False))
        return f"{weak}{x.dtype}{list(x.shape)} {getattr(x, 'sharding', '')}".rstrip()

    leaves = jax.tree.leaves_with_path({"state": state, "batch": batch})
    return {jax.tree_util.keystr(path, simple=True, separator="."): describe(x) for path, x in leaves}
