"""Optimizers and learning-rate schedules, built from optax, and their settings per parameter."""

from __future__ import annotations

import difflib
import functools
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
from flaxformer_lite.config.import_path import build, is_import_path
from flaxformer_lite.errors import InputError, require

_TABLE_AXES = {"vocab", "length"}  # a parameter with one of them is a table of vectors, not a matrix
_STACK_AXES = {"layers", "gates"}  # a parameter with one of them is a stack of matrices


def make_schedule(config: OptimConfig, steps: int) -> optax.Schedule:
    """The learning rate of update i (from 0): linear warm-up to the peak at i = warmup, then the named decay.

    ``inverse_sqrt`` is the schedule of Vaswani et al. (2017, equation 3), expressed by its peak: peak · √(warmup / i),
    and peak · √(1 / (i + 1)) without warm-up. ``cosine`` and ``linear`` reach 0 at i = steps. So does ``wsd`` (warm-up,
    stable, decay; Hu et al. 2024), which decays linearly over the last ``decay_steps`` only. With ``plateau`` the
    schedule is constant after warm-up, and the optimizer multiplies it by ``plateau_factor``.

    ``module:name`` is a function of i, or a dataclass whose instance is one; its fields ``learning_rate``,
    ``warmup_steps`` and ``steps`` are filled from the config.
    """
    if is_import_path(config.schedule):
        known = {"learning_rate": config.learning_rate, "warmup_steps": config.warmup_steps, "steps": steps}
        return build(config.schedule, config.schedule_options, "optim.schedule", **known)
    peak, warmup = config.learning_rate, config.warmup_steps
    after = max(steps - warmup, 1)
    scale = max(warmup, 1)
    decay = max(config.decay_steps, 1)
    decays = {  # functions of i - warmup
        "inverse_sqrt": lambda i: peak * jnp.sqrt(scale / jnp.maximum(i + scale, 1)),  # evaluated during warm-up too
        "cosine": optax.cosine_decay_schedule(peak, after),
        "linear": optax.linear_schedule(peak, 0.0, after),
        "constant": optax.constant_schedule(peak),
        "wsd": optax.linear_schedule(peak, 0.0, decay, transition_begin=after - decay),
        "plateau": optax.constant_schedule(peak),
    }
    warm_up = optax.linear_schedule(peak / (warmup + 1), peak, warmup)  # not from 0, which would waste the first update
    return optax.join_schedules([warm_up, decays[config.schedule]], [warmup])


def make_optimizer(
    config: OptimConfig, schedule: optax.Schedule, params: Any, moments: DTypeLike = jnp.float32
) -> optax.GradientTransformationExtraArgs:
    """Clipping by global norm, the optimizer, weight decay, and the learning rate of each parameter.

    Weight decay is multiplied by the learning rate (Loshchilov & Hutter 2019) for every optimizer. The state is boxed
    with the names of logical axes where the parameters are.

    ``module:name`` is a function from the schedule to a complete optax optimizer, such as ``optax:adamaxw``, or a
    dataclass whose instance is one. It replaces optimizer, weight decay and learning rate; clipping, frozen parameters
    and multipliers apply as for the others.

    ``params`` are ``jax.ShapeDtypeStruct``, boxed with the names of their logical axes; ``moments`` is the dtype of the
    first moments, which Adafactor does not have. ``update`` of the transformation takes the training loss as ``value``.

    Raises:
      InputError: a pattern matches no parameter's path, or all parameters are frozen.
    """
    is_frozen = frozen_mask(config, params)
    trained = jax.tree.map(lambda off, parameter: optax.MaskedNode() if off else parameter, is_frozen, params)
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    if is_import_path(config.optimizer):
        reason = f"config.optim.optimizer={config.optimizer!r} does its own"
        require(config.weight_decay == 0, f"config.optim.weight_decay={config.weight_decay}", reason, "set it to 0")
        optimizer = optax.chain(clip, build(config.optimizer, config.options, "optim.optimizer")(schedule))
    else:
        direction, decay = _direction(config, trained, moments), _weight_decay(config, params)
        optimizer = optax.chain(clip, direction, decay, optax.scale_by_learning_rate(schedule))
    labels = jax.tree.map(lambda off: "frozen" if off else "trained", is_frozen)
    partitioned = optax.partition({"trained": optimizer, "frozen": optax.set_to_zero()}, labels)
    return optax.chain(partitioned, _lr_multipliers(config, params), _plateau(config))


