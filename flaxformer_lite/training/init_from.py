"""Initial parameters from another run or an imported model."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import jax

from flaxformer_lite.checkpoints.restore_params import restore_params
from flaxformer_lite.checkpoints.work_dir import WorkDir
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.config.parsing import difference
from flaxformer_lite.data.vocabularies import saved
from flaxformer_lite.data.vocabularies.base import Vocabulary
from flaxformer_lite.errors import InputError
from flaxformer_lite.models.encoder_decoder import make_decoding_model
from flaxformer_lite.train_step.state import TrainState, in_float32, param_shapes

logger = logging.getLogger(__name__)

_KEY = "config.train.init_from"
_MAY_DIFFER = ("remat", "scan_layers", "layerdrop")  # they change no parameter; rates of dropout likewise


def check_init_from(config: Config, vocabularies: tuple[Vocabulary, Vocabulary]) -> None:
    """Raises ``InputError`` where the model that ``train.init_from`` names does not fit the run.

    Args:
      config: of the run.
      vocabularies: its vocabularies, of sources and of targets.
    """
    if not config.train.init_from:
        return
    work, there, their_vocabularies = _open(config)
    subject = f"{_KEY}={work.path}"
    if lines := difference(_architecture(there), _architecture(config), "model."):
        raise InputError(
            subject,
            "holds another model (there → here):\n  " + "\n  ".join(lines),
            f"start from its config, {work.path / 'config.json'}",
        )
    for side, theirs, ours in zip(("source", "target"), their_vocabularies, vocabularies, strict=True):
        if reason := saved.difference(theirs, ours):
            key, path = f"config.data.{side}_vocabulary", work.path / f"{side}.vocabulary.json"
            remedy = f"use the same one with {key}.kind=saved {key}.model={path}"
            raise InputError(subject, f"has another {side} vocabulary than this run: {reason}", remedy)
    sizes = [own.size for own in vocabularies]
    shapes = [param_shapes(make_decoding_model(each, *sizes)) for each in (there, config)]
    if shapes[0] != shapes[1]:  # with equal settings, only the lengths of the data can differ
        raise InputError(
            subject,
            f"its learned positions are for config.data.max_source_length={there.data.max_source_length} and "
            f"config.data.max_target_length={there.data.max_target_length}, those of this run for "
            f"{config.data.max_source_length} and {config.data.max_target_length}",
            "use the same lengths",
        )


def load_init_params(config: Config, state: TrainState) -> TrainState:
    """The first state of a run with the parameters that ``train.init_from`` names.

    Args:
      config: of the run.
      state: the first state with random parameters, as global arrays, whose shardings are kept.

    Raises:
      InputError: there is no intact checkpoint.
    """
    work, there, _ = _open(config)
    stored_dtype, dtype = there.precision.param_dtype, config.precision.param_dtype
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, stored_dtype, sharding=x.sharding), state.params)
    step, params = restore_params(work.checkpoints, "best", there.eval.best_metric, like)
    logger.info(f"starting from the parameters of {work.path}, step {step:,}")
    shardings = jax.tree.map(lambda x: x.sharding, state.params)
    params = jax.jit(lambda tree: jax.tree.map(lambda x: x.astype(dtype), tree), out_shardings=shardings)(params)
    if not state.ema:
        return state._replace(params=params)
    return state._replace(params=params, ema=jax.jit(in_float32, out_shardings=shardings)(params))


def _open(config: Config) -> tuple[WorkDir, Config, tuple[Vocabulary, Vocabulary]]:
    work = WorkDir(config.train.init_from)
    try:
        return work, work.config(), work.vocabularies()
    except InputError as error:
        raise InputError(_KEY, str(error)) from error


def _architecture(config: Config) -> dict[str, Any]:
    return _without_training_settings(dataclasses.asdict(config.model))


def _without_training_settings(settings: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in settings.items() if key not in _MAY_DIFFER and "dropout" not in key}
    return {key: _without_training_settings(value) if isinstance(value, dict) else value for key, value in kept.items()}
