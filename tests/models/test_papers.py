"""Every model against the formulas of its papers in plain NumPy, float64, one sentence at a time."""

from functools import partial
from typing import Any

import jax
import numpy as np
import pytest

from flaxformer_lite.config.model_dataclasses import ModelConfig
from tests.models import contract, rnn_reference, transformer_reference
from tests.models.subjects import MODELS, USER_DEFINED, subject


def reference(params: Any, config: ModelConfig, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Logits [t, v] of the token after each of ``target`` [t], given ``source`` [s]."""
    inputs = "target_embedding" if config.share_embeddings in ("all", "inputs") else "source_embedding"
    embed = partial(transformer_reference.embed, scaled=config.scale_embeddings)
    x, y = embed(params[inputs], source), embed(params["target_embedding"], target)
    if config.encoder.kind == "rnn":
        annotations, lasts = rnn_reference.encode(params["encoder"], config.encoder, x)
    else:
        annotations = transformer_reference.encode(params["encoder"], config.encoder, x)
        lasts = [(annotations.mean(0),)]
    if config.decoder.kind == "rnn":
        outputs = rnn_reference.decode(params["decoder"], config.decoder, y, annotations, lasts)
    else:
        outputs = transformer_reference.decode(params["decoder"], config.decoder, y, annotations)
    outputs = outputs / np.sqrt(outputs.shape[1]) if config.lm_head.scale else outputs
    output = params.get("output", {})
    kernel = (
        output["kernel"] if config.share_embeddings in ("inputs", "none") else params["target_embedding"]["table"].T
    )
    logits = outputs @ kernel + output.get("bias", 0)
    return transformer_reference.cap(logits[:, : contract.TARGET_SIZE], config.lm_head.soft_cap)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in USER_DEFINED])
def test_logits_equal_the_formulas_of_the_papers(name):
    model = subject(name)
    params = jax.tree.map(np.float64, model.params)
    found = model.logits(contract.SOURCE, contract.TARGET)
    for row in range(2):
        source, target = (
            tokens.ids[row, : tokens.segments[row].sum()] for tokens in (contract.SOURCE, contract.TARGET)
        )
        expected = reference(params, MODELS[name].config, source, target)
        np.testing.assert_allclose(found[row, : len(target)], expected, rtol=1e-4, atol=1e-5)
