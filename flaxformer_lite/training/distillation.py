"""Trained models that a run learns from, each from its own work folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn

from flaxformer_lite.checkpoints.restoring import restore_params
from flaxformer_lite.checkpoints.work_dir import WorkDir
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.data.vocabularies import saved
from flaxformer_lite.data.vocabularies.base import Vocabulary
from flaxformer_lite.errors import InputError
from flaxformer_lite.models.encoder_decoder import make_decoding_model
from flaxformer_lite.sharding.layout import MeshLayout
from flaxformer_lite.train_step.state import param_shapes


class Teacher(NamedTuple):
    """A trained model.

    Attributes:
      folder: its work folder, as the config names it.
      step: of the checkpoint.
      model: the Linen module; any architecture teaches any other.
      params: its parameters, whole on every device.
    """

    folder: str
    step: int
    model: nn.Module
    params: Any


def load_teachers(
    config: Config, vocabularies: tuple[Vocabulary, Vocabulary], begun_with: Mapping[str, int], layout: MeshLayout
) -> list[Teacher]:
    """The teachers that a run's config names.

    Args:
      config: of the run that learns.
      vocabularies: its vocabularies, of sources and of targets.
      begun_with: step by folder of the checkpoints that the run began with; of other folders it is the best one.
      layout: where the parameters shall lie.

    Raises:
      InputError: a folder holds no trained model, or one that reads or says other ids, or shorter rows; or what the
        run began with is gone.
    """
    return [_load(folder, config, vocabularies, begun_with, layout) for folder in config.train.distill.teachers]


def _load(
    folder: str,
    config: Config,
    vocabularies: tuple[Vocabulary, Vocabulary],
    begun_with: Mapping[str, int],
    layout: MeshLayout,
) -> Teacher:
    work = WorkDir(folder)
    try:
        own, theirs = work.config(), work.vocabularies()
    except InputError as error:
        raise InputError(f"config.train.distill.teachers: {str(error).removeprefix('--workdir=')}") from error
    for side, taught, learning in zip(("source", "target"), theirs, vocabularies, strict=True):
        if difference := saved.difference(taught, learning):
            raise InputError(
                f"config.train.distill.teachers: {folder} has another {side} vocabulary than this run: {difference}; "
                f"train both on the same text with the same config.data.{side}_vocabulary, or let the teacher decode "
                f"the text and learn from that (docs/distillation.md)"
            )
    model = make_decoding_model(own, *(side.size for side in theirs))
    longest = max(config.data.max_source_length, config.data.max_target_length)
    if model.max_supported_length < longest:
        raise InputError(
            f"config.train.distill.teachers={folder}",
            f"has learned positions for {model.max_supported_length} tokens, this run has rows of up to {longest}",
            "lower config.data.max_source_length and config.data.max_target_length",
        )
    which, shapes = begun_with.get(folder, "best"), layout.replicated(param_shapes(model, own.precision.param_dtype))
    if isinstance(which, int) and not (work.checkpoints / str(which)).is_dir():
        raise InputError(
            f"config.train.distill.teachers: this run began with step {which} of {folder}, which that run has deleted "
            f"since; put {work.checkpoints / str(which)} back from a copy, or start this run anew in another --workdir "
            f"(from a copy of {folder}, if that trains on)"
        )
    step, params = restore_params(work.checkpoints, which, own.eval.best_metric, shapes)
    return Teacher(folder, step, model, params)
