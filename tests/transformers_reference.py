"""PyTorch and transformers as references; tests that import this module are skipped where they are not installed."""

import warnings

import pytest

with warnings.catch_warnings():  # raised by other libraries
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason="compares with transformers: pip install -e '.[hf]'")
    transformers = pytest.importorskip("transformers", reason="compares with transformers: pip install -e '.[hf]'")

transformers.logging.set_verbosity_error()
