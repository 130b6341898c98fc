"""Parameters that a run begins with: those of another run, or of an imported model."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import jax

from flaxformer_lite.checkpoints.restoring import restore_params
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
_OWN = (
    "remat",
    "scan_layers",
    "layerdrop",
)  # how a model is computed, not what; of a run's own are rates of dropout, too


def check_beginning(config: Config, vocabularies: tuple[Vocabulary, Vocabulary]) -> None:
    """Raises ``InputError`` where the run cannot begin with the parameters that ``train.init_from`` names.

    Args:
      config: of the run.
      vocabularies: its vocabularies, of sources and of targets.
    """
    if not config.train.init_from:
        return
    work, own, theirs = _folder(config)
    there, here = _model_settings(own), _model_settings(config)
    if lines := difference(there, here, "model."):
        raise InputError(
            f"{_KEY}={work.path} holds another model (there → here):\n  "
            + "\n  ".join(lines)
            + f"\nbegin from its config, with --config={work.path / 'config.json'}"
        )
    for side, given, wanted in zip(("source", "target"), theirs, vocabularies, strict=True):
        if why := saved.difference(given, wanted):
            raise InputError(
                f"{_KEY}={work.path} has another {side} vocabulary than this run: {why}; take it along with "
                f"--config.data.{side}_vocabulary.kind=saved --config.data.{side}_vocabulary.model="
                f"{work.path / side}.vocabulary.json"
            )
    sizes = [own.size for own in vocabularies]
    shapes = [param_shapes(make_decoding_model(each, *sizes)) for each in (own, config)]
    if shapes[0] != shapes[1]:  # the settings being equal, what else sizes depend on
        raise InputError(
            f"{_KEY}={work.path}: its learned positions reach as far as its config.data.max_source_length="
            f"{own.data.max_source_length} and config.data.max_target_length={own.data.max_target_length}, this "
            f"run's {config.data.max_source_length} and {config.data.max_target_length}; take the same"
        )


def begun_with(config: Config, state: TrainState) -> TrainState:
    """The first state of a run, with the parameters that ``train.init_from`` names.

    Args:
      config: of the run.
      state: what training would begin with at random, whole; the parameters are laid out as there.

    Raises:
      InputError: there is no sound checkpoint.
    """
    work, own, _ = _folder(config)
    weights = own.precision.param_dtype
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, weights, sharding=x.sharding), state.params)
    step, params = restore_params(work.checkpoints, "best", own.eval.best_metric, like)
    logger.info(f"beginning with the parameters of {work.path}, step {step:,}")
    places = jax.tree.map(lambda x: x.sharding, state.params)
    dtype = config.precision.param_dtype
    params = jax.jit(lambda tree: jax.tree.map(lambda x: x.astype(dtype), tree), out_shardings=places)(params)
    if not state.ema:
        return state._replace(params=params)
    return state._replace(params=params, ema=jax.jit(in_float32, out_shardings=places)(params))


def _folder(config: Config) -> tuple[WorkDir, Config, tuple[Vocabulary, Vocabulary]]:
    work = WorkDir(config.train.init_from)
    try:
        return work, work.config(), work.vocabularies()
    except InputError as error:
        raise InputError(f"{_KEY}: {str(error).removeprefix('--workdir=')}") from error


def _model_settings(config: Config) -> dict[str, Any]:
    return _without_own(dataclasses.asdict(config.model))


def _without_own(settings: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in settings.items() if key not in _OWN and "dropout" not in key}
    return {key: _without_own(value) if isinstance(value, dict) else value for key, value in kept.items()}
