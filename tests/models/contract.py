"""The contract of every model: the properties of ``models.interface`` as checks, for any encoder and decoder.

``test_contract.py`` runs each of ``CHECKS`` over each model, ``check_packed_rows`` over those that accept packed rows.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from flaxformer_lite.decoding_types import Cache
from flaxformer_lite.train_step.losses import cross_entropy
from flaxformer_lite.types import Tokens

SOURCE_SIZE, TARGET_SIZE = 11, 13  # entries of the vocabularies
MAX_LENGTH = 9  # number of learned positions
CLOSE = {"rtol": 1e-4, "atol": 1e-4}  # float32, over logits of about 1

TARGETS_OF_BEAMS = np.random.default_rng(5).integers(0, TARGET_SIZE, (2, 3, 5))  # batch 2, 3 beams, 5 tokens


class Subject:
    """A model and its compiled methods, with random parameters, also those that are initialized to 0 or 1.

    Args:
      model: with dropout, which only ``gradients`` applies.
    """

    def __init__(self, model: nn.Module):
        self.model = model
        shapes = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), SOURCE, TARGET)["params"]
        rng = np.random.default_rng(0)
        self.params = jax.tree.map(lambda x: jnp.float32(0.4 * rng.standard_normal(x.shape)), nn.meta.unbox(shapes))

        def bound(method: str | None) -> Any:
            return lambda params, *arguments: model.apply({"params": params}, *arguments, method=method)

        self._logits = jax.jit(lambda params, *tokens: model.apply({"params": params}, *tokens, train=False))
        self._encode = jax.jit(lambda params, x: model.apply({"params": params}, x, train=False, method="encode"))
        self._attention = jax.jit(bound("attention"))
        self._init_cache = bound("init_cache")
        self._step = jax.jit(bound("step"))
        self._gradients = jax.jit(jax.grad(self._loss, has_aux=True))

    def logits(self, source: Tokens, target: Tokens) -> np.ndarray:
        """Logits of whole targets."""
        return np.asarray(self._logits(self.params, source, target))

    def encode(self, source: Tokens) -> Any:
        return self._encode(self.params, source)

    def attention(self, source: Tokens, target: Tokens) -> np.ndarray:
        """Attention weights of each target position over the source."""
        return np.asarray(self._attention(self.params, target, self.encode(source)))

    def init_cache(self, encoded: Any, beams: int, max_length: int) -> Cache:
        return self._init_cache(self.params, encoded, beams, max_length)

    def step(self, token: np.ndarray, cache: Cache, encoded: Any) -> tuple[jax.Array, Cache]:
        return self._step(self.params, jnp.asarray(token), cache, encoded)

    def gradients(self, source: Tokens, target: Tokens, key: int) -> tuple[Any, np.ndarray]:
        """Gradients of a training loss, and its logits."""
        return self._gradients(self.params, source, target, jax.random.key(key))

    def _loss(self, params: Any, source: Tokens, target: Tokens, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        rngs = {"dropout": key}
        logits: Any = self.model.apply({"params": params}, source, target, train=True, rngs=rngs)
        loss, _ = cross_entropy(logits, jnp.roll(target.ids, -1, axis=1), jnp.float32(target.segments), 0.1)
        return loss, logits


def tokens_of(ids: np.ndarray, lengths: tuple[int, ...]) -> Tokens:
    """One sentence a row."""
    places = np.broadcast_to(np.arange(ids.shape[1]), ids.shape)
    inside = places < np.array(lengths)[:, None]
    return Tokens(*(x.astype(np.int32) for x in (ids, inside, np.where(inside, places, 0))))


def sentences(lengths: tuple[int, ...], width: int, vocabulary: int) -> Tokens:
    """Random sentences of these lengths in rows of this width, the same at each call."""
    rows = [np.random.default_rng((vocabulary, row)).permutation(vocabulary)[:n] for row, n in enumerate(lengths)]
    return tokens_of(np.stack([np.pad(row, (0, width - len(row))) for row in rows]), lengths)


SOURCE = sentences((4, 3), 7, SOURCE_SIZE)
TARGET = sentences((2, 3), 5, TARGET_SIZE)


def real(logits: np.ndarray, tokens: Tokens = TARGET) -> np.ndarray:
    """The logits outside padding, concatenated."""
    return logits[tokens.segments != 0]


def distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The largest difference of the logits at each position."""
    return np.abs(one - other).max(-1)


