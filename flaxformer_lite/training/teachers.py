"""Teachers of knowledge distillation: trained models, each from its own work directory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn

from flaxformer_lite.checkpoints.restore_params import restore_params
from flaxformer_lite.checkpoints.work_dir import WorkDir
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.data.vocabularies import saved
from flaxformer_lite.data.vocabularies.base import Vocabulary
from flaxformer_lite.errors import InputError, require
from flaxformer_lite.models.encoder_decoder import make_decoding_model
from flaxformer_lite.sharding.mesh_layout import MeshLayout
from flaxformer_lite.train_step.state import param_shapes

_KEY = "config.train.distill.teachers"


class Teacher(NamedTuple):
    """A trained model that a run distills from.

    Attributes:
      folder: its work directory, as the config names it.
      step: of the checkpoint.
      model: the Linen module; its architecture may differ from the student's.
      params: its parameters, replicated on every device.
    """

    folder: str
    step: int
    model: nn.Module
    params: Any


def load_teachers(
    config: Config, vocabularies: tuple[Vocabulary, Vocabulary], steps: Mapping[str, int], layout: MeshLayout
) -> list[Teacher]:
    """The teachers that the config of a run names.

    Args:
      config: of the student's run.
      vocabularies: its vocabularies, of sources and of targets.
      steps: by directory the step of the checkpoint that the run began with; otherwise it is the best one.
      layout: of the parameters.

    Raises:
      InputError: a directory has no trained model, or one with other vocabularies or too few positions; or the
        checkpoint that the run began with no longer exists.
    """
    return [_load(folder, config, vocabularies, steps.get(folder), layout) for folder in config.train.distill.teachers]


def _load(
    folder: str, config: Config, vocabularies: tuple[Vocabulary, Vocabulary], step: int | None, layout: MeshLayout
) -> Teacher:
    work, key = WorkDir(folder), f"{_KEY}={folder}"
    try:
        teacher_config, teacher_vocabularies = work.config(), work.vocabularies()
    except InputError as error:
        raise InputError(_KEY, str(error)) from error
    for side, theirs, ours in zip(("source", "target"), teacher_vocabularies, vocabularies, strict=True):
        if difference := saved.difference(theirs, ours):
            raise InputError(
                key,
                f"has another {side} vocabulary than this run: {difference}",
                f"train both on the same text with the same config.data.{side}_vocabulary, or let the teacher decode "
                f"the text and train on its output (docs/distillation.md)",
            )
    model = make_decoding_model(teacher_config, *(side.size for side in teacher_vocabularies))
    longest = max(config.data.max_source_length, config.data.max_target_length)
    require(
        model.max_supported_length >= longest,
        key,
        f"has learned positions for {model.max_supported_length} tokens, this run has rows of up to {longest}",
        "lower config.data.max_source_length and config.data.max_target_length",
    )
    if step is not None:
        checkpoint = work.checkpoints / str(step)
        require(
            checkpoint.is_dir(),
            key,
            f"this run began with its step {step}, which has been deleted since",
            f"restore {checkpoint} from a copy, or start this run in another work directory",
        )
    shapes = layout.replicated_shapes(param_shapes(model, teacher_config.precision.param_dtype))
    which = "best" if step is None else step
    step, params = restore_params(work.checkpoints, which, teacher_config.eval.best_metric, shapes)
    return Teacher(folder, step, model, params)
