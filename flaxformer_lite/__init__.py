"""Encoder-decoder models in JAX and Flax Linen: train, resume exactly, decode from the work directory.

>>> import flaxformer_lite
>>> model = flaxformer_lite.load("runs/g2p", step="best")  # doctest: +SKIP
>>> model.decode(["flaxformer"])  # doctest: +SKIP
['F L AE K S F AO R M ER']
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flaxformer_lite.inference.loaded_model import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """Imports ``load`` on first use: it needs jax, and the help of the command line does not."""
    if name == "load":
        from flaxformer_lite.inference.loaded_model import load

        return load
    if name == "__version__":
        from importlib.metadata import version

        return version("flaxformer-lite")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
