"""Models small enough to enumerate. The next token depends on the whole history, so a wrong parent is detected."""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from flaxformer_lite.decoding.base import DecodeRequest, plain_request
from flaxformer_lite.decoding_types import Hypotheses
from flaxformer_lite.types import SpecialIds

SPECIAL = SpecialIds(pad=0, end=1, begin=2, unknown=3)
VOCABULARY = 6  # so three tokens besides the end can be generated: unknown, 4 and 5


class HiddenState(NamedTuple):
    """A cache of one array; ``select`` gathers the parents' rows."""

    hidden: jax.Array

    def select(self, parents) -> Self:
        return type(self)(jnp.take_along_axis(self.hidden, parents[:, :, None], axis=1))


@dataclass(frozen=True, eq=False)
class Recurrent:
    """A random recurrent network. Sources are vectors, which are inputs at every step."""

    inputs: np.ndarray
    transition: np.ndarray
    outputs: np.ndarray

    @classmethod
    def random(cls, seed: int, width: int = 5, bias: tuple[float, ...] = (0.0,) * VOCABULARY) -> Self:
        draw = np.random.default_rng(seed).normal
        outputs = np.concatenate([draw(size=(width, VOCABULARY)) * 2, np.array([bias])])  # the last row is the bias
        return cls(draw(size=(VOCABULARY, width)), draw(size=(width, width)), outputs.astype(np.float32))

    def start(self, rows: int, beams: int) -> HiddenState:
        return HiddenState(jnp.zeros((rows, beams, len(self.transition))))

    def sources(self, seed: int, rows: int) -> jax.Array:
        return jnp.asarray(np.random.default_rng(seed).normal(size=(rows, len(self.transition))), jnp.float32)

    def step(self, token, cache: HiddenState, encoded):
        hidden, logits = self._next(jnp, token, cache.hidden, encoded[:, None])
        return logits, HiddenState(hidden)

    def log_probs(self, source: np.ndarray, ids: tuple[int, ...]) -> np.ndarray:
        """Log-probabilities [v] of the token after ``ids``, in float64, without any cache."""
        hidden = np.zeros(len(self.transition))
        logits = np.zeros(VOCABULARY)
        for token in (SPECIAL.begin, *ids):
            hidden, logits = self._next(np, token, hidden, np.asarray(source, np.float64))
        return logits - np.log(np.sum(np.exp(logits)))

    def _next(self, np_or_jnp, token, hidden, source):
        inputs, transition, outputs = (np_or_jnp.asarray(w) for w in (self.inputs, self.transition, self.outputs))
        hidden = np_or_jnp.tanh(hidden @ transition + inputs[token] + source)
        return hidden, hidden @ outputs[:-1] + outputs[-1]


@partial(jax.jit, static_argnames=("model", "max_length", "method", "special"))
def _search(model, sources, request, max_length, method, special):
    cache = model.start(len(request.max_lengths), method.beam_size)
    return method(model.step, cache, sources, request, max_length, special)


def search(model, sources, request, max_length, method, special=SPECIAL) -> Hypotheses:
    """The hypotheses of a search as NumPy arrays; ``request`` may be maximum lengths alone."""
    if not isinstance(request, DecodeRequest):
        request = plain_request(jnp.asarray(request))
    return jax.tree.map(np.asarray, _search(model, sources, request, max_length, method, special))


class TableCache(NamedTuple):
    """The node of each hypothesis of ``Table``."""

    node: jax.Array

    def select(self, parents) -> Self:
        return type(self)(jnp.take_along_axis(self.node, parents, axis=1))


@dataclass(frozen=True)
class Table:
    """Next-token ``probabilities[node]``, written by hand; token i leads to node ``children[node][i]``."""

    probabilities: tuple[tuple[float, ...], ...]
    children: tuple[tuple[int, ...], ...]

    def start(self, rows: int, beams: int) -> TableCache:
        return TableCache(jnp.full((rows, beams), -1))

    def step(self, token, cache: TableCache, encoded):
        node = jnp.where(cache.node < 0, 0, jnp.asarray(self.children)[cache.node, token])
        return jnp.log(jnp.asarray(self.probabilities))[node], TableCache(node)
