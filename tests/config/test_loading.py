import json

import pytest

from flaxformer_lite.cli import config_flags
from flaxformer_lite.config import loading, migrations, parsing, python_files
from flaxformer_lite.errors import InputError


@pytest.fixture
def load(repository):
    return lambda *flags: loading.load(str(repository / "flaxformer_lite/config/defaults.py"), flags)


def _write(path, *lines):
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        "\n".join(
            [
                "from flaxformer_lite.config import defaults as base",
                "def get_config():",
                *(f"    {line}" for line in lines),
            ]
        )
    )
    return str(path)


def test_both_forms_of_an_override_are_separated():
    words = [
        "--config",
        "x.py",
        "--config.seed",
        "-1",
        "--workdir=w",
        "--config.model.encoder.width=8",
        "--noconfig.a.b",
    ]
    ordinary, overrides = config_flags.separate(words)
    assert ordinary == ["--config", "x.py", "--workdir=w"]
    assert overrides == ["--config.seed=-1", "--config.model.encoder.width=8", "--noconfig.a.b"]


def test_overrides_of_each_type(load):
    config = load(
        "--config.seed=7",
        "--config.optim.learning_rate=3e-4",
        "--config.model.encoder.norm.placement=post",
        "--config.data.cmudict.keep_stress=true",
        "--config.eval.metrics=wer,per",
        "--config.data.text.train=/a/x.de,/a/y.en",
        "--config.data.text.test=('z.tsv',)",
    )
    assert (config.seed, config.optim.learning_rate, config.model.encoder.norm.placement) == (7, 3e-4, "post")
    assert config.data.cmudict.keep_stress
    assert config.eval.metrics == ("wer", "per")
    assert (config.data.text.train, config.data.text.test) == (("/a/x.de", "/a/y.en"), ("z.tsv",))


def test_the_decoder_is_as_deep_as_the_encoder_unless_set(load):
    assert load("--config.model.encoder.num_layers=2").model.decoder.num_layers == 2
    for order in (1, -1):
        model = load(*["--config.model.encoder.num_layers=5", "--config.model.decoder.num_layers=1"][::order]).model
        assert (model.encoder.num_layers, model.decoder.num_layers) == (5, 1)


def test_tuples_are_values_between_commas_or_python(load):
    def frozen(*texts):
        return load(*(f"--config.optim.frozen={text}" for text in texts)).optim.frozen

    assert frozen("a") == frozen("a,") == frozen("('a',)") == frozen("'a'") == ("a",)
    assert frozen("a,b") == frozen("a", "b") == frozen("['a', 'b']") == ("a", "b")
    assert frozen("(a|b)/c,[d]") == ("(a|b)/c", "[d]")
    assert frozen("'a,b','c'") == ("a,b", "c")
    assert frozen("3") == ("3",)
    assert frozen("()") == ()


def test_options_need_not_be_in_the_config_file(load):
    config = load(
        "--config.data.task=acme:Json",
        "--config.data.options.path=a.json",
        "--config.data.options.lower=true",
        "--config.eval.metrics=wer,acme:Rouge",
        "--config.eval.metric_options.Rouge.orders=(1, 2)",
        "--config.eval.metric_options.Rouge.beta=0.5",
    )
    assert config.data.options == {"path": "a.json", "lower": True}
    assert config.eval.metric_options == {"Rouge": {"orders": (1, 2), "beta": 0.5}}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "--config.model.num_layer=2",
            r"config\.model\.num_layer: .*did you mean config\.model\.encoder\.num_layers\?",
        ),
        ("--config.train.steps=two", r"^config\.train\.steps=two: must be a whole number"),
        ("--config.train.steps=1e4", r"^config\.train\.steps=1e4: must be a whole number, such as 10000"),
        ("--config.train.steps=2.5", r"^config\.train\.steps=2\.5: must be a whole number"),
        ("--config.train.steps=", r"^config\.train\.steps=: must be a whole number"),
        ("--config.optim.learning_rate=fast", r"^config\.optim\.learning_rate=fast: must be a number, such as 0\.001"),
        ("--config.optim.learning_rate=nan", r"config\.optim\.learning_rate=nan: must be a finite number"),
        ("--config.data.share_vocabulary=maybe", r"^config\.data\.share_vocabulary=maybe: must be true or false"),
        ("--config.data.text.train=('a", r"^config\.data\.text\.train=\('a: must be values between commas, or a"),
        (
            "--config.data.options=x",
            r"config\.data\.options: is a group of options; .*config\.data\.options\.NAME=VALUE",
        ),
        ("--config.data.options.path=x", r"config\.data\.options=.*'reverse' has no free options"),
        ("--config.eval.metrics=wer,wre", r"config\.eval\.metrics\[1\]='wre'.*did you mean wer\?"),
        ("--config.model=2", r"config\.model: is a group of keys; .*such as config\.model\.\w+"),
        ("--config.model.encoder.width.x=2", r"config\.model\.encoder\.width\.x: there is no such key"),
        ("--config.=2", r"there is no such key"),
        ("--config.seed=-1", r"config\.seed=-1: must be at least 0"),
    ],
)
def test_a_wrong_override_is_named(override, message, load):
    with pytest.raises(InputError, match=message):
        load(override)


