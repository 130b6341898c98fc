import itertools
import math
import random
import subprocess
import sys

import pytest

from flaxformer_lite.errors import InputError
from flaxformer_lite.sweeps import Choice, Integers, LogUniform, Uniform, grid, random_draws, zipped


def test_grid_is_the_cartesian_product():
    trials = list(grid({"a": [1, 2, 3], "b": "xy"}))
    assert trials == [{"a": a, "b": b} for a, b in itertools.product([1, 2, 3], "xy")]
    assert list(grid({"a": []})) == []


def test_zipped_pairs_the_values():
    assert list(zipped({"a": [1, 2], "b": [3, 4]})) == [{"a": 1, "b": 3}, {"a": 2, "b": 4}]
    with pytest.raises(InputError, match=r"zipped\(\): .*{'a': 2, 'b': 3}"):
        list(zipped({"a": [1, 2], "b": [3, 4, 5]}))


def test_samples_are_a_function_of_seed_number_and_key():
    space = {"rate": LogUniform(1e-4, 1e-2), "kind": Choice("x", "y", "z"), "same": 7}
    trials = list(random_draws(space, count=5, seed=3))
    assert trials == list(random_draws(space, count=9, seed=3))[:5]
    assert trials != list(random_draws(space, count=5, seed=4))
    wider = random_draws({"first": Integers(0, 9)} | space, count=5, seed=3)
    assert trials == [{key: trial[key] for key in space} for trial in wider]
    assert {trial["same"] for trial in trials} == {7}
    assert len({trial["rate"] for trial in trials}) == 5


@pytest.mark.parametrize("distribution", [Uniform(-2.0, 3.0), LogUniform(1e-4, 1e2), Integers(-2, 4)])
def test_samples_cover_the_range(distribution):
    samples = [distribution.sample(random.Random(i)) for i in range(400)]
    assert all(distribution.low <= value <= distribution.high for value in samples)
    scale = math.log if isinstance(distribution, LogUniform) else float
    low, high = scale(distribution.low), scale(distribution.high)
    mean = sum(map(scale, samples)) / len(samples)
    assert mean == pytest.approx((low + high) / 2, abs=(high - low) / 15)
    assert min(map(scale, samples)) < low + (high - low) / 5 < high - (high - low) / 5 < max(map(scale, samples))


def test_integers_include_both_bounds():
    assert {Integers(2, 4).sample(random.Random(i)) for i in range(60)} == {2, 3, 4}
    assert {Choice(1, "a").sample(random.Random(i)) for i in range(60)} == {1, "a"}


@pytest.mark.parametrize(
    "make",
    [
        lambda: Uniform(2.0, 1.0),
        lambda: Integers(3, 3),
        lambda: LogUniform(0.0, 1.0),
        lambda: Uniform(0.0, math.inf),
        lambda: Uniform(math.nan, 1.0),
        Choice,
    ],
)
def test_invalid_distribution_is_an_error(make):
    with pytest.raises(InputError, match=r"^\w+\(.*\): "):
        make()


def test_importing_sweeps_does_not_import_jax(repository):
    code = "import flaxformer_lite.sweeps, sys; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=repository, check=False).returncode == 0
