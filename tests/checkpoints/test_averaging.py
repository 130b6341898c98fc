"""Moving averages within checkpoints, and the mean of several checkpoints."""

import gc
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxformer_lite.checkpoints.averaging import save_average
from flaxformer_lite.checkpoints.checkpoint_manager import Checkpoints
from flaxformer_lite.checkpoints.storage import silence_orbax
from flaxformer_lite.errors import InputError
from tests.checkpoints.small_state import TRAIN, decode, equal, largest, make_saved, make_state, restore, shapes, write
from tests.micro_config import micro

EVERY_TEN = micro({"train.save_every": 10, "train.eval_every": 20}).train


@pytest.fixture(autouse=True, scope="module")
def quiet():
    with silence_orbax():
        yield
        gc.collect()  # or errors of unfinished reads of damaged files would fail a test of another file


@pytest.fixture
def folder(tmp_path):
    """Checkpoints of steps 10, 20 and 30."""
    write(tmp_path / "checkpoints", [10, 20, 30])
    return tmp_path / "checkpoints"


def averaging(step):
    """A state whose moving average differs from its parameters."""
    state = make_state(step)
    return state._replace(ema=jax.tree.map(lambda x: x + 100, state.params))


def test_a_moving_average_is_saved_restored_and_read_by_decoding(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c", TRAIN, "loss")
    for step in (10, 20):
        checkpoints.save(make_saved(step)._replace(state=averaging(step)))
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path / "c", TRAIN, "loss")
    equal(checkpoints.restore(shapes(averaging(0))).state, averaging(20))
    checkpoints.close()
    for which, step in (("best", 20), ("latest", 20), (10, 10)):
        found, params = decode(tmp_path / "c", which)
        assert found == step
        equal(params, averaging(step).ema)


@pytest.mark.parametrize("damage", ["cut short", "gone"])
def test_a_damaged_moving_average_is_not_replaced_by_the_parameters(damage, tmp_path, capsys):
    checkpoints = Checkpoints(tmp_path / "c", TRAIN, "loss")
    for step in (10, 20):
        checkpoints.save(make_saved(step)._replace(state=averaging(step)))
    checkpoints.close()
    part = tmp_path / "c" / "20" / "ema"
    shutil.rmtree(part) if damage == "gone" else os.truncate(largest(part / "ocdbt.process_0"), 500)
    step, params = decode(tmp_path / "c", "best")
    assert step == 10
    equal(params, averaging(10).ema)
    assert "20 is damaged" in capsys.readouterr().err


def mean_of(steps):
    """The mean in float64, rounded once."""
    trees = [jax.tree.map(np.float64, make_state(step).params) for step in steps]
    return jax.tree.map(lambda *leaves: np.float32(np.sum(leaves, axis=0) / len(leaves)), *trees)


def average(folder, last):
    return save_average(folder, last, EVERY_TEN, shapes(make_state(0).params))


def test_the_average_is_that_of_the_last_checkpoints_and_names_them(folder, capsys):
    with pytest.raises(InputError, match=r"there is no average of checkpoints; the command `average` makes one"):
        decode(folder, "average")
    for steps in ([30], [20, 30], [10, 20, 30]):
        assert average(folder, len(steps)) == steps
        found, params = decode(folder, "average")
        assert found == 30
        equal(params, mean_of(steps))
        assert (
            f"using the average of the checkpoints of steps {', '.join(map(str, steps))}\n" == capsys.readouterr().err
        )
    assert len(list((folder / "average").iterdir())) == 1, "the ones before are gone"


def test_training_continues_beside_an_average(folder, capsys):
    average(folder, 3)
    equal(restore(folder).state, make_state(30))
    for which in ("best", "latest"):
        assert decode(folder, which)[0] == 30
    write(folder, [40, 50, 60, 70])
    assert decode(folder, "latest")[0] == 70
    equal(decode(folder, "average")[1], mean_of([10, 20, 30]))
    assert sorted(path.name for path in folder.iterdir()) == ["50", "60", "70", "average"]
    assert "damaged" not in capsys.readouterr().err
    assert average(folder, 2) == [60, 70]
    equal(decode(folder, "average")[1], mean_of([60, 70]))


def test_the_average_is_of_the_parameters_also_beside_a_moving_average(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c", TRAIN, "loss")
    for step in (10, 20):
        checkpoints.save(make_saved(step)._replace(state=averaging(step)))
    checkpoints.close()
    average(tmp_path / "c", 2)
    equal(decode(tmp_path / "c", "average")[1], mean_of([10, 20]))


def test_more_checkpoints_than_exist_are_an_error(folder, tmp_path):
    message = r"last=4: .* consecutive .* steps \[10, 20, 30\] .*train with config\.train\.keep_latest=4"
    with pytest.raises(InputError, match=message):
        average(folder, 4)
    with pytest.raises(InputError, match=r"nowhere: there are no checkpoints; has the run been trained\?"):
        average(tmp_path / "nowhere", 1)
    assert not (tmp_path / "nowhere").exists()
    assert not (folder / "average").exists()


def test_the_best_checkpoint_is_not_averaged_with_much_later_ones(folder):
    shutil.rmtree(folder / "20")  # keep_best keeps 10, and keep_latest does not keep 20
    write(folder, [40])
    assert average(folder, 2) == [30, 40]
    message = r"last=3: .* \[30, 40\] \(config\.train\.keep_latest=2; .* has \[10, 30, 40\]"
    with pytest.raises(InputError, match=message):
        average(folder, 3)


def test_the_step_at_which_a_run_was_stopped_is_no_gap(tmp_path):
    write(tmp_path / "c", [20, 27, 30])
    assert average(tmp_path / "c", 3) == [20, 27, 30]


def test_damaged_checkpoints_are_not_averaged(folder):
    os.truncate(largest(folder / "20" / "params" / "ocdbt.process_0"), 500)
    with pytest.raises(InputError, match=r"20: is damaged"):
        average(folder, 3)
    assert average(folder, 1) == [30]
    os.truncate(largest(folder / "average"), 500)
    with pytest.raises(InputError, match=r"average/1: is damaged"):
        decode(folder, "average")


def test_an_average_is_exact_where_float32_sums_are_not(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c", micro({"train.keep_latest": 10}).train, "loss")
    values = [16777216.0, 1.0, 1.0, 1.0, 1.0, 0.1]  # in float32, all terms after the first are lost
    for step, value in enumerate(values, start=1):
        params = jax.tree.map(lambda x, v=value: jnp.full_like(x, v), make_state(0).params)
        checkpoints.save(make_saved(step)._replace(state=make_state(step)._replace(params=params)))
    checkpoints.close()
    average(tmp_path / "c", 6)
    expected = np.float32(sum(np.float64(np.float32(value)) for value in values) / 6)
    assert expected != np.float32(16777216 / 6)
    for leaf in jax.tree.leaves(decode(tmp_path / "c", "average")[1]):
        assert (np.asarray(leaf) == expected).all()
