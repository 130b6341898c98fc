import re

import numpy as np
import pytest

from flaxformer_lite.config import overrides
from flaxformer_lite.errors import InputError
from flaxformer_lite.sweeps.trials import make_point, read_points


@pytest.fixture
def base(repository):
    return overrides.read(str(repository / "configs/tiny.py"), [])


@pytest.fixture
def read(base, tmp_path):
    """Reads the points of a sweep file of these lines."""

    def read(*lines, given=()):
        path = tmp_path / "mine.py"
        path.write_text("\n".join(["def sweep():", *(f"    {line}" for line in lines)]))
        return read_points(str(path), base, given)

    return read


def test_the_example_files_are_good(repository, base):
    rates = [p.config.optim.learning_rate for p in read_points(f"{repository}/configs/sweeps/lr.py", base, [])]
    assert rates == [5e-4, 1e-3, 2e-3, 5e-3]
    drawn = read_points(f"{repository}/configs/sweeps/random_search.py", base, [])
    assert len({point.name for point in drawn}) == len(drawn) == 12


def test_what_a_point_does_not_name_is_as_the_config_says(base):
    point = make_point(
        {"model.encoder.num_layers": 3, "eval.metrics": ["exact_match", "wer"], "optim.learning_rate": np.float64(1)},
        base,
        [],
    )
    assert (
        point.config.model.encoder.num_layers == point.config.model.decoder.num_layers == 3
    )  # which follows, as by a flag
    assert point.config.eval.metrics == ("exact_match", "wer")
    assert type(point.config.optim.learning_rate) is float
    assert make_point({}, base, []).config == overrides.resolve(base)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "yield {'optim.learning_rat': 1.0}",
            r"point 1 of 1, .*learning_rat: .*did you mean config\.optim\.lear",
        ),
        ("yield {'seed': '0'}", r"config\.seed='0': must be of type int"),
        ("yield {'seed': 1.5}", r"config\.seed=1\.5: must be of type int"),
        ("yield {'optim': {'learning_rate': 1.0}}", r"optim is a group of settings.*optim\.optimizer"),
        (
            "yield {'model.encoder.norm.placement': 'prre'}",
            r"config\.model\.encoder\.norm\.placement='prre'.*did you mean pre",
        ),
        (
            "yield {'seed': 1}; yield {'model.encoder.num_heads': 3}",
            r"point 2 of 2, {'model\.encoder\.num_heads': 3}: .*num_heads",
        ),
        ("yield ['seed', 1]", r"a point must be a dictionary of dotted keys"),
        ("yield {1: 1}", r"a point must be a dictionary of dotted keys"),
        ("yield {'seed': 1}; 1 / 0", r"mine\.py, line 2: ZeroDivisionError: division by zero"),
        ("import no_such_module", r"mine\.py, line 2: ModuleNotFoundError"),
        ("yield from ()", r"mine\.py: sweep\(\) yields nothing"),
        ("return 5", r"mine\.py: sweep\(\) must yield dictionaries, got 5"),
        ("while True: yield {'seed': 1}", r"more than 10,000 points; does it end\?"),
        (
            "yield {'seed': 1}; yield {'seed': 2}; yield {'seed': 1}",
            r"points 1 and 3 are the same run: {'seed': 1}",
        ),
        ("yield {'seed': 0}; yield {}", r"points 1 and 2 are the same run"),
        ("from flaxformer_lite.sweeps import Choice; Choice()", r"mine\.py, line 2: Choice\(\): name the values"),
    ],
)
def test_a_wrong_sweep_is_named(line, message, read):
    with pytest.raises(InputError, match=message) as caught:
        read(line)
    assert "\n" not in str(caught.value)


def test_a_file_without_the_function_is_named(tmp_path, base):
    (tmp_path / "other.py").write_text("x = 1")
    with pytest.raises(InputError, match=r"other\.py has no function sweep\(\); configs/sweeps/lr\.py shows"):
        read_points(str(tmp_path / "other.py"), base, [])
    with pytest.raises(InputError, match=r"--sweep=.*there is no such file; did you mean .*/other\.py\?"):
        read_points(str(tmp_path / "othr.py"), base, [])


def test_a_key_is_set_in_one_place(read):
    with pytest.raises(InputError, match=r"the command line sets config\.seed for all points"):
        read("yield {'seed': 1}", given=["seed"])


def test_names_tell_runs_apart_and_are_safe(read):
    long = "yield {'data.text.train': ('/a/" + 150 * "b" + " c/x.de', 'y.en'), 'model.encoder.width': WIDTH, 'seed': 1}"
    points = read("yield {'optim.learning_rate': 1e-05, 'data.source_vocabulary.kind': 'byte'}", *(
        long.replace("WIDTH", str(width)) for width in (32, 64)
    ))  # fmt: skip
    assert re.fullmatch(r"learning_rate=1e-05__source_vocabulary\.kind=byte__[0-9a-f]{8}", points[0].name)
    assert len({point.name for point in points}) == 3
    assert all(re.fullmatch(r"[\w.=+-]{1,100}", point.name) for point in points)


def test_names_stay_where_only_the_place_of_computing_changes(base):
    name = make_point({"seed": 1}, base, []).name
    moved, other = base.copy_and_resolve_references(), base.copy_and_resolve_references()
    moved.mesh.data, moved.train.grad_accum_steps = 2, 2
    other.model.encoder.width = 32
    assert make_point({"seed": 1}, moved, []).name == name  # so the sweep goes on there
    assert make_point({"seed": 1}, other, []).name != name
