import copy
import json
from pathlib import Path

import pytest

from flaxformer_lite.config import loading, migrations, parsing
from flaxformer_lite.errors import InputError

_SAVED = Path(__file__).parents[1] / "checkpoints" / "work_dir_0_1_0" / "config.json"


@pytest.fixture
def old() -> dict:
    """The config.json that version 0.1.0 wrote for the run card tiny with a few overrides."""
    return json.loads(_SAVED.read_text())


def test_a_config_of_0_1_0_equals_the_current_one_with_the_same_overrides(old):
    changes = {
        **{"train.steps": 60, "train.eval_every": 20, "train.save_every": 10, "train.log_every": 5},
        **{"train.keep_latest": 3, "data.reverse.examples": 2000, "optim.warmup_steps": 20, "eval.max_examples": 50},
        **{"model.encoder.width": 32, "model.encoder.mlp_dim": 64},
        # what version 0.1.0 did with rows of text
        **{"data.text.group_references": True, "data.on_bad_row": "keep_empty"},
    }
    today = loading.load("tiny", [f"--config.{key}={value}" for key, value in changes.items()])
    assert parsing.from_dict(migrations.migrate(old)) == today
    assert loading.load(str(_SAVED), []) == today


def test_every_renamed_key_of_0_1_0_keeps_its_value(old):
    changes = {
        **{"data.overlong": "truncate", "data.buckets": 7, "optim.rates": ["encoder=0.5"], "train.accumulate": 2},
        **{"train.max_skipped": 3, "eval.samples": 5, "decode.convention": "fairseq", "decode.beam_groups": 2},
        **{"decode.samples": 9, "decode.no_repeat_ngram": 3, "decode.forbidden": ["a"], "decode.renormalise": True},
        **{"decode.force_opening": False, "decode.force_end": True, "decode.beam_size": 4},
        **{"rules.head_width": "tensor", "rules.embed": "none", "precision.weights": "bfloat16"},
        **{"precision.compute": "bfloat16", "precision.moments": "bfloat16"},
    }
    for key, value in changes.items():
        group, name = key.split(".")
        assert old[group][name] != value
        old[group][name] = value
    config = parsing.from_dict(migrations.migrate(old))
    data, optim, train, decode, rules = (
        config.data,
        config.optim,
        config.train,
        config.decode,
        config.logical_axis_rules,
    )
    assert (data.overlength, data.num_buckets) == ("truncate", 7)
    assert (optim.lr_multipliers, train.grad_accum_steps, train.max_nonfinite_steps) == (("encoder=0.5",), 2, 3)
    assert (config.eval.num_samples, decode.num_samples, decode.beam_variant) == (5, 9, "fairseq")
    assert (decode.num_beam_groups, decode.no_repeat_ngram_size, decode.suppress_tokens) == (2, 3, ("a",))
    assert (decode.renormalize_logits, decode.forced_bos, decode.forced_eos) == (True, False, True)
    assert (rules.head_dim, rules.embed) == ("tensor", "none")
    assert set(vars(config.precision).values()) == {"bfloat16"}


@pytest.mark.parametrize(
    ("changes", "new"),
    [
        ({"decoder_width": 16, "num_decoder_layers": 1}, {"decoder.width": 16, "decoder.num_layers": 1}),
        ({"num_key_heads": 2}, {"encoder.num_kv_heads": 2, "decoder.num_kv_heads": 0}),
        (
            {"positions": "relative_per_layer"},
            {"encoder.positions.kind": "relative_bias", "decoder.positions.per_layer": True},
        ),
        ({"positions": "halves"}, {"encoder.positions.kind": "sinusoidal_concat"}),
        ({"positions": "fairseq"}, {"decoder.positions.kind": "sinusoidal_fairseq"}),
        ({"norm": "around"}, {"encoder.norm.placement": "sandwich"}),
        ({"norms.kind": "rms_from_one"}, {"encoder.norm.kind": "rms", "encoder.norm.unit_offset": True}),
        ({"norms.final": "unless_after"}, {"decoder.norm.final": "unless_post"}),
        (
            {"attention.window": 8, "attention.pattern": ["window", "full"]},
            {"encoder.attention.sliding_window": 8, "encoder.attention.layer_pattern": ("local", "global")},
        ),
        ({"embeddings.multiple": 8, "embeddings.scale": False}, {"vocab_pad_multiple": 8, "scale_embeddings": False}),
        ({"output.softcap": 3.0, "init": "small"}, {"lm_head.soft_cap": 3.0, "init": "normal_0.02"}),
        ({"layer_dropout": 0.5}, {"encoder.layerdrop": 0.5, "decoder.layerdrop": 0.5}),
        ({"rnn.design": "luong"}, {"decoder.rnn.design": "luong", "encoder.rnn.design": "bahdanau"}),
    ],
)
def test_model_keys_of_0_1_0_become_two_stacks(changes, new, old):
    for key, value in changes.items():
        *groups, name = key.split(".")
        inner = old["model"]
        for group in groups:
            inner = inner[group]
        inner[name] = value
    model = parsing.from_dict(migrations.migrate(old)).model
    for key, value in new.items():
        found = model
        for name in key.split("."):
            found = getattr(found, name)
        assert found == value, key


def test_vocabularies_of_1_have_no_special_tokens_and_are_trained_on_all_lines(old):
    old["data"]["source_vocabulary"]["kind"] = "sentencepiece"
    data = parsing.from_dict(migrations.migrate(old)).data
    assert (data.source_vocabulary.model_type, data.source_vocabulary.sample_size) == ("unigram", 0)
    assert (data.target_vocabulary.special_tokens, data.target_vocabulary.num_sentinels) == ((), 0)


def test_a_current_config_is_unchanged(tmp_path):
    config = loading.load("g2p", [])
    saved = migrations.with_version(parsing.to_dict(config))
    (tmp_path / "config.json").write_text(json.dumps(saved))
    assert saved["version"] == migrations.VERSION
    assert parsing.from_dict(migrations.read_config(tmp_path / "config.json")) == config


def test_migrating_changes_nothing_in_place(old):
    before = copy.deepcopy(old)
    migrations.migrate(old)
    assert old == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": migrations.VERSION + 1}, r"config\.json, version=\d: was written by a later flaxformer-lite;"),
        ({"version": "1"}, r"config\.json, version='1': must be a whole number"),
        ({"version": -1}, r"config\.json, version=-1: must be a whole number"),
        ({"model": None}, r"config\.json, config: is no config of version 0: Type"),
        ({"train": {}}, r"config\.json, config: is no config of version 0: KeyError: 'vmap_seeds'"),
        ({"model_type": "t5"}, r"config\.json: belongs to a published model; import it"),
    ],
)
def test_values_that_cannot_be_migrated_are_named(changes, message, old, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(old | changes))
    with pytest.raises(InputError, match=message):
        migrations.read_config(path)


def test_several_seeds_in_one_program_are_separate_runs(old):
    old["train"]["vmap_seeds"] = 3
    with pytest.raises(InputError, match=r"vmap_seeds=3: holds the runs of 3 seeds.*; name one of seed_0 … seed_2"):
        migrations.migrate(old)
