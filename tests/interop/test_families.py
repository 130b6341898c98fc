"""Every published family computes what transformers computes, for tiny models with random weights."""

import dataclasses
import json
import re
from typing import Any

import pytest

from flaxformer_lite.interop.families.family_table import FAMILIES
from tests.interop import model_pairs
from tests.interop.model_pairs import ModelPair
from tests.interop.tiny_models import MODELS
from tests.transformers_reference import transformers

pytestmark = pytest.mark.filterwarnings("ignore")  # raised by other libraries


_SLOW = ("mbart, untied", "marian, untied", "pegasus, untied", "m2m_100, untied")  # they share their tables with BART


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=[pytest.mark.slow] * (name in _SLOW)) for name in MODELS]
)
def pair(request) -> ModelPair:
    return MODELS[request.param].make_pair()


def test_logits_loss_and_gradients_equal_the_references(pair):
    batch = model_pairs.random_batch(pair)
    expected = model_pairs.run_reference(pair, *batch)
    model_pairs.assert_same(model_pairs.run_model(pair, *batch), expected, batch[1].segments)


# Keys that do not change logits: decoding, other heads than the LM head, caches, initialization.
_IRRELEVANT = """
    bos_token_id eos_token_id pad_token_id decoder_start_token_id forced_eos_token_id classifier_dropout
    classifier_dropout_rate is_decoder use_cache init_std initializer_factor initializer_range
"""
# Covered by test_dropout.py.
_DROPOUT = {"dropout", "dropout_rate", "attention_dropout", "activation_dropout", "layerdrop"}


@pytest.mark.parametrize("kind", sorted({tiny.kind for tiny in MODELS.values()}))
def test_every_config_key_is_covered(kind):
    make = getattr(transformers, f"{kind}Config")
    plain, covered = _settings(make()), set(_IRRELEVANT.split())
    for tiny in MODELS.values():
        if tiny.kind == kind:
            covered |= {key for key, value in _settings(tiny.config()).items() if value != plain[key]}
    missing = {key for key in plain if not {key, key.rpartition(".")[2]} & covered}
    missing -= {"tie_word_embeddings"} if kind == "MT5" else set()  # True whatever it is set to
    assert {re.sub(r"(encoder|decoder)[._]", "", key) for key in missing} <= _DROPOUT


@pytest.mark.parametrize("kind", sorted({tiny.kind for tiny in MODELS.values()}))
def test_missing_config_keys_have_the_references_defaults(kind):
    config = getattr(transformers, f"{kind}Config")()
    family, full = FAMILIES[config.model_type], json.loads(config.to_json_string(use_diff=False))
    assert family.config_to_model({}, "all") == family.config_to_model(full, "all")
    assert family.vocab_sizes({}) == family.vocab_sizes(full)
    rates = {key: 0.25 for key in full if key.endswith(("dropout", "dropout_rate", "layerdrop"))}
    dropped = {key for key, value in family.config_to_model({**full, **rates}, "all").items() if value == 0.25}
    last = "layerdrop" if "encoder_layerdrop" in full else "final_dropout"
    keys = ("dropout", "attention.dropout", "feed_forward.dropout", last)
    assert dropped == {f"{side}.{key}" for side in ("encoder", "decoder") for key in keys}


def _settings(config: Any) -> dict[str, Any]:
    """Values of the fields that a config class itself defines; nested ones by names such as ``encoder.head_dim``."""
    base = {field.name for field in dataclasses.fields(transformers.PreTrainedConfig)}
    found = {}
    for name in {field.name for field in dataclasses.fields(config)} - base:
        value = getattr(config, name)
        inner = _settings(value) if isinstance(value, transformers.PreTrainedConfig) else {}
        found |= {f"{name}.{key}": value for key, value in inner.items()} if inner else {name: value}
    return found
