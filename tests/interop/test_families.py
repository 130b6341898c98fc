"""Every published family against transformers itself: tiny models with random weights, made on the spot."""

import dataclasses
import json
import re
from typing import Any

import numpy as np
import pytest

from flaxformer_lite.interop.families.known import FAMILIES
from tests.interop import published
from tests.interop.published import SOURCES, TARGETS, Both, rows
from tests.interop.tiny import MODELS
from tests.reference import transformers

pytestmark = pytest.mark.filterwarnings("ignore")  # those of other libraries are not ours to mend


_SLOW = ("mbart, untied", "marian, untied", "pegasus, untied")  # whose tables are BART's


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=[pytest.mark.slow] * (name in _SLOW)) for name in MODELS]
)
def model(request) -> Both:
    return MODELS[request.param].both()


def test_logits_loss_and_gradients_are_the_references(model):
    source_size, target_size = model.ours.source_size, model.ours.target_size
    source, target = rows(model, SOURCES, source_size), rows(model, TARGETS, target_size)
    given = source, target, np.roll(target.ids, -1, axis=1)
    published.assert_same(published.ours(model, *given), published.theirs(model, *given), target.segments)


# What changes no logits: ids of a search, other heads than that of words, caches, how weights begin.
_NOTHING = """
    bos_token_id eos_token_id pad_token_id decoder_start_token_id forced_eos_token_id classifier_dropout
    classifier_dropout_rate is_decoder use_cache init_std initializer_factor initializer_range
"""
# What test_dropout.py tries.
_DROPOUT = {"dropout", "dropout_rate", "attention_dropout", "activation_dropout", "layerdrop"}


@pytest.mark.parametrize("kind", sorted({tiny.kind for tiny in MODELS.values()}))
def test_whatever_a_config_can_set_is_tried_above(kind):
    made = getattr(transformers, f"{kind}Config")
    plain, tried = _settings(made()), set(_NOTHING.split())
    for tiny in MODELS.values():
        if tiny.kind == kind:
            tried |= {key for key, value in _settings(tiny.config()).items() if value != plain[key]}
    untried = {key for key in plain if not {key, key.rpartition(".")[2]} & tried}
    untried -= {"tie_word_embeddings"} if kind == "MT5" else set()  # True whatever it is set to
    assert {re.sub(r"(encoder|decoder)[._]", "", key) for key in untried} <= _DROPOUT


@pytest.mark.parametrize("kind", sorted({tiny.kind for tiny in MODELS.values()}))
def test_what_it_leaves_unsaid_is_what_the_reference_takes(kind):
    made = getattr(transformers, f"{kind}Config")()
    family, full = FAMILIES[made.model_type], json.loads(made.to_json_string(use_diff=False))
    assert family.to_model({}, "all") == family.to_model(full, "all")
    assert family.sizes({}) == family.sizes(full)
    rates = {key: 0.25 for key in full if key.endswith(("dropout", "dropout_rate", "layerdrop"))}
    dropped = {key for key, value in family.to_model({**full, **rates}, "all").items() if value == 0.25}
    last = "layer_dropout" if "encoder_layerdrop" in full else "final_dropout"
    assert dropped == {"dropout", "attention.dropout", "feed_forward.dropout", last}


def _settings(config: Any) -> dict[str, Any]:
    """What a class of configs has of its own; of one for each side, those by names such as ``encoder.head_dim``."""
    base = {field.name for field in dataclasses.fields(transformers.PreTrainedConfig)}
    found = {}
    for name in {field.name for field in dataclasses.fields(config)} - base:
        value = getattr(config, name)
        inner = _settings(value) if isinstance(value, transformers.PreTrainedConfig) else {}
        found |= {f"{name}.{key}": value for key, value in inner.items()} if inner else {name: value}
    return found
