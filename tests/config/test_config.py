import ast
import copy
import json
from pathlib import Path

import pytest

from flaxformer_lite.config import config_keys, defaults, loading, parsing
from flaxformer_lite.config.value_types import Bounds
from flaxformer_lite.errors import InputError

_ROOT = Path(__file__).resolve().parents[2]
_CONFIGS = sorted(path.name for path in (_ROOT / "configs").glob("*.py"))


@pytest.fixture(scope="module")
def default_values() -> dict:
    return parsing.to_dict(parsing.from_dict(defaults.get_config().to_dict()))


@pytest.fixture
def values(default_values) -> dict:
    """The values of flaxformer_lite/config/defaults.py, to be changed."""
    return copy.deepcopy(default_values)


def _set(values: dict, key: str, value: object) -> dict:
    *groups, name = key.split(".")
    inner = values
    for group in groups:
        inner = inner[group]
    inner[name] = value
    return values


@pytest.mark.parametrize("name", _CONFIGS)
def test_every_config_of_the_project_is_valid(name, repository):
    config = loading.load(str(repository / "configs" / name), [])
    assert config.model.decoder.num_layers == {"byt5.py": 4}.get(name, config.model.encoder.num_layers)


@pytest.mark.parametrize("name", [name for name in _CONFIGS if name not in ("base.py", "imported.py")])
def test_every_experiment_has_a_run_card(name, repository):
    card = ast.get_docstring(ast.parse((repository / "configs" / name).read_text()))
    for line in ("Expect", "Time", f"Train    flaxformer-lite train --config=configs/{name}", "Vary"):
        assert line in card


def test_every_default_value_has_a_comment(repository):
    lines = (repository / "flaxformer_lite/config/defaults.py").read_text().splitlines()
    tree = ast.parse("\n".join(lines))
    assigned = [
        node for node in ast.walk(tree) if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
    ]
    in_groups = [value for node in ast.walk(tree) if isinstance(node, ast.Dict) for value in node.values]
    assert len(assigned) > 30
    for node in assigned + in_groups:
        assert "  # " in lines[node.end_lineno - 1], (
            f"flaxformer_lite/config/defaults.py:{node.end_lineno} has no comment"
        )


def test_to_dict_survives_json(values):
    config = parsing.from_dict(values)
    assert parsing.from_dict(json.loads(json.dumps(parsing.to_dict(config)))) == config


def test_valid_keys_are_those_of_the_defaults(values):
    def flat(group, prefix=""):
        for key, value in group.items():
            yield from flat(value, f"{prefix}{key}.") if value and isinstance(value, dict) else [f"{prefix}{key}"]

    assert sorted(config_keys.known_keys()) == sorted(flat(values))


@pytest.mark.parametrize("key", [*config_keys.known_keys(), "model", "data.cmudict"])
def test_a_missing_key_is_named(key, values):
    *groups, name = key.split(".")
    inner = values
    for group in groups:
        inner = inner[group]
    del inner[name]
    with pytest.raises(InputError, match=rf"config\.{key}: is missing"):
        parsing.from_dict(values)


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("model.num_layer", "config.model.encoder.num_layers"),
        ("data.cmudict.keep_stres", "config.data.cmudict.keep_stress"),
        ("train.learning_rate", "config.optim.learning_rate"),
        ("sed", "config.seed"),
        ("modle", "config.model"),
    ],
)
def test_an_unknown_key_names_the_nearest(key, near, values):
    with pytest.raises(InputError, match=rf"config\.{key}: there is no such key; did you mean {near}\?"):
        parsing.from_dict(_set(values, key, 1))


def test_a_key_unlike_any_other_lists_the_groups(values):
    with pytest.raises(InputError, match=r"config\.xyzzy: there is no such key; the groups are seed, data, model"):
        parsing.from_dict(_set(values, "xyzzy", 1))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", "3"),
        ("seed", 3.0),
        ("seed", True),
        ("seed", None),
        ("model", 3),
        ("data.tfds", ["a"]),
        ("data.tfds.name", 3),
        ("data.share_vocabulary", 1),
        ("model.encoder.dropout", "0.1"),
        ("model.encoder.dropout", False),
        ("optim.learning_rate", float("inf")),
        ("optim.learning_rate", float("nan")),
        ("model.encoder.norm.placement", 3),
        ("model.encoder.norm.placement", "prre"),
        ("data.text.train", "a.txt"),
        ("data.text.train", ("a.txt", 3)),
        ("eval.metrics", ("wer", "wre")),
        ("eval.metrics", "wer"),
    ],
)
def test_an_ill_typed_value_is_named(key, value, values):
    with pytest.raises(InputError, match=rf"config\.{key}\b"):
        parsing.from_dict(_set(values, key, value))


