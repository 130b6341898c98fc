"""Optimizers and learning-rate schedules, all of them optax's, and which parameters follow them in which way."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import DTypeLike
from jaxtyping import Array, Float
from optax.contrib import MuonDimensionNumbers, ReduceLROnPlateauState

from flaxformer_lite.config.dataclasses import OptimConfig
from flaxformer_lite.errors import InputError

_TABLES = {"vocab", "length"}  # axes of vectors that are looked up (and compared with): a row a thing, not a matrix
_COPIES = {"layers", "gates"}  # axes along which there is a matrix for each place


def make_schedule(config: OptimConfig, steps: int) -> optax.Schedule:
    """The learning rate of update i (0-based): a linear rise to the peak at i = warmup, then the named fall.

    ``inverse_sqrt`` is the schedule of Vaswani et al. (2017, equation 3), told by its peak: peak · √(warmup / i), and
    peak · √(1 / (i + 1)) where there is no warm-up. ``cosine`` and ``linear`` reach 0 at i = steps, when training is
    over. So does ``wsd`` (warm-up, stable, decay; Hu et al. 2024), which falls only over the last ``decay_steps``, in a
    line. Under ``plateau`` this is constant, and the optimizer multiplies it by a ``rate_factor`` that falls.
    """
    peak, warmup = config.learning_rate, config.warmup_steps
    after = max(steps - warmup, 1)
    scale = max(warmup, 1)
    decay = max(config.decay_steps, 1)
    falls = {  # from the peak, as functions of i - warmup
        "inverse_sqrt": lambda i: peak * jnp.sqrt(scale / jnp.maximum(i + scale, 1)),  # computed in the warm-up too
        "cosine": optax.cosine_decay_schedule(peak, after),
        "linear": optax.linear_schedule(peak, 0.0, after),
        "constant": optax.constant_schedule(peak),
        "wsd": optax.linear_schedule(peak, 0.0, decay, transition_begin=after - decay),
        "plateau": optax.constant_schedule(peak),
    }
    rise = optax.linear_schedule(peak / (warmup + 1), peak, warmup)  # not from 0, which would waste the first update
    return optax.join_schedules([rise, falls[config.schedule]], [warmup])


def make_optimizer(
    config: OptimConfig, schedule: optax.Schedule, params: Any, moments: DTypeLike = jnp.float32
) -> optax.GradientTransformationExtraArgs:
    """Clipping by global norm, the optimizer's direction, weight decay, and the learning rate of each parameter.

    Weight decay is multiplied by the learning rate (Loshchilov & Hutter 2019), whatever the optimizer. Its state wears
    the names of logical axes where the parameters that it is made of do.

    Args:
      config: the settings.
      schedule: what ``make_schedule`` made of them.
      params: the parameters that will follow, as ``jax.ShapeDtypeStruct`` that wear the names of their logical axes.
      moments: dtype of means of gradients; Adafactor keeps none.

    Returns:
      A transformation whose ``update`` takes the training loss as ``value``.

    Raises:
      InputError: a pattern is found in no parameter's path, or nothing is left to train.
    """
    still = frozen(config, params)
    trained = jax.tree.map(lambda off, parameter: optax.MaskedNode() if off else parameter, still, params)
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    descent = optax.chain(
        clip, _direction(config, trained, moments), _decay(config, params), optax.scale_by_learning_rate(schedule)
    )
    labels = jax.tree.map(lambda off: "frozen" if off else "trained", still)
    follow = optax.partition({"trained": descent, "frozen": optax.set_to_zero()}, labels)
    return optax.chain(follow, _rates(config, params), _plateau(config))


def frozen(config: OptimConfig, params: Any) -> Any:
    """A boolean for each parameter: whether it stays as it is.

    Raises:
      InputError: a pattern is found in no parameter's path, or nothing is left to train.
    """
    found = jax.tree.map(lambda number: number >= 0, _first_found("frozen", config.frozen, params))
    if all(jax.tree.leaves(found)):
        raise InputError(f"config.optim.frozen={config.frozen} leaves no parameter to train; freeze fewer")
    return found


def rate_factor(opt_state: Any) -> Float[Array, ""]:
    """What reduce-on-plateau has left of the scheduled learning rate; 1 under other schedules."""
    states = [state for state in jax.tree.leaves(opt_state, is_leaf=_is_plateau) if _is_plateau(state)]
    return states[0].scale if states else jnp.ones(())


def _direction(config: OptimConfig, trained: Any, moments: DTypeLike) -> optax.GradientTransformation:
    """Kingma & Ba (2015), with weight decay Loshchilov & Hutter (2019); Chen et al. (2023); and those below."""
    adam = optax.scale_by_adam(config.beta1, config.beta2, config.epsilon, mu_dtype=moments)
    if config.optimizer == "adafactor":
        return _adafactor(trained)
    if config.optimizer == "lion":
        return optax.scale_by_lion(config.beta1, config.beta2, mu_dtype=moments)
    if config.optimizer == "muon":
        return _muon(config, adam, trained, moments)
    return adam


def _adafactor(trained: Any) -> optax.GradientTransformation:
    """Shazeer & Stern (2018) as T5 was trained (Raffel et al. 2020, section 3.1.2, and its code): without momentum.

    Decay 1 - t ** -0.8, updates of a root mean square of at most 1, relative to that of the parameter (at least 0.001).
    """
    clip, relative = optax.clip_by_block_rms(1.0), optax.scale_by_param_block_rms(1e-3)
    return optax.chain(_factored_moments(trained), _by_layer(clip, trained), _by_layer(relative, trained))


def _factored_moments(trained: Any) -> optax.GradientTransformation:
    """optax's, of parameters whose heads and head width are one axis, as they are in T5: or none would be factored.

    Its state has an array for each parameter's rows, one for its columns and one for the whole, of which those not in
    use are of one number. They wear the names of the axes that they have, and not of those that they lost.
    """
    inner = optax.scale_by_factored_rms(decay_rate=0.8, min_dim_size_to_factor=128, epsilon=1e-30)

    def joined(tree: Any) -> Any:
        return jax.tree.map(lambda parameter, x: x.reshape(_joined(parameter)[0]), trained, tree, is_leaf=_is_box)

    def named(params: Any, moments: Any, lost: int) -> Any:
        def name(box: Any, moment: Any) -> Any:
            return box.replace(value=moment, names=_kept(box, moment.shape, lost)) if _is_box(box) else moment

        return jax.tree.map(name, params, moments, is_leaf=_is_box)

    def init(params: Any) -> optax.FactoredState:
        state: Any = inner.init(joined(nn.meta.unbox(params)))
        rows, columns = named(params, state.v_row, -1), named(params, state.v_col, -2)  # without the longest, the next
        return state._replace(v_row=rows, v_col=columns, v=named(params, state.v, -1))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        new, state = inner.update(joined(updates), state, joined(params))
        return jax.tree.map(lambda x, like: x.reshape(like.shape), new, updates), state

    return optax.GradientTransformation(init, update)


def _by_layer(transform: optax.GradientTransformation, trained: Any) -> optax.GradientTransformation:
    """A transformation without state, applied to each layer by itself where a scan has stacked them."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        def alone(update: Any, parameter: Any) -> Any:
            return transform.update(update, state, parameter)[0]

        def each(parameter: Any, *given: Any) -> Any:
            return (jax.vmap(alone) if "layers" in _names(parameter)[:1] else alone)(*given)

        return jax.tree.map(each, trained, updates, params, is_leaf=_is_box), state

    return optax.GradientTransformation(optax.init_empty_state, update)