def check_shapes(subject: Subject) -> None:
    """Leaves of the encoded source lead with [b], leaves of the cache with [b, m]."""
    encoded = subject.encode(SOURCE)
    cache = subject.init_cache(encoded, 3, 7)
    logits, after = subject.step(TARGETS_OF_BEAMS[:, :, 0], cache, encoded)
    assert logits.shape == (2, 3, TARGET_SIZE)
    assert {leaf.shape[:1] for leaf in jax.tree.leaves(encoded)} == {(2,)}
    assert {leaf.shape[:2] for leaf in jax.tree.leaves(cache)} == {(2, 3)}
    kinds = jax.tree.map(lambda x: (x.shape, x.dtype), (cache, cache.select(jnp.zeros((2, 3), jnp.int32))))
    assert kinds == (jax.tree.map(lambda x: (x.shape, x.dtype), after),) * 2, (
        "the cache must keep shapes and types in a loop"
    )


def check_steps_equal_decode(subject: Subject) -> None:
    """Incremental decoding gives the logits of whole targets, also after beams are reordered and in a longer cache."""
    parents = {2: [[2, 0, 0], [1, 1, 2]], 4: [[1, 1, 0], [2, 0, 1]]}  # before these steps
    encoded = subject.encode(SOURCE)
    cache = subject.init_cache(encoded, 3, 7)
    histories = TARGETS_OF_BEAMS
    for position in range(5):
        if position in parents:
            chosen = np.array(parents[position], np.int32)
            earlier = np.take_along_axis(histories[:, :, :position], chosen[:, :, None], axis=1)
            histories = np.concatenate([earlier, histories[:, :, position:]], axis=2)
            cache = cache.select(jnp.asarray(chosen))
        logits, cache = subject.step(histories[:, :, position], cache, encoded)
        for beam in range(3):
            whole = subject.logits(SOURCE, tokens_of(histories[:, beam], (5, 5)))
            np.testing.assert_allclose(logits[:, beam], whole[:, position], **CLOSE)


def check_ids_in_padding(subject: Subject) -> None:
    """Token ids in padding have no effect."""
    changed = [t._replace(ids=np.where(t.segments == 0, (t.ids + 5) % 11, t.ids)) for t in (SOURCE, TARGET)]
    assert all((new.ids != old.ids).any() for new, old in zip(changed, (SOURCE, TARGET), strict=True))
    np.testing.assert_array_equal(real(subject.logits(*changed)), real(subject.logits(SOURCE, TARGET)))


def check_less_padding(subject: Subject) -> None:
    """The amount of padding has no effect."""
    source, target = sentences((4, 3), 4, SOURCE_SIZE), sentences((2, 3), 3, TARGET_SIZE)
    less = real(subject.logits(source, target), target)
    np.testing.assert_allclose(less, real(subject.logits(SOURCE, TARGET)), **CLOSE)


def check_rows_are_independent(subject: Subject) -> None:
    """Rows are independent: a row gives the same when the other one changes."""
    other = [t._replace(ids=np.where([[False], [True]], (t.ids + 3) % 11, t.ids)) for t in (SOURCE, TARGET)]
    before, after = subject.logits(SOURCE, TARGET), subject.logits(*other)
    np.testing.assert_array_equal(after[0], before[0])
    assert distance(after[1], before[1])[TARGET.segments[1] != 0].min() > 1e-3


def check_past_ignores_future(subject: Subject) -> None:
    """Another token changes the logits at its position and later ones, never earlier ones."""
    whole = TARGETS_OF_BEAMS[:, 0]
    before = subject.logits(SOURCE, tokens_of(whole, (5, 5)))
    for position in range(5):
        changed = np.where(np.arange(5) == position, (whole + 1) % TARGET_SIZE, whole)
        after = subject.logits(SOURCE, tokens_of(changed, (5, 5)))
        np.testing.assert_array_equal(after[:, :position], before[:, :position])
        assert distance(after, before)[:, position:].min() > 1e-5, "all later positions depend on the token"


