"""What a config.json says becomes our settings and comes back; what it asks for that we have not is named."""

import numpy as np
import pytest

from flaxformer_lite.checkpoints.work_dir import WorkDir
from flaxformer_lite.config import defaults, parsing
from flaxformer_lite.config.dataclasses import ModelConfig
from flaxformer_lite.config.python_files import shipped_config
from flaxformer_lite.errors import InputError
from flaxformer_lite.interop import exporting
from flaxformer_lite.interop.families.known import FAMILIES
from flaxformer_lite.interop.families.settings import flat, require_expressible
from flaxformer_lite.interop.families.tensors import HEADS, HEADS_IN, HEADS_OUT, MATRIX, ROW, SAME, Names, Row, pairs
from flaxformer_lite.models import families
from tests.folders import LETTERS

PUBLISHED = {
    "t5": families.t5("small"),
    "mt5": families.mt5("small"),
    "umt5": families.umt5("small"),
    "bart": families.bart("base"),
    "mbart": families.mbart("large-50"),
    "marian": families.marian("base"),
    "pegasus": families.pegasus("large"),
    "m2m_100": families.nllb("600m"),
    "t5gemma": families.t5gemma("9b-2b"),
}


def config_of(model: dict) -> ModelConfig:
    values = defaults.get_config()
    values.data.share_vocabulary = True
    values.model.update_from_flattened_dict(model)
    return parsing.from_dict(values.to_dict()).model


@pytest.mark.parametrize("card", [*PUBLISHED, "t5_1_1", "byt5", "nllb"])
def test_what_a_run_card_trains_can_be_exported(tmp_path, card):
    values = shipped_config(card)
    values.data.text.train = ("a", "b")
    trained = exporting.Trained(WorkDir(tmp_path), parsing.from_dict(values.to_dict()), (LETTERS, LETTERS), 0, {})
    said = exporting.config_json(trained, exporting.family_of(trained), exporting.roles_of(trained))
    assert said["pad_token_id"] == LETTERS.special.pad
    if card == "nllb":
        values.model.position_details.offset = 2
        wrong = trained._replace(config=parsing.from_dict(values.to_dict()))
        with pytest.raises(InputError, match=r"position_details\.offset=2: .* train it with 1"):
            exporting.config_json(wrong, "m2m_100", exporting.roles_of(wrong))


@pytest.mark.parametrize("name", PUBLISHED)
def test_settings_come_back(name):
    family, model = FAMILIES[name], PUBLISHED[name].model
    config = config_of(model)
    require_expressible(family, config)
    read = family.to_model(family.from_model(flat(config)), config.share_embeddings)
    assert {key: read[key] for key in model if key != "init"} == {k: v for k, v in model.items() if k != "init"}


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "silu", "relu"])
@pytest.mark.parametrize("gated", [False, True])
def test_every_feed_forward_sublayer_of_t5_comes_back(activation, gated):
    changes = {"feed_forward.activation": activation, "feed_forward.gated": gated}
    settings = FAMILIES["t5"].from_model(flat(config_of(PUBLISHED["t5"].model | changes)))
    read = FAMILIES["t5"].to_model(settings, "all")
    assert {key: read[key] for key in changes} == changes


def test_a_window_that_no_layer_has_is_written_for_the_reference_asks_for_it():
    model = {**PUBLISHED["t5gemma"].model, "attention.window": 0, "attention.pattern": ("full",)}
    settings = FAMILIES["t5gemma"].from_model(flat(config_of(model)))
    assert settings["encoder"]["sliding_window"] > 0
    read = FAMILIES["t5gemma"].to_model(settings, "target")
    assert (read["attention.window"], read["attention.pattern"]) == (0, ("full",))


