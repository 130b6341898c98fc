import itertools
import math
import random
import subprocess
import sys

import pytest

from flaxformer_lite.errors import InputError
from flaxformer_lite.sweeps import Choice, Integers, LogUniform, Uniform, grid, random_draws, zipped


def test_a_grid_has_every_combination():
    points = list(grid({"a": [1, 2, 3], "b": "xy"}))
    assert points == [{"a": a, "b": b} for a, b in itertools.product([1, 2, 3], "xy")]
    assert list(grid({"a": []})) == []


def test_zipped_goes_side_by_side():
    assert list(zipped({"a": [1, 2], "b": [3, 4]})) == [{"a": 1, "b": 3}, {"a": 2, "b": 4}]
    with pytest.raises(InputError, match=r"zipped\(\): .*{'a': 2, 'b': 3}"):
        list(zipped({"a": [1, 2], "b": [3, 4, 5]}))


def test_draws_are_a_function_of_seed_number_and_key():
    space = {"rate": LogUniform(1e-4, 1e-2), "kind": Choice("x", "y", "z"), "same": 7}
    points = list(random_draws(space, count=5, seed=3))
    assert points == list(random_draws(space, count=9, seed=3))[:5]
    assert points != list(random_draws(space, count=5, seed=4))
    wider = random_draws({"first": Integers(0, 9)} | space, count=5, seed=3)
    assert points == [{key: point[key] for key in space} for point in wider]
    assert {point["same"] for point in points} == {7}
    assert len({point["rate"] for point in points}) == 5


@pytest.mark.parametrize("distribution", [Uniform(-2.0, 3.0), LogUniform(1e-4, 1e2), Integers(-2, 4)])
def test_draws_fill_the_range(distribution):
    drawn = [distribution.draw(random.Random(i)) for i in range(400)]
    assert all(distribution.low <= value <= distribution.high for value in drawn)
    scale = math.log if isinstance(distribution, LogUniform) else float
    low, high = scale(distribution.low), scale(distribution.high)
    mean = sum(map(scale, drawn)) / len(drawn)
    assert mean == pytest.approx((low + high) / 2, abs=(high - low) / 15)
    assert min(map(scale, drawn)) < low + (high - low) / 5 < high - (high - low) / 5 < max(map(scale, drawn))


def test_both_ends_of_integers_are_drawn():
    assert {Integers(2, 4).draw(random.Random(i)) for i in range(60)} == {2, 3, 4}
    assert {Choice(1, "a").draw(random.Random(i)) for i in range(60)} == {1, "a"}


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
def test_a_space_that_cannot_be_is_refused(make):
    with pytest.raises(InputError, match=r"^\w+\(.*\): "):
        make()


def test_sweep_files_need_no_jax(repository):
    code = "import flaxformer_lite.sweeps, sys; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=repository, check=False).returncode == 0