def frozen_mask(config: OptimConfig, params: Any) -> Any:
    """A boolean for each parameter: whether it is frozen.

    Raises:
      InputError: a pattern matches no parameter's path, or all parameters are frozen.
    """
    mask = jax.tree.map(lambda number: number >= 0, _first_match("frozen", config.frozen, params))
    all_frozen = all(jax.tree.leaves(mask))
    require(not all_frozen, f"config.optim.frozen={config.frozen}", "leaves no parameter to train", "freeze fewer")
    return mask


def plateau_factor(opt_state: Any) -> Float[Array, ""]:
    """The factor of reduce-on-plateau on the scheduled learning rate; 1 under other schedules."""
    states = [state for state in jax.tree.leaves(opt_state, is_leaf=_is_plateau) if _is_plateau(state)]
    return states[0].scale if states else jnp.ones(())


def _direction(config: OptimConfig, trained: Any, moments: DTypeLike) -> optax.GradientTransformation:
    """Adam (Kingma & Ba 2015), Lion (Chen et al. 2023), Adafactor or Muon, without learning rate and weight decay."""
    adam = optax.scale_by_adam(config.beta1, config.beta2, config.epsilon, mu_dtype=moments)
    if config.optimizer == "adafactor":
        return _adafactor(trained)
    if config.optimizer == "lion":
        return optax.scale_by_lion(config.beta1, config.beta2, mu_dtype=moments)
    if config.optimizer == "muon":
        return _muon(config, adam, trained, moments)
    return adam


def _adafactor(trained: Any) -> optax.GradientTransformation:
    """Adafactor (Shazeer & Stern 2018) as in T5 (Raffel et al. 2020, section 3.1.2, and its code), without momentum.

    Decay 1 - t ** -0.8, updates of a root mean square of at most 1, relative to that of the parameter (at least 0.001).
    """
    clip, relative = optax.clip_by_block_rms(1.0), optax.scale_by_param_block_rms(1e-3)
    return optax.chain(_factored_moments(trained), _per_layer(clip, trained), _per_layer(relative, trained))


def _factored_moments(trained: Any) -> optax.GradientTransformation:
    """Factored second moments by optax, of parameters whose axes heads and head_dim are merged as in T5.

    Without that, no axis of attention would be long enough to be factored. The state has for each parameter an array of
    rows, one of columns and one of the whole, of which unused ones have one element. They are boxed with the names of
    their axes.
    """
    inner = optax.scale_by_factored_rms(decay_rate=0.8, min_dim_size_to_factor=128, epsilon=1e-30)

    def merged(tree: Any) -> Any:
        return jax.tree.map(lambda parameter, x: x.reshape(_merge_heads(parameter)[0]), trained, tree, is_leaf=_is_box)

    def boxed(params: Any, moments: Any, dropped: int) -> Any:
        def box(parameter: Any, moment: Any) -> Any:
            if not _is_box(parameter):
                return moment
            return parameter.replace(value=moment, names=_moment_names(parameter, moment.shape, dropped))

        return jax.tree.map(box, params, moments, is_leaf=_is_box)

    def init(params: Any) -> optax.FactoredState:
        state: Any = inner.init(merged(nn.meta.unbox(params)))
        rows, columns = boxed(params, state.v_row, -1), boxed(params, state.v_col, -2)  # longest, next axis dropped
        return state._replace(v_row=rows, v_col=columns, v=boxed(params, state.v, -1))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        new, state = inner.update(merged(updates), state, merged(params))
        return jax.tree.map(lambda x, like: x.reshape(like.shape), new, updates), state

    return optax.GradientTransformation(init, update)


def _per_layer(transform: optax.GradientTransformation, trained: Any) -> optax.GradientTransformation:
    """A stateless transformation, applied to each layer separately where layers are stacked."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        def apply(update: Any, parameter: Any) -> Any:
            return transform.update(update, state, parameter)[0]

        def apply_per_layer(parameter: Any, *arrays: Any) -> Any:
            return (jax.vmap(apply) if "layers" in _names(parameter)[:1] else apply)(*arrays)

        return jax.tree.map(apply_per_layer, trained, updates, params, is_leaf=_is_box), state

    return optax.GradientTransformation(optax.init_empty_state, update)


def _muon(
    config: OptimConfig, others: optax.GradientTransformation, trained: Any, moments: DTypeLike
) -> optax.GradientTransformation:
    """Muon (Jordan 2024) for matrices; ``others`` for biases, gains, embeddings and the output layer.

    Updates are scaled by 0.2 · √(longer side), so that learning rates and weight decay of AdamW fit (Liu et al. 2025,
    equation 4). A projection of attention is one matrix of all heads; gates of a cell and stacked layers are separate
    matrices.
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


