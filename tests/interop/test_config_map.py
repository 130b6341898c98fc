"""Keys of config.json are converted to config.model and back; unsupported ones are listed."""

import re

import numpy as np
import pytest

from flaxformer_lite.checkpoints.work_dir import WorkDir
from flaxformer_lite.config import defaults, parsing
from flaxformer_lite.config.model_dataclasses import ModelConfig
from flaxformer_lite.config.python_files import run_card
from flaxformer_lite.errors import InputError
from flaxformer_lite.interop import exporting
from flaxformer_lite.interop.families.config_map import architecture, differences
from flaxformer_lite.interop.families.family_table import FAMILIES
from flaxformer_lite.interop.families.name_map import (
    HEADS,
    HEADS_IN,
    HEADS_OUT,
    MATRIX,
    ROW,
    SAME,
    NameMap,
    NameRule,
    match_params,
)
from flaxformer_lite.models import presets
from tests.work_dirs import LETTERS

PUBLISHED = {
    "t5": presets.t5("small"),
    "mt5": presets.mt5("small"),
    "umt5": presets.umt5("small"),
    "bart": presets.bart("base"),
    "mbart": presets.mbart("large-50"),
    "marian": presets.marian("base"),
    "pegasus": presets.pegasus("large"),
    "m2m_100": presets.nllb("600m"),
    "t5gemma": presets.t5gemma("9b-2b"),
}


def config_of(model: dict) -> ModelConfig:
    values = defaults.get_config()
    values.data.share_vocabulary = True
    values.model.update_from_flattened_dict(model)
    return parsing.from_dict(values.to_dict()).model


@pytest.mark.parametrize("card", [*PUBLISHED, "t5_1_1", "byt5", "nllb"])
def test_models_of_run_cards_can_be_exported(tmp_path, card):
    values = run_card(card)
    values.data.text.train = ("a", "b")
    trained = exporting.TrainedModel(WorkDir(tmp_path), parsing.from_dict(values.to_dict()), (LETTERS, LETTERS), 0, {})
    exported = exporting.make_config_json(
        trained, exporting.choose_family(trained), exporting.special_tokens_of(trained)
    )
    assert exported["pad_token_id"] == LETTERS.special.pad
    if card == "nllb":
        values.model.encoder.positions.offset = 2
        wrong = trained._replace(config=parsing.from_dict(values.to_dict()))
        with pytest.raises(InputError, match=r"encoder\.positions\.offset=2: .* train with 1"):
            exporting.make_config_json(wrong, "m2m_100", exporting.special_tokens_of(wrong))


@pytest.mark.parametrize("name", PUBLISHED)
def test_keys_survive_a_round_trip(name):
    family, model = FAMILIES[name], PUBLISHED[name].model
    config = config_of(model)
    assert differences(family, config) == []
    converted = family.config_to_model(family.model_to_config(architecture(config)), config.share_embeddings)
    expected = {key: value for key, value in model.items() if key != "init"}
    assert {key: converted[key] for key in expected} == expected
    assert architecture(config_of(converted)) == architecture(config)


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "silu", "relu"])
@pytest.mark.parametrize("gated", [False, True])
def test_every_feed_forward_of_t5_survives_a_round_trip(activation, gated):
    changes = {"encoder.feed_forward.activation": activation, "encoder.feed_forward.gated": gated}
    settings = FAMILIES["t5"].model_to_config(architecture(config_of(PUBLISHED["t5"].model | changes)))
    converted = FAMILIES["t5"].config_to_model(settings, "all")
    assert {key: converted[key] for key in changes} == changes


def test_a_sliding_window_is_written_even_if_no_layer_uses_it():
    changes = {"encoder.attention.sliding_window": 0, "encoder.attention.layer_pattern": ("global",)}
    model = PUBLISHED["t5gemma"].model | changes
    settings = FAMILIES["t5gemma"].model_to_config(architecture(config_of(model)))
    assert settings["encoder"]["sliding_window"] > 0
    converted = FAMILIES["t5gemma"].config_to_model(settings, "target")
    assert {key: converted[key] for key in changes} == changes


def test_the_stacks_of_t5gemma_may_differ():
    encoder = {"attention_bias": True, "query_pre_attn_scalar": 5, "rms_norm_eps": 1e-5, "sliding_window": 7}
    config = {"encoder": encoder, "decoder": {"layer_types": ["full_attention"] * 26}}
    converted = FAMILIES["t5gemma"].config_to_model(config, "target")
    for key, one, other in (
        ("attention.bias", True, False),
        ("attention.query_pre_attn_scalar", 5, 256),
        ("norm.epsilon", 1e-5, 1e-6),
        ("attention.sliding_window", 7, 0),
        ("attention.layer_pattern", ("local", "global"), ("global",)),
    ):
        assert (converted[f"encoder.{key}"], converted[f"decoder.{key}"]) == (one, other)
    assert differences(FAMILIES["t5gemma"], config_of(converted)) == []


