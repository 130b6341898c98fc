"""Work directories as training writes them, without training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flaxformer_lite.checkpoints.checkpoint_manager import Checkpoint, Checkpoints
from flaxformer_lite.checkpoints.listing import Evaluation
from flaxformer_lite.checkpoints.storage import silence_orbax
from flaxformer_lite.checkpoints.work_dir import WorkDir
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.data.vocabularies.base import Vocabulary
from flaxformer_lite.data.vocabularies.character_word import CharacterVocabulary
from flaxformer_lite.models.encoder_decoder import make_model
from flaxformer_lite.train_step.state import TrainState, param_shapes

LETTERS = CharacterVocabulary("abcdefghij")


def make_params(config: Config, vocabularies: tuple[Vocabulary, Vocabulary], seed: int) -> Any:
    """Random parameters, also where initial values are 0 or 1; nothing is compiled."""
    model = make_model(config, *(vocabulary.size for vocabulary in vocabularies))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.float32(0.4 * rng.standard_normal(x.shape)), param_shapes(model))


def make_folder(
    path: Path,
    config: Config,
    steps: Sequence[int] = (10,),
    vocabularies: tuple[Vocabulary, Vocabulary] = (LETTERS, LETTERS),
) -> dict[int, Any]:
    """Writes a work directory with a checkpoint of each step, the first being the best; returns their parameters."""
    folder = WorkDir(path)
    folder.claim(config)
    folder.save_vocabularies(*vocabularies)
    params = {step: make_params(config, vocabularies, step) for step in steps}
    sign = 1 if config.eval.best_metric == "loss" else -1
    with silence_orbax():
        checkpoints = Checkpoints(folder.checkpoints, config.train, config.eval.best_metric)
        for step in steps:
            zero = jnp.zeros((), jnp.int32)
            state = TrainState(jnp.asarray(step, jnp.int32), params[step], (zero,), zero, zero)
            history = [Evaluation(s, sign * float(s)) for s in steps if s <= step]
            checkpoints.save(Checkpoint(state, {"next_index": step}, history, [0.0] * 4))
        checkpoints.close()
    return params