def test_a_wrong_choice_names_the_nearest(values):
    with pytest.raises(
        InputError,
        match=r"config\.model\.encoder\.norm\.placement='prre': must be one of pre, post, sandwich; did you mean pre\?",
    ):
        parsing.from_dict(_set(values, "model.encoder.norm.placement", "prre"))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("t5", "norm.kind='rms', as in T5, activations of large models exceed 65504"),
        ("t5gemma", "norm.kind='rms', as in T5, activations"),
        ("bart", "small gradients would become 0"),
    ],
)
def test_float16_is_refused_with_the_reason(name, reason, repository):
    for key in ("param_dtype", "dtype", "moment_dtype"):
        with pytest.raises(InputError, match=rf"config\.precision\.{key}='float16': .*{reason}.*; use 'bfloat16'"):
            loading.load(str(repository / f"configs/{name}.py"), [f"--config.precision.{key}=float16"])


def test_a_value_without_groups_is_named(values):
    with pytest.raises(InputError, match="precision: is a group of keys, got 'float16'"):
        parsing.from_dict({**values, "precision": "float16"})


def test_an_integer_is_a_number(values):
    rate = parsing.from_dict(_set(values, "optim.learning_rate", 1)).optim.learning_rate
    assert rate == 1.0
    assert isinstance(rate, float)


def _bounds() -> dict[str, Bounds]:
    """The narrowest bounds of each key that has bounds."""
    types = {key: config_keys.key_type(key) for key in config_keys.known_keys()}
    return {key: t.__metadata__[-1] for key, t in types.items() if hasattr(t, "__metadata__")}


@pytest.mark.parametrize("key", _bounds())
def test_numbers_outside_their_bounds_are_refused(key, values):
    bounds = _bounds()[key]
    outside = {f"must be at least {bounds.at_least}": bounds.at_least - 100}
    if bounds.at_most is not None:
        outside[f"must be at most {bounds.at_most}"] = bounds.at_most + 1
    if bounds.below is not None:
        outside[f"must be below {bounds.below}"] = bounds.below
    for reason, value in outside.items():
        with pytest.raises(InputError, match=rf"config\.{key}=-?\d.*: {reason}$"):
            parsing.from_dict(_set(values, key, value))


def test_options_belong_to_import_paths(values):
    values["data"]["options"] = {"path": "a.json"}
    with pytest.raises(InputError, match=r"config\.data\.options=.*: config\.data\.task='reverse' has no free options"):
        parsing.from_dict(values)
    values["data"]["task"] = "acme.tasks:Json"
    assert parsing.from_dict(values).data.options == {"path": "a.json"}
    _set(values, "eval.metrics", ["wer", "acme:Rouge"])
    _set(values, "eval.metric_options", {"Rouge": {"n": 2}})
    config = parsing.from_dict(values)
    assert config.eval.metric_options == {"Rouge": {"n": 2}}
    assert hash(config) == hash(parsing.from_dict(json.loads(json.dumps(parsing.to_dict(config)))))
    _set(values, "eval.metric_options", {"Bleurt": {"n": 2}})
    with pytest.raises(InputError, match=r"metric_options\.Bleurt: config\.eval\.metrics names no .*; .* end in Rouge"):
        parsing.from_dict(values)
    _set(values, "eval.metrics", ["acme:Rouge", "other:Rouge"])
    with pytest.raises(InputError, match=r"config\.eval\.metrics=.*must have distinct class names"):
        parsing.from_dict(values)


@pytest.mark.parametrize("value", ["a\ud800", ("a", "\udcff")])
def test_text_that_is_not_unicode_is_refused(value, values):
    key = "data.tfds.name" if isinstance(value, str) else "data.text.train"
    with pytest.raises(InputError, match=rf"config\.{key}.*\\ud.*: must be valid Unicode"):
        parsing.from_dict(_set(values, key, value))


@pytest.mark.parametrize(
    "key", ["seed", "data.reverse.examples", "data.num_buckets", "data.source_vocabulary.size", "train.steps"]
)
def test_numbers_beyond_what_arrays_hold_are_refused(key, values):
    with pytest.raises(InputError, match=rf"config\.{key}=9+: must be at most \d+$"):
        parsing.from_dict(_set(values, key, 99999999999999999999999))


@pytest.mark.parametrize("kind", ["acme", "acme:", ":Json", "acme:Js on", "acme.:Json", "1a:b"])
def test_a_kind_is_a_name_or_an_import_path(kind, values):
    with pytest.raises(InputError, match=r"config\.data\.task='.*': must be one of .*, an import path module:name"):
        parsing.from_dict(_set(values, "data.task", kind))


