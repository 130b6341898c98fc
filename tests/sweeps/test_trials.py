import re

import numpy as np
import pytest

from flaxformer_lite.config import loading
from flaxformer_lite.errors import InputError
from flaxformer_lite.sweeps.trials import load_trials, make_trial


@pytest.fixture
def base(repository):
    return loading.read(str(repository / "configs/tiny.py"), [])


@pytest.fixture
def read(base, tmp_path):
    """Loads the trials of a sweep file with these lines."""

    def read(*lines, fixed=()):
        path = tmp_path / "mine.py"
        path.write_text("\n".join(["def sweep():", *(f"    {line}" for line in lines)]))
        return load_trials(str(path), base, fixed)

    return read


def test_example_sweeps_are_valid(repository, base):
    rates = [p.config.optim.learning_rate for p in load_trials(f"{repository}/configs/sweeps/lr.py", base, [])]
    assert rates == [5e-4, 1e-3, 2e-3, 5e-3]
    drawn = load_trials(f"{repository}/configs/sweeps/random_search.py", base, [])
    assert len({trial.name for trial in drawn}) == len(drawn) == 12


def test_a_trial_is_the_base_config_with_overrides(base):
    trial = make_trial(
        {"model.encoder.num_layers": 3, "eval.metrics": ["exact_match", "wer"], "optim.learning_rate": np.float64(1)},
        base,
        [],
    )
    assert (
        trial.config.model.encoder.num_layers == trial.config.model.decoder.num_layers == 3
    )  # references are resolved after the overrides
    assert trial.config.eval.metrics == ("exact_match", "wer")
    assert type(trial.config.optim.learning_rate) is float
    assert make_trial({}, base, []).config == loading.resolve(base)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "yield {'optim.learning_rat': 1.0}",
            r"trial 1 of 1, .*learning_rat: .*did you mean config\.optim\.lear",
        ),
        ("yield {'seed': '0'}", r"config\.seed='0': must be a whole number"),
        ("yield {'seed': 1.5}", r"config\.seed=1\.5: must be a whole number"),
        ("yield {'optim': {'learning_rate': 1.0}}", r"config\.optim: is a group; .*config\.optim\.optimizer"),
        (
            "yield {'model.encoder.norm.placement': 'prre'}",
            r"config\.model\.encoder\.norm\.placement='prre'.*did you mean pre",
        ),
        (
            "yield {'seed': 1}; yield {'model.encoder.num_heads': 3}",
            r"trial 2 of 2, {'model\.encoder\.num_heads': 3}: .*num_heads",
        ),
        ("yield ['seed', 1]", r"trial: must be a dictionary of dotted config keys"),
        ("yield {1: 1}", r"trial: must be a dictionary of dotted config keys"),
        ("yield {'seed': 1}; 1 / 0", r"mine\.py, line 2: ZeroDivisionError: division by zero"),
        ("import no_such_module", r"mine\.py, line 2: ModuleNotFoundError"),
        ("yield from ()", r"mine\.py: sweep\(\) yields nothing"),
        ("return 5", r"mine\.py: sweep\(\): must yield dictionaries, got 5"),
        ("while True: yield {'seed': 1}", r"more than 10,000 trials; make it end"),
        (
            "yield {'seed': 1}; yield {'seed': 2}; yield {'seed': 1}",
            r"trials 1 and 3 are the same run: {'seed': 1}",
        ),
        ("yield {'seed': 0}; yield {}", r"trials 1 and 2 are the same run"),
        ("from flaxformer_lite.sweeps import Choice; Choice()", r"mine\.py, line 2: Choice\(\): has no values"),
    ],
)
def test_invalid_sweep_file_is_an_error(line, message, read):
    with pytest.raises(InputError, match=message) as caught:
        read(line)
    assert "\n" not in str(caught.value)


def test_a_file_without_sweep_function_is_an_error(tmp_path, base):
    (tmp_path / "other.py").write_text("x = 1")
    with pytest.raises(InputError, match=r"other\.py: has no function sweep\(\); configs/sweeps/lr\.py shows"):
        load_trials(str(tmp_path / "other.py"), base, [])
    with pytest.raises(InputError, match=r"there is no such file; did you mean .*/other\.py\?"):
        load_trials(str(tmp_path / "othr.py"), base, [])


def test_keys_of_the_command_line_are_fixed(read):
    with pytest.raises(InputError, match=r"config\.seed: is already overridden for all trials"):
        read("yield {'seed': 1}", fixed=["seed"])


def test_names_are_distinct_valid_file_names(read):
    long = "yield {'data.text.train': ('/a/" + 150 * "b" + " c/x.de', 'y.en'), 'model.encoder.width': WIDTH, 'seed': 1}"
    trials = read("yield {'optim.learning_rate': 1e-05, 'data.source_vocabulary.kind': 'byte'}", *(
        long.replace("WIDTH", str(width)) for width in (32, 64)
    ))  # fmt: skip
    assert re.fullmatch(r"learning_rate=1e-05__source_vocabulary\.kind=byte__[0-9a-f]{12}", trials[0].name)
    assert len({trial.name for trial in trials}) == 3
    assert all(re.fullmatch(r"[\w.=+-]{1,100}", trial.name) for trial in trials)


def test_names_ignore_where_the_base_config_is_computed(base):
    name = make_trial({"seed": 1}, base, []).name
    moved, other = base.copy_and_resolve_references(), base.copy_and_resolve_references()
    moved.mesh.data, moved.train.grad_accum_steps = 2, 2
    other.model.encoder.width = 32
    assert make_trial({"seed": 1}, moved, []).name == name  # so the sweep resumes on another mesh
    assert make_trial({"seed": 1}, other, []).name != name


def test_trials_that_differ_only_in_how_they_are_computed_have_distinct_names(read):
    overrides = {"data.reverse.alphabet": "abcdefghijklmnopqrstuvwxyz", "optim.frozen": ("source_embedding", "target")}
    label = overrides | {"optim.learning_rate": 0.001, "train.label_smoothing": 0.1}  # longer than a name may be
    trials = read(*(f"yield {label | {'train.grad_accum_steps': steps}!r}" for steps in (1, 2)))
    assert trials[0].label == trials[1].label
    assert trials[0].name != trials[1].name