def check_every_source_token_counts(subject: Subject) -> None:
    """All logits depend on each token of the source, and on the order of them."""
    before = real(subject.logits(SOURCE, TARGET))
    for position in range(3):  # both rows have at least as many tokens
        ids = np.where(np.arange(7) == position, (SOURCE.ids + 1) % SOURCE_SIZE, SOURCE.ids)
        assert distance(real(subject.logits(SOURCE._replace(ids=ids), TARGET)), before).min() > 1e-5
    swapped = SOURCE._replace(ids=SOURCE.ids[:, [1, 0, 2, 3, 4, 5, 6]])
    assert (swapped.ids[:, 0] != SOURCE.ids[:, 0]).all()
    assert distance(real(subject.logits(swapped, TARGET)), before).min() > 1e-5


def check_dropout(subject: Subject) -> None:
    """Dropout masks are drawn from the key and change every position."""
    first, again, other = (real(subject.gradients(SOURCE, TARGET, key)[1]) for key in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    for different in (other, real(subject.logits(SOURCE, TARGET))):
        assert distance(first, different).min() > 1e-3


def check_gradients(subject: Subject, without_effect: tuple[str, ...]) -> None:
    """Every parameter has a gradient, and a row of padding alone leaves logits and gradients finite.

    Args:
      subject: the model.
      without_effect: suffixes of the names of parameters that cannot change any output.
    """
    source, target = (t._replace(segments=t.segments * np.array([[1], [0]], np.int32)) for t in (SOURCE, TARGET))
    assert np.isfinite(subject.logits(source, target)).all()
    assert np.isfinite(subject.logits(source, TARGET)).all()
    gradients, logits = subject.gradients(source, target, key=0)
    assert np.isfinite(logits).all()
    for path, gradient in jax.tree.leaves_with_path(gradients):
        name, size = jax.tree_util.keystr(path, simple=True, separator="."), float(jnp.abs(gradient).max())
        assert np.isfinite(size), name
        assert (size < 1e-5) if name.endswith(without_effect) else (size > 1e-6), f"{name}: {size}"


def check_packed_rows(subject: Subject) -> None:
    """Two sentences in a row, in either order, give what each gives in a row of its own."""
    orders = ([0, 1], [1, 0])
    source, target = _packed(SOURCE, orders), _packed(TARGET, orders)
    alone = real(subject.logits(SOURCE, TARGET))
    expected = [alone, np.roll(alone, 3, axis=0)]  # the three positions of the second sentence come first
    np.testing.assert_allclose(subject.logits(source, target), expected, **CLOSE)


def _packed(tokens: Tokens, orders: tuple[list[int], ...]) -> Tokens:
    rows = []
    for order in orders:
        inside = tokens.segments[order] != 0
        numbers = np.broadcast_to([[1], [2]], inside.shape)[inside]
        rows.append((tokens.ids[order][inside], numbers, tokens.positions[order][inside]))
    return Tokens(*(np.stack(field).astype(np.int32) for field in zip(*rows, strict=True)))


def check_attention(subject: Subject) -> None:
    """Attention weights are positive on source tokens, 0 on padding and sum to 1; or there are none."""
    weights = subject.attention(SOURCE, TARGET)
    assert weights.shape in ((2, 5, 7), (2, 5, 0))
    if weights.size:
        weights = weights[TARGET.segments != 0]
        inside = SOURCE.segments[[0] * 2 + [1] * 3] != 0
        assert (weights[~inside] == 0).all()
        assert (weights[inside] > 0).all()
        np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)


CHECKS = (
    check_attention,
    check_shapes,
    check_steps_equal_decode,
    check_ids_in_padding,
    check_less_padding,
    check_rows_are_independent,
    check_past_ignores_future,
    check_every_source_token_counts,
    check_dropout,
)
