"""Every model against the formulas of its papers in plain NumPy, float64, one sentence at a time."""

from typing import Any

import jax
import numpy as np
import pytest

from flaxformer_lite.config import ModelConfig
from tests.models import contract, recurrent_reference, transformer_reference
from tests.models.subjects import MODELS, subject


def reference(params: Any, config: ModelConfig, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Logits [t, v] of the token after each of ``target`` [t], given ``source`` [s]."""
    inputs = "target_embedding" if config.share_embeddings == "all" else "source_embedding"
    embed = transformer_reference.embed
    x, y = embed(params[inputs], source), embed(params["target_embedding"], target)
    if config.encoder == "rnn":
        annotations, lasts = recurrent_reference.encode(params["encoder"], config, x)
    else:
        annotations = transformer_reference.encode(params["encoder"], config, x)
        lasts = [(annotations.mean(0),)]
    if config.decoder == "rnn":
        said = recurrent_reference.decode(params["decoder"], config, y, annotations, lasts)
    else:
        said = transformer_reference.decode(params["decoder"], config, y, annotations)
    if config.share_embeddings == "none":
        return said @ params["output"]["kernel"] + params["output"]["bias"]
    return said @ params["target_embedding"]["table"].T


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_the_papers(name):
    model = subject(name)
    params = jax.tree.map(np.float64, model.params)
    found = model.logits(contract.SOURCE, contract.TARGET)
    for row in range(2):
        source, target = (
            tokens.ids[row, : tokens.segments[row].sum()] for tokens in (contract.SOURCE, contract.TARGET)
        )
        expected = reference(params, MODELS[name].config, source, target)
        np.testing.assert_allclose(found[row, : len(target)], expected, rtol=1e-4, atol=1e-5)