def test_a_config_may_start_from_a_run_card_and_import_its_neighbors(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "shared_by_mine.py").write_text("SEED = 5\n")
    (tmp_path / "configs" / "beside_mine.py").write_text("STEPS = 700\n")
    path = tmp_path / "configs" / "mine.py"
    path.write_text(
        "from configs.shared_by_mine import SEED\n"
        "from beside_mine import STEPS\n"
        "from flaxformer_lite.run_cards import tiny\n"
        "def get_config():\n"
        "    config = tiny.get_config()\n"
        "    config.seed, config.train.steps = SEED, STEPS\n"
        "    return config\n"
    )
    config = loading.load(str(path), ["--config.train.log_every=3"])
    assert (config.seed, config.train.steps, config.train.log_every) == (5, 700, 3)


@pytest.mark.parametrize(
    "line", ["from configs import base", "import configs.base", "from configs.base import get_config"]
)
def test_the_former_import_of_the_defaults_names_the_new_one(line, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(f"x = 1\n{line}\n")
    message = r"mine\.py, line 2: .*Error: .*configs.*; import the defaults with `from flaxformer_lite\.config import"
    with pytest.raises(InputError, match=message):
        loading.load(str(path), [])


def test_a_config_that_exits_is_named_with_the_line(tmp_path):
    path = _write(tmp_path / "mine.py", "import sys", "sys.exit(0)")
    with pytest.raises(InputError, match=r"mine\.py, line 4: ends the program \(SystemExit: 0\); remove that call"):
        loading.load(path, [])


def test_run_cards_have_names(repository):
    assert loading.load("tiny", []) == loading.load(str(repository / "configs/tiny.py"), [])
    cards = dict(python_files.run_cards())
    assert set(cards) == {path.stem for path in (repository / "configs").glob("*.py")}
    assert cards["tiny"] == "Reverse short strings: the smallest run that shows everything working."
    assert all(cards.values())
    with pytest.raises(InputError, match=r"^tinny: there is no such file or run card; did you mean tiny\?"):
        loading.load("tinny", [])
    with pytest.raises(InputError, match=r"^xyzzy: there is no such file or run card; the run cards are .*tiny"):
        loading.load("xyzzy", [])


def test_a_file_is_preferred_to_a_run_card_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _write(tmp_path / "tiny", "config = base.get_config()", "config.seed = 17", "return config")
    assert loading.load("tiny", []).seed == 17


def test_a_smoke_run_is_short_and_valid(repository, caplog):
    for name in ("tiny", "g2p", "vaswani2017", "t5"):
        config = loading.load(name, [])
        short = loading.smoke(config)
        assert (short.train.steps, short.train.eval_every, short.optim.warmup_steps) == (10, 5, 4)
        assert short.model == config.model
    wsd = loading.load("tiny", ["--config.optim.schedule=wsd", "--config.optim.decay_steps=500"])
    assert loading.smoke(wsd).optim.decay_steps == 5
    assert "smoke run: train.steps: 2000 → 10" in caplog.text


def test_a_missing_file_names_the_nearest(tmp_path):
    _write(tmp_path / "mine.py", "return base.get_config()")
    with pytest.raises(InputError, match=r"there is no such file; did you mean .*mine\.py\?"):
        loading.load(str(tmp_path / "mini.py"), [])


def test_the_line_of_an_error_in_the_file_is_named(tmp_path):
    path = _write(tmp_path / "mine.py", "config = base.get_config()", "config.seed = sede", "return config")
    with pytest.raises(InputError, match=r"mine\.py, line 4: NameError: name 'sede' is not defined"):
        loading.load(path, [])


def test_the_line_of_a_syntax_error_is_named(tmp_path):
    path = _write(tmp_path / "mine.py", "config = = 3")
    with pytest.raises(InputError, match=r"mine\.py, line 3: SyntaxError: invalid syntax$"):
        loading.load(path, [])


def test_a_file_that_is_not_a_config_is_named(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("x = 3\n")
    with pytest.raises(InputError, match=r"mine\.py: has no function get_config"):
        loading.load(str(path), [])
    with pytest.raises(InputError, match=r"mine\.py: get_config\(\) must return an ml_collections\.ConfigDict, got 3"):
        loading.load(_write(path, "return 3"), [])


def test_a_key_that_the_file_misspells_or_lacks_is_named(tmp_path):
    path = _write(tmp_path / "mine.py", "config = base.get_config()", "config.model.widht = 3", "return config")
    with pytest.raises(InputError, match=r"config\.model\.widht: .* did you mean config\.model\.encoder\.width\?"):
        loading.load(path, [])
    path = _write(tmp_path / "mine.py", "config = base.get_config()", "del config.seed", "return config")
    with pytest.raises(InputError, match=r"config\.seed: is missing"):
        loading.load(path, [])
    with pytest.raises(InputError, match=r"config\.seed: .*mine\.py does not set it"):
        loading.load(path, ["--config.seed=3"])


def test_the_config_of_a_work_directory_can_be_loaded(tmp_path):
    saved = tmp_path / "config.json"
    saved.write_text(json.dumps(migrations.with_version(parsing.to_dict(loading.load("configs/tiny.py", [])))))
    read = loading.load(str(saved), ["--config.model.encoder.width=48", "--config.data.text.train=a,b"])
    assert (read.model.encoder.width, read.data.text.train) == (48, ("a", "b"))
    assert read.optim == loading.load("configs/tiny.py", []).optim
    saved.write_text("[]")
    with pytest.raises(InputError, match=r"config\.json: holds no JSON object; restore it from a copy"):
        loading.load(str(saved), [])
