"""Trained models in Python: ``flaxformer_lite.load``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Array, Float

from flaxformer_lite.checkpoints.restore_params import restore_params
from flaxformer_lite.checkpoints.work_dir import WorkDir
from flaxformer_lite.config.dataclasses import DecodeConfig, MeshConfig
from flaxformer_lite.data.batching import pad, tokenize
from flaxformer_lite.data.buckets import pad_to_power_of_two
from flaxformer_lite.data.tasks import Split
from flaxformer_lite.data.vocabularies.base import Vocabulary
from flaxformer_lite.errors import InputError, require
from flaxformer_lite.inference.predict import Predictor, batches_by_shape
from flaxformer_lite.inference.scoring import ScoredTarget, Scorer
from flaxformer_lite.models.encoder_decoder import make_decoding_model
from flaxformer_lite.sharding.mesh_layout import MeshLayout
from flaxformer_lite.system.compile_log import LoggedJit
from flaxformer_lite.train_step.state import param_shapes
from flaxformer_lite.types import Tokens


class LoadedModel(Predictor):
    """A trained model, or an ensemble of several, with everything that its work directory holds for inference.

    Results are NumPy arrays without padding, in the order of the lines. s is the number of source tokens of a line and
    t that of target tokens, both with the end token, d the encoder's width and v the size of the target vocabulary.

    Attributes:
      config: config of the run.
      params: the parameter tree of the checkpoint; of an ensemble, the members' trees under ``members_0``, ….
      module: the Linen module of ``params``, with the methods ``encode``, ``decode``, ``init_cache`` and ``step``.
      step: the step of the checkpoint.
      vocabularies: the source and the target vocabulary.
      paths: the work directories.
    """

    def __init__(self, *args: Any, paths: Sequence[Path], **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.paths = tuple(paths)

    def __repr__(self) -> str:
        sides = [stack.kind for stack in (self.config.model.encoder, self.config.model.decoder)]
        kind = sides[0] if sides[0] == sides[1] else f"{sides[0]} encoder, {sides[1]} decoder"
        if len(self.paths) > 1:
            kind = f"ensemble of {len(self.paths)} models"
        count = sum(leaf.size for leaf in jax.tree.leaves(self.params))
        return f"LoadedModel({kind}, {count:,} parameters, step {self.step}, {', '.join(map(str, self.paths))})"

    @property
    def module(self) -> nn.Module:
        return self.module_of(self.config.decode)

    def encode(self, lines: Sequence[str]) -> list[Float[np.ndarray, "s d"]]:
        """The encoder's output states [s, d] of each line.

        Raises:
          InputError: the model is an ensemble, whose members have states of their own.
        """
        require(len(self.paths) == 1, "encode", "an ensemble has no common encoder states", "load one model")
        source, layout = self.vocabularies[0], self.layout
        rows = layout.round_up_rows(self.config.decode.batch_size)
        tokens = self.truncate(tokenize(source, lines))
        shapes = pad_to_power_of_two(tokens.lengths, self.max_supported_length)[:, None]
        found: dict[int, np.ndarray] = {}
        for members, (length,) in batches_by_shape(np.arange(len(lines)), shapes, tokens.lengths, rows):
            padded = np.pad(members, (0, rows - len(members)), constant_values=-1)
            batch = layout.shard_replicated_batch(pad(tokens, padded, length, source.special))
            states = layout.fetch(self._encoder_states(self.params, batch))
            found |= {int(index): states[row, : tokens.lengths[index]] for row, index in enumerate(members)}
        return [found[index] for index in range(len(lines))]

    def logits(self, sources: Sequence[str], targets: Sequence[str]) -> list[Float[np.ndarray, "t v"]]:
        """Teacher-forced logits [t, v] of each pair: row j predicts token j of the target, the last the end token.

        Of an ensemble they are the log of the members' mean probabilities.

        Raises:
          InputError: the numbers of both differ, or one has more tokens than the model supports.
        """
        return self._scorer.logits(sources, targets)

    def score(self, sources: Sequence[str], targets: Sequence[str]) -> list[ScoredTarget]:
        """Log P(target | source) of each pair, with those of its tokens [t] and attention weights [t, s].

        Raises:
          InputError: the numbers of both differ, or one has more tokens than the model supports.
        """
        return self._scorer.score(sources, targets)

    def evaluate(
        self,
        split: Split = "validation",
        max_examples: int = 0,
        files: Sequence[str] = (),
        decode: DecodeConfig | None = None,
    ) -> dict[str, float]:
        """Loss, token accuracy and the metrics of ``config.eval`` on a split of the run's data.

        ``max_examples`` are spread evenly over the split (0: all). ``files`` replace the split: one TSV file, or a
        source and a target file. The search is that of ``decode``, by default ``config.decode``.
        """
        from flaxformer_lite.inference.evaluate import evaluate_split  # here, because it imports grain, which is slow

        return evaluate_split(self, split, decode or self.config.decode, max_examples, files).metrics

    @cached_property
    def _scorer(self) -> Scorer:
        return Scorer(self, self.config.decode)

    @cached_property
    def _encoder_states(self) -> Any:
        return LoggedJit(jax.jit(partial(_encoder_states, self.module)), "encoding")


def _encoder_states(module: nn.Module, params: Any, source: Tokens) -> Float[Array, "b s d"]:
    output: Any = module.apply({"params": params}, source, train=False, method="encoder_output")
    return output.states


def load_model(workdir: str | Path | Sequence[str | Path], step: str | int = "best") -> LoadedModel:
    """Implements ``flaxformer_lite.load``."""
    work_dirs = [WorkDir(path) for path in ([workdir] if isinstance(workdir, str | Path) else workdir)]
    configs = [work_dir.config() for work_dir in work_dirs]
    vocabularies = _common_vocabularies(work_dirs)
    layout = MeshLayout(MeshConfig(data=-1, fsdp=1, tensor=1))
    restored = []
    for work_dir, config in zip(work_dirs, configs, strict=True):
        module = make_decoding_model(config, *(vocabulary.size for vocabulary in vocabularies))
        shapes = layout.replicated_shapes(param_shapes(module, config.precision.param_dtype))
        restored.append(restore_params(work_dir.checkpoints, step, config.eval.best_metric, shapes))
    steps, params = zip(*restored, strict=True)
    tree = params[0] if len(params) == 1 else {f"members_{i}": member for i, member in enumerate(params)}
    paths = [work_dir.path for work_dir in work_dirs]
    return LoadedModel(configs[0], vocabularies, tree, steps[0], layout, configs[1:], paths=paths)


def _common_vocabularies(work_dirs: Sequence[WorkDir]) -> tuple[Vocabulary, Vocabulary]:
    first, *others = work_dirs
    vocabularies = first.vocabularies()
    for other in others:
        for side, ours, theirs in zip(("source", "target"), vocabularies, other.vocabularies(), strict=True):
            if ours.to_json() != theirs.to_json():
                raise InputError(
                    f"{first.path} and {other.path}",
                    f"cannot be one ensemble: their {side} vocabularies differ (of {ours.size:,} and {theirs.size:,} "
                    "entries)",
                    "train the models on the same text",
                )
    return vocabularies