def _muon(
    config: OptimConfig, others: optax.GradientTransformation, trained: Any, moments: DTypeLike
) -> optax.GradientTransformation:
    """Muon (Jordan 2024) of matrices; ``others`` of biases, gains, embeddings and the output layer.

    Scaled by 0.2 · √(the longer side), so that rates and weight decay that suit AdamW suit it (Liu et al. 2025,
    equation 4). Attention's projections are matrices of all heads together, a cell's gates and stacked layers each one
    of its own.
    """
    matrices = jax.tree.map(lambda p: _matrix(p) or optax.MaskedNode(), trained, is_leaf=_is_box)
    labels = jax.tree.map(lambda p: "matrix" if _matrix(p) else "other", trained, is_leaf=_is_box)

    def scale(update: Any, matrix: Any) -> Any:
        longer = max(math.prod(update.shape[axis] for axis in side) for side in matrix)
        return 0.2 * math.sqrt(longer) * update

    orthogonal = optax.chain(
        optax.contrib.scale_by_muon(beta=config.momentum, weight_dimension_numbers=matrices, mu_dtype=moments),
        optax.stateless(lambda updates, _: jax.tree.map(scale, updates, matrices)),
    )
    return optax.partition({"matrix": orthogonal, "other": others}, labels)


def _decay(config: OptimConfig, params: Any) -> optax.GradientTransformation:
    decayed = jax.tree.map(lambda number: number < 0, _first_found("no_decay", config.no_decay, params))
    return optax.add_decayed_weights(config.weight_decay, decayed) if config.weight_decay else optax.identity()