@pytest.mark.parametrize(
    ("spoilt", "named"),
    [
        ({"model.encoder.num_heads": 3}, ("model.encoder.num_heads=3", "model.encoder.width=256")),
        ({"model.encoder.width": 9, "model.encoder.num_heads": 3}, ("model.encoder.width=9", "sinusoidal")),
        ({"model.share_embeddings": "all"}, ("model.share_embeddings='all'", "data.share_vocabulary=True")),
        (
            {"data.share_vocabulary": True, "data.source_vocabulary.kind": "byte"},
            ("data.source_vocabulary", "data.target_vocabulary", "byte"),
        ),
        ({"data.reverse.min_length": 11}, ("min_length=11", "max_length=10")),
        ({"optim.schedule": "linear", "optim.warmup_steps": 10_000}, ("warmup_steps=10000", "train.steps=10000")),
        ({"optim.weight_decay": 0.1}, ("weight_decay=0.1", "adamw")),
        ({"optim.no_decay": ("bias",)}, ("no_decay=('bias',)", "optim.weight_decay, which is 0")),
        ({"optim.decay_steps": 5}, ("decay_steps=5", "'wsd'", "'inverse_sqrt'")),
        ({"optim.schedule": "wsd"}, ("decay_steps=0", "'wsd'", "at least 1")),
        ({"optim.schedule": "wsd", "optim.decay_steps": 9_001}, ("decay_steps=9001", "warmup_steps=1000", "10000")),
        ({"optim.lr_multipliers": ("encoder",)}, ("config.optim.lr_multipliers: 'encoder': must be a pattern, '='",)),
        ({"optim.lr_multipliers": ("a=1", "encoder=0")}, ("'encoder=0': must be", "config.optim.frozen")),
        ({"optim.lr_multipliers": ("encoder=inf",)}, ("'encoder=inf': must be",)),
        (
            {"optim.lr_multipliers": ("(encoder=0.1",)},
            ("config.optim.lr_multipliers: '(encoder': is no regular expression",),
        ),
        ({"optim.frozen": ("a", "[b")}, ("config.optim.frozen: '[b': is no regular expression: unterminated",)),
        ({"decode.n_best": 2}, ("n_best=2", "'greedy'")),
        ({"decode.n_best": 6, "decode.method": "beam"}, ("n_best=6", "beam_size=5")),
        ({"eval.best_metric": "wer"}, ("best_metric='wer'", "eval.metrics")),
        ({"mesh.data": -1, "mesh.fsdp": -1}, ("mesh=(-1, -1, 1)",)),
        ({"mesh.tensor": 0}, ("mesh=(-1, 1, 0)",)),
        ({"parallel.mode": "pmap", "mesh.fsdp": 2}, ("mode='pmap'", "mesh.fsdp=2")),
        ({"parallel.mode": "pmap", "mesh.tensor": 4}, ("mode='pmap'", "mesh.tensor=4")),
    ],
)
def test_values_that_contradict_each_other_are_named(spoilt, named, values):
    parsing.from_dict(values)
    for key, value in spoilt.items():
        _set(values, key, value)
    with pytest.raises(InputError) as error:
        parsing.from_dict(values)
    for name in named:
        assert name in str(error.value)


def test_difference_names_what_differs(values):
    old = json.loads(json.dumps(values))  # tuples are lists here, which is no difference
    assert parsing.difference(old, values) == []
    _set(values, "model.encoder.width", 512)
    _set(values, "seed", 3)
    del old["decode"]["n_best"]
    assert parsing.difference(old, values) == [
        "decode.n_best: '(absent)' → 1",
        "model.encoder.width: 256 → 512",
        "seed: 0 → 3",
    ]


def test_short_names_are_distinct():
    known = ["seed", "optim.rate", "data.source.size", "data.target.size", "size"]
    short = [config_keys.short_name(key, known) for key in known]
    assert short == ["seed", "rate", "source.size", "target.size", "size"]


def test_metrics_are_grouped_by_a_meta_column():
    message = (
        r"config\.eval\.group_by='2': must be one of config\.data\.text\.meta_columns=\('3',\), with .*'text', got "
    )
    for task in ("reverse", "text"):
        config = defaults.get_config()
        config.data.task, config.data.text.meta_columns, config.eval.group_by = task, ("3",), "2"
        with pytest.raises(InputError, match=message):
            parsing.from_dict(config.to_dict())
    config.data.text.meta_columns = ("2", "3")
    assert parsing.from_dict(config.to_dict()).eval.group_by == "2"