@pytest.mark.parametrize("name", PUBLISHED)
def test_all_that_it_cannot_do_is_named(name):
    settings = FAMILIES[name].from_model(flat(config_of(PUBLISHED[name].model)))
    spoilt = {**settings, "mixture_of": 3, "use_lookahead": True, "id2label": {}, "torch_dtype": "float16"}
    with pytest.raises(InputError, match=r"cannot do: mixture_of=3, use_lookahead=True$"):
        FAMILIES[name].to_model(spoilt, "all")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("t5", {"feed_forward_proj": "gated-mish"}, "feed_forward_proj='gated-mish' with .* not supported; relu, gelu"),
        ("umt5", {"dense_act_fn": "mish"}, "feed_forward_proj='gated-gelu' with dense_act_fn='mish' is not supported"),
        ("mt5", {"num_hidden_layers": 6}, r"num_hidden_layers=6 \(only 8\)"),
        ("bart", {"activation_function": "mish"}, "activation_function='mish' is not supported; relu, gelu"),
        ("bart", {"decoder_layerdrop": 0.5}, r"decoder_layerdrop=0.5 \(only 0.0\)"),
        ("bart", {"num_hidden_layers": 6}, r"num_hidden_layers=6 \(only 12\)"),
        ("t5gemma", {"encoder": {"rope_parameters": {"rope_type": "yarn"}}}, "'yarn'.* is not supported"),
        (
            "t5gemma",
            {"decoder": {"rope_parameters": {"rope_theta": 9.0, "factor": 2.0}}},
            "'factor': 2.0} is not supported",
        ),
        ("t5gemma", {"decoder": {"rope_scaling": {"type": "linear"}}}, "cannot do: rope_scaling={'type': 'linear'}"),
        ("t5gemma", {"encoder": {"layer_types": ["chunked_attention"]}}, "layer_types=.'chunked_attention'. is not"),
        ("t5gemma", {"encoder": {"attention_bias": True}}, "must agree in .* attention.bias: True and False"),
        ("t5gemma", {"encoder": {"query_pre_attn_scalar": 5}}, "must agree in .* attention.query_scalar: 5 and 256"),
        ("t5gemma", {"encoder": {"rms_norm_eps": 1e-5}}, r"must agree in .* norms.epsilon: 1e-05 and 1e-06"),
        ("t5gemma", {"encoder": {"layer_types": ["full_attention"] * 26}}, "layer_types must be one pattern"),
        ("t5gemma", {"decoder": {"hidden_activation": "mish"}}, "hidden_activation='mish' is not supported"),
    ],
)
def test_a_setting_that_is_not_supported_is_named(name, changes, message):
    with pytest.raises(InputError, match=message):
        FAMILIES[name].to_model(changes, "all")


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("t5", {"norm": "after"}, r"config.model.norm='after' \(there: 'before'\)"),
        (
            "t5",
            {"num_decoder_heads": 4, "num_decoder_key_heads": 4, "decoder_mlp_width": 9},
            r"(?=.*num_decoder_heads=4).*decoder_mlp_width=9",
        ),
        ("bart", {"share_embeddings": "target"}, "shares all word vectors or none"),
        ("t5gemma", {"share_embeddings": "all", "decoder_width": 3584}, "have word vectors of their own"),
        ("pegasus", {"position_details.offset": 2}, "position_details.offset=2"),
    ],
)
def test_a_model_that_is_none_of_the_family_is_told_why(name, changes, message):
    config = config_of({**PUBLISHED[name].model, **changes})
    with pytest.raises(InputError, match=message):
        require_expressible(FAMILIES[name], config)


def test_a_parameter_that_the_family_has_not_is_named():
    names = Names((Row("w.{}", "layers_{}/kernel"), Row("v", "table")), {})
    found = pairs(names, {"layers_3/kernel": (2,), "table": (5, 4)})
    assert [(pair.theirs, pair.shape) for pair in found] == [("w.3", (2,)), ("v", (5, 4))]
    with pytest.raises(InputError, match="layers_3/gate: no tensor of this family"):
        pairs(names, {"layers_3/gate": (2,)})


@pytest.mark.parametrize(
    ("layout", "ours", "theirs"),
    [
        (SAME, (2, 3), (2, 3)),
        (MATRIX, (2, 3), (3, 2)),
        (HEADS_IN, (7, 2, 3), (6, 7)),
        (HEADS_OUT, (2, 3, 7), (7, 6)),
        (HEADS, (2, 3), (6,)),
        (ROW, (5,), (1, 5)),
    ],
)
def test_layouts_are_each_others_inverse(layout, ours, theirs):
    x = np.random.default_rng(0).standard_normal(ours)
    there = layout.theirs(x)
    assert there.shape == layout.shape(ours) == theirs
    np.testing.assert_array_equal(layout.ours(there, ours), x)
