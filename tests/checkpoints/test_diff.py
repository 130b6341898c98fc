"""Differences between checkpoints, in both layer layouts and for any chunk size."""

import gc
import math
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxformer_lite.checkpoints import diff
from flaxformer_lite.checkpoints.averaging import save_average
from flaxformer_lite.checkpoints.checkpoint_manager import Checkpoints
from flaxformer_lite.checkpoints.diff import diff_checkpoints
from flaxformer_lite.checkpoints.restore_params import find
from flaxformer_lite.checkpoints.storage import silence_orbax
from flaxformer_lite.errors import InputError
from tests.checkpoints.small_state import TRAIN, largest, make_saved, make_state, shapes, write
from tests.micro_config import micro

RANDOM = np.random.default_rng(0)
BEFORE = {
    **{f"layers_{i}": {"a": RANDOM.normal(size=(4, 6)), "b": RANDOM.normal(size=6)} for i in range(3)},
    "table": RANDOM.normal(size=(5, 4)),
    "still": RANDOM.normal(size=7),
}


@pytest.fixture(autouse=True, scope="module")
def quiet():
    with silence_orbax():
        yield
        gc.collect()  # or errors of unfinished reads of damaged files would fail a test of another file


def stack_layers(params):
    layers = {name: np.stack([params[f"layers_{i}"][name] for i in range(3)]) for name in ("a", "b")}
    return {"layers": layers, "table": params["table"], "still": params["still"]}


def moved(params):
    """Changes the vector of one layer by a tenth, and one element of the table by 2."""
    table = params["table"].copy()
    table[3, 1] += 2
    return params | {"layers_1": params["layers_1"] | {"b": params["layers_1"]["b"] * 1.1}, "table": table}


def save(folder, params, step=10, dtype=jnp.float32):
    params = jax.tree.map(lambda x: jnp.asarray(x, dtype), params)
    with silence_orbax(), Checkpoints(folder, TRAIN, "loss") as checkpoints:
        checkpoints.save(make_saved(step)._replace(state=make_state(step)._replace(params=params)))
    return folder, step


@pytest.mark.parametrize("at_once", [1, 200, 1 << 26])
@pytest.mark.parametrize("after", [False, True], ids=["one by one", "side by side"])
@pytest.mark.parametrize("before", [False, True], ids=["one by one", "side by side"])
def test_changes_are_found_in_both_layer_layouts(before, after, at_once, tmp_path, monkeypatch):
    monkeypatch.setattr(diff, "_CHUNK_BYTES", at_once)
    one = save(tmp_path / "one", stack_layers(BEFORE) if before else BEFORE)
    two = save(tmp_path / "two", stack_layers(moved(BEFORE)) if after else moved(BEFORE))
    found = diff_checkpoints(one, two)
    table, vector, *rest = found.changes
    assert (table.name, vector.name) == ("table", "layers_1/b")
    assert (table.shape, vector.shape) == ((5, 4), (6,))
    assert table.relative == pytest.approx(2 / np.linalg.norm(BEFORE["table"]), rel=1e-5)
    assert table.largest == pytest.approx(2, rel=1e-5)
    assert vector.relative == pytest.approx(0.1, rel=1e-4)
    assert {change.relative for change in rest} == {0.0}
    assert {change.name for change in rest} == {"still", *(f"layers_{i}/{x}" for i in range(3) for x in "ab")} - {
        "layers_1/b"
    }
    assert 0 < found.relative < table.relative
    assert found.unmatched == []


def test_each_array_is_read_once_and_in_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(diff, "_CHUNK_BYTES", 100)
    asked = {}
    read = diff._Parameters.read

    def watched(self, numbers):
        asked.setdefault(self, []).append(numbers)
        return read(self, numbers)

    monkeypatch.setattr(diff._Parameters, "read", watched)
    diff_checkpoints(save(tmp_path / "one", stack_layers(BEFORE)), save(tmp_path / "two", BEFORE))
    scanned, plain = (sorted(i for numbers in each for i in numbers) for each in asked.values())
    assert scanned == list(range(4))
    assert plain == list(range(8))
    assert [len(numbers) for numbers in next(iter(asked.values()))] == [1, 2, 1]  # of 288, 72 + 28 and 80 bytes


def test_the_relative_change_of_zeros_is_infinite(tmp_path):
    nothing = BEFORE | {"still": np.zeros(7), "table": np.zeros((5, 4))}
    after = BEFORE | {"table": np.zeros((5, 4))}
    found = diff_checkpoints(save(tmp_path / "one", nothing, dtype=jnp.bfloat16), save(tmp_path / "two", after))
    by_name = {change.name: change.relative for change in found.changes}
    assert by_name["still"] == math.inf
    assert by_name["table"] == 0
    assert 0 < by_name["layers_0/a"] < 0.01  # the rounding to bfloat16


def test_unmatched_parameters_are_listed(tmp_path):
    other = {"table": np.ones((5, 3)), "new": np.ones(2), "still": BEFORE["still"]}
    found = diff_checkpoints(save(tmp_path / "one", BEFORE), save(tmp_path / "two", other))
    assert [change.name for change in found.changes] == ["still"]
    assert f"new: only in {tmp_path}/two/10" in found.unmatched
    assert f"layers_0/a: only in {tmp_path}/one/10" in found.unmatched
    assert f"table: (5, 4) in {tmp_path}/one/10, (5, 3) in {tmp_path}/two/10" in found.unmatched
    with pytest.raises(InputError, match="no parameter in common"):
        diff_checkpoints(save(tmp_path / "one", BEFORE), save(tmp_path / "three", {"x": np.ones(3)}))


def test_diff_with_an_average(tmp_path):
    write(tmp_path, [10, 20])
    save_average(
        tmp_path, 2, micro({"train.save_every": 10, "train.eval_every": 20}).train, shapes(make_state(0).params)
    )
    found = diff_checkpoints((tmp_path, 20), find(tmp_path, "average", "loss"))
    first, last = (make_state(step).params["a"] for step in (10, 20))
    by_name = {change.name: change.largest for change in found.changes}
    assert by_name["a"] == pytest.approx(float(np.abs(first - last).max()) / 2, rel=1e-5)


DAMAGES = {
    "cut short": lambda c: os.truncate(largest(c / "params" / "ocdbt.process_0"), 500),
    "names emptied": lambda c: os.truncate(c / "params" / "_METADATA", 0),
    "record emptied": lambda c: os.truncate(c / "run" / "metadata", 0),
    "another's record": lambda c: (c / "run" / "metadata").write_bytes(
        (c.parent / "10" / "run" / "metadata").read_bytes()
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_an_error(damage, tmp_path, capfd):
    write(tmp_path, [10, 20])
    DAMAGES[damage](tmp_path / "20")
    with pytest.raises(InputError, match=rf"^checkpoint {tmp_path}/20: is damaged \("):
        diff_checkpoints((tmp_path, 10), (tmp_path, 20))
    assert capfd.readouterr() == ("", "")