def _rates(config: OptimConfig, params: Any) -> optax.GradientTransformation:
    rules = [rule.rpartition("=") for rule in config.lr_multipliers]
    numbers = _first_found("lr_multipliers", [pattern for pattern, *_ in rules], params)
    factors = [float(factor) for *_, factor in rules] + [1.0]  # the last, which is number -1, of what no rule names
    return optax.stateless(
        lambda updates, _: jax.tree.map(
            lambda number, update: factors[number] * update if number >= 0 else update, numbers, updates
        )
    )


def _plateau(config: OptimConfig) -> optax.GradientTransformation:
    if config.schedule != "plateau":
        return optax.identity()
    plateau = config.plateau
    return optax.contrib.reduce_on_plateau(plateau.factor, plateau.patience, accumulation_size=plateau.window)


def _is_plateau(part: Any) -> bool:
    return isinstance(part, ReduceLROnPlateauState)


def _first_found(key: str, patterns: Sequence[str], params: Any) -> Any:
    """For each parameter the number of the first pattern that is found in its path; -1 where none is."""

    def write(path: Any, _: Any) -> str:
        return jax.tree_util.keystr(path, simple=True, separator="/")

    paths = jax.tree.map_with_path(write, params, is_leaf=_is_box)
    for pattern in patterns:
        if not any(re.search(pattern, path) for path in jax.tree.leaves(paths)):
            near = ", ".join(_nearest(pattern, jax.tree.leaves(paths)))
            raise InputError(
                f"config.optim.{key}: {pattern!r} is found in no parameter's path; paths are written like {near}"
            )
    return jax.tree.map(
        lambda path: next((i for i, pattern in enumerate(patterns) if re.search(pattern, path)), -1), paths
    )


def _nearest(pattern: str, paths: Sequence[str]) -> list[str]:
    """Three paths of which some part resembles the pattern most."""
    parts = {}
    for path in paths:
        names = path.split("/")
        for start in range(len(names)):
            for end in range(start, len(names)):
                parts.setdefault("/".join(names[start : end + 1]), path)
    near = difflib.get_close_matches(pattern, parts, n=3, cutoff=0)
    return list(dict.fromkeys(parts[part] for part in near))


def _is_box(x: Any) -> bool:
    return isinstance(x, nn.meta.AxisMetadata)


def _names(parameter: Any) -> tuple[str | None, ...]:
    """The logical axes of a parameter; None for each where it wears no names."""
    return parameter.names if _is_box(parameter) else (None,) * len(parameter.shape)


def _dimensions(parameter: Any) -> list[tuple[int, ...]]:
    """Its axes, heads and their width together."""
    names = _names(parameter)
    groups: list[tuple[int, ...]] = []
    for axis, name in enumerate(names):
        if name == "head_dim" and names[axis - 1] == "heads":
            groups[-1] += (axis,)
        else:
            groups.append((axis,))
    return groups


def _joined(parameter: Any) -> tuple[tuple[int, ...], tuple[str | None, ...]]:
    """Shape and names of a parameter whose heads and head width are one axis, divided as heads are."""
    groups, shape = _dimensions(parameter), nn.meta.unbox(parameter).shape
    return (
        tuple(math.prod(shape[axis] for axis in group) for group in groups),
        tuple(_names(parameter)[group[0]] for group in groups),
    )


def _kept(parameter: Any, shape: tuple[int, ...], lost: int) -> tuple[str | None, ...]:
    """The names of a moment of this shape, which may have lost the axis of this place in order of length."""
    whole, names = _joined(parameter)
    if shape == whole:
        return names
    axis = int(np.argsort(whole)[lost]) if len(whole) > 1 else 0
    if shape == (*whole[:axis], *whole[axis + 1 :]):
        return (*names[:axis], *names[axis + 1 :])
    return (None,) * len(shape)  # the one number that stands where nothing is kept


def _matrix(parameter: Any) -> MuonDimensionNumbers | None:
    """The axes that a matrix product sums over and those that it gives; None where a parameter is none."""
    names = _names(parameter)
    sides = [group for group in _dimensions(parameter) if names[group[0]] not in _COPIES]
    return MuonDimensionNumbers(*sides) if len(sides) == 2 and not _TABLES.intersection(names) else None