def _weight_decay(config: OptimConfig, params: Any) -> optax.GradientTransformation:
    decayed = jax.tree.map(lambda number: number < 0, _first_match("no_decay", config.no_decay, params))
    return optax.add_decayed_weights(config.weight_decay, decayed) if config.weight_decay else optax.identity()


def _lr_multipliers(config: OptimConfig, params: Any) -> optax.GradientTransformation:
    rules = [rule.rpartition("=") for rule in config.lr_multipliers]
    numbers = _first_match("lr_multipliers", [pattern for pattern, *_ in rules], params)
    factors = [float(factor) for *_, factor in rules]

    def multiply(number: int, update: Any) -> Any:
        return factors[number] * update if number >= 0 else update

    return optax.stateless(lambda updates, _: jax.tree.map(multiply, numbers, updates))


def _plateau(config: OptimConfig) -> optax.GradientTransformation:
    if config.schedule != "plateau":
        return optax.identity()
    plateau = config.plateau
    return optax.contrib.reduce_on_plateau(plateau.factor, plateau.patience, accumulation_size=plateau.window)


def _is_plateau(part: Any) -> bool:
    return isinstance(part, ReduceLROnPlateauState)


def _first_match(key: str, patterns: Sequence[str], params: Any) -> Any:
    """For each parameter the index of the first pattern that matches in its path; -1 where none does."""
    path_of = functools.partial(jax.tree_util.keystr, simple=True, separator="/")
    paths = jax.tree.map_with_path(lambda path, _: path_of(path), params, is_leaf=_is_box)
    for pattern in patterns:
        if not any(re.search(pattern, path) for path in jax.tree.leaves(paths)):
            near = ", ".join(_nearest(pattern, jax.tree.leaves(paths)))
            reason = f"{pattern!r} matches no parameter's path; similar paths are {near}"
            raise InputError(f"config.optim.{key}", reason)
    return jax.tree.map(
        lambda path: next((i for i, pattern in enumerate(patterns) if re.search(pattern, path)), -1), paths
    )


def _nearest(pattern: str, paths: Sequence[str]) -> list[str]:
    """Three paths with a part that is most similar to the pattern."""
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
    """The logical axes of a parameter; None for each where it is not boxed."""
    return parameter.names if _is_box(parameter) else (None,) * len(parameter.shape)


def _axis_groups(parameter: Any) -> list[tuple[int, ...]]:
    """The axes of a parameter, with heads and head_dim in one group."""
    names = _names(parameter)
    groups: list[tuple[int, ...]] = []
    for axis, name in enumerate(names):
        if name == "head_dim" and names[axis - 1] == "heads":
            groups[-1] += (axis,)
        else:
            groups.append((axis,))
    return groups


def _merge_heads(parameter: Any) -> tuple[tuple[int, ...], tuple[str | None, ...]]:
    """Shape and names of a parameter with heads and head_dim merged into the axis heads."""
    groups, shape = _axis_groups(parameter), nn.meta.unbox(parameter).shape
    return (
        tuple(math.prod(shape[axis] for axis in group) for group in groups),
        tuple(_names(parameter)[group[0]] for group in groups),
    )


def _moment_names(parameter: Any, shape: tuple[int, ...], dropped: int) -> tuple[str | None, ...]:
    """Axis names of a moment of this shape; it may lack axis ``dropped`` of the parameter, in order of length."""
    whole, names = _merge_heads(parameter)
    if shape == whole:
        return names
    axis = int(np.argsort(whole)[dropped]) if len(whole) > 1 else 0
    if shape == (*whole[:axis], *whole[axis + 1 :]):
        return (*names[:axis], *names[axis + 1 :])
    return (None,) * len(shape)  # the one element of an unused moment


def _matrix(parameter: Any) -> MuonDimensionNumbers | None:
    """The contracted and the resulting axes of a matrix; None where the parameter is not a matrix."""
    names = _names(parameter)
    sides = [group for group in _axis_groups(parameter) if names[group[0]] not in _STACK_AXES]
    return MuonDimensionNumbers(*sides) if len(sides) == 2 and not _TABLE_AXES.intersection(names) else None