@pytest.mark.parametrize("name", PUBLISHED)
def test_all_unsupported_keys_are_listed(name):
    settings = FAMILIES[name].model_to_config(architecture(config_of(PUBLISHED[name].model)))
    spoilt = {**settings, "mixture_of": 3, "use_lookahead": True, "id2label": {}, "torch_dtype": "float16"}
    with pytest.raises(InputError, match=r"not supported: mixture_of=3, use_lookahead=True$"):
        FAMILIES[name].config_to_model(spoilt, "all")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("t5", {"feed_forward_proj": "gated-mish"}, "feed_forward_proj='gated-mish' with .* not supported; relu, gelu"),
        ("umt5", {"dense_act_fn": "mish"}, "feed_forward_proj='gated-gelu' with dense_act_fn='mish' is not supported"),
        ("mt5", {"num_hidden_layers": 6}, r"num_hidden_layers=6 \(only 8\)"),
        ("bart", {"activation_function": "mish"}, "activation_function='mish' is not supported; relu, gelu"),
        ("bart", {"num_hidden_layers": 6}, r"num_hidden_layers=6 \(only 12\)"),
        ("t5gemma", {"encoder": {"rope_parameters": {"rope_type": "yarn"}}}, "'yarn'.* is not supported"),
        (
            "t5gemma",
            {"decoder": {"rope_parameters": {"rope_theta": 9.0, "factor": 2.0}}},
            "'factor': 2.0} is not supported",
        ),
        (
            "t5gemma",
            {"decoder": {"rope_scaling": {"type": "linear"}}},
            "not supported: rope_scaling={'type': 'linear'}",
        ),
        ("t5gemma", {"encoder": {"layer_types": ["chunked_attention"]}}, "layer_types='chunked_attention' is not"),
        ("t5gemma", {"decoder": {"hidden_activation": "mish"}}, "hidden_activation='mish' is not supported"),
    ],
)
def test_an_unsupported_value_is_named(name, changes, message):
    with pytest.raises(InputError, match=message):
        FAMILIES[name].config_to_model(changes, "all")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("t5", {"encoder.norm.placement": "post"}, r"config.model.encoder.norm.placement='post' \(only 'pre'\)"),
        (
            "t5",
            {"decoder.num_heads": 4, "decoder.mlp_dim": 9},
            r"(?=.*config.model.decoder.num_heads=4).*decoder.mlp_dim=9",
        ),
        ("t5", {"decoder.feed_forward.activation": "silu"}, "config.model.decoder.feed_forward.activation='silu'"),
        ("pegasus", {"encoder.positions.offset": 2}, "encoder.positions.offset=2"),
    ],
)
def test_differences_from_a_family_are_listed(name, changes, message):
    config = config_of({**PUBLISHED[name].model, **changes})
    assert re.search(message, ", ".join(differences(FAMILIES[name], config)))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("bart", {"share_embeddings": "target"}, "shares all embeddings or none"),
        ("t5gemma", {"share_embeddings": "all", "decoder.width": 3584}, "have separate embeddings"),
    ],
)
def test_a_value_without_counterpart_is_refused(name, changes, message):
    config = config_of({**PUBLISHED[name].model, **changes})
    with pytest.raises(InputError, match=message):
        differences(FAMILIES[name], config)


def test_an_unknown_parameter_is_named():
    names = NameMap((NameRule("w.{}", "layers_{}/kernel"), NameRule("v", "table")), {})
    matches = match_params(names, {"layers_3/kernel": (2,), "table": (5, 4)})
    assert [(match.tensor, match.shape) for match in matches] == [("w.3", (2,)), ("v", (5, 4))]
    with pytest.raises(InputError, match="layers_3/gate: models of this family have no such parameter"):
        match_params(names, {"layers_3/gate": (2,)})


@pytest.mark.parametrize(
    ("layout", "param", "tensor"),
    [
        (SAME, (2, 3), (2, 3)),
        (MATRIX, (2, 3), (3, 2)),
        (HEADS_IN, (7, 2, 3), (6, 7)),
        (HEADS_OUT, (2, 3, 7), (7, 6)),
        (HEADS, (2, 3), (6,)),
        (ROW, (5,), (1, 5)),
    ],
)
def test_layouts_are_invertible(layout, param, tensor):
    x = np.random.default_rng(0).standard_normal(param)
    converted = layout.to_tensor(x)
    assert converted.shape == layout.tensor_shape(param) == tensor
    np.testing.assert_array_equal(layout.to_param(converted, param), x)
