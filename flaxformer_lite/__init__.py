"""Encoder-decoder models in JAX and Flax Linen: train, resume exactly, decode from the work directory.

>>> import flaxformer_lite
>>> model = flaxformer_lite.load("runs/g2p", step="best")  # doctest: +SKIP
>>> model.decode(["flaxformer"])  # doctest: +SKIP
['F L AE K S F AO R M ER']
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from ml_collections import ConfigDict

    from flaxformer_lite.config.dataclasses import Config
    from flaxformer_lite.inference.loaded_model import LoadedModel
    from flaxformer_lite.training.loop import TrainResult

__all__ = ["load", "train"]


# Imports are inside of functions: jax takes seconds to import, and the help of the command line does not need it.


def load(workdir: str | Path | Sequence[str | Path], step: str | int = "best") -> LoadedModel:
    """Loads a trained model from its work directory, or several models as an ensemble.

    Args:
      workdir: the work directory of a run, or several; their architectures may differ, not their vocabularies.
      step: the checkpoint of each: ``best``, ``latest``, a step, or ``average`` (see ``flaxformer-lite average``).

    Raises:
      InputError: there is no such checkpoint, or the vocabularies differ.
    """
    from flaxformer_lite.inference.loaded_model import load_model

    return load_model(workdir, step)


def train(config: Config | ConfigDict | Mapping[str, Any], workdir: str | Path) -> TrainResult:
    """Trains a model, or resumes the run in the work directory, as ``flaxformer-lite train``.

    Args:
      config: a ``Config``, or a ``ConfigDict`` such as the ``get_config()`` of a run card returns.
      workdir: the work directory, which is created.

    Returns:
      The last step, the best step, and the value of ``config.eval.best_metric`` there.

    Raises:
      InputError: the config, its data or the directory are invalid; or the loss diverges.
    """
    from ml_collections import ConfigDict

    from flaxformer_lite.config import parsing
    from flaxformer_lite.config.dataclasses import Config
    from flaxformer_lite.training import loop

    values: Any = config.to_dict() if isinstance(config, ConfigDict) else config
    return loop.train(values if isinstance(values, Config) else parsing.from_dict(values), workdir)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("flaxformer-lite")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
