"""Saving and restoring: damaged checkpoints, other devices, full disks."""

import gc
import os
import shutil

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flaxformer_lite.checkpoints.checkpoint_manager import Checkpoints
from flaxformer_lite.checkpoints.listing import Evaluation, ranked
from flaxformer_lite.checkpoints.restore_params import restore_params
from flaxformer_lite.checkpoints.storage import silence_orbax
from flaxformer_lite.errors import InputError
from flaxformer_lite.sharding.pmap_layout import PmapLayout
from tests.checkpoints.small_state import (
    TRAIN,
    decode,
    equal,
    files_of,
    largest,
    make_saved,
    make_state,
    restore,
    shapes,
    write,
)
from tests.marks import slow_except
from tests.micro_config import micro, small_disk


@pytest.fixture(autouse=True, scope="module")
def quiet():
    with silence_orbax():
        yield
        gc.collect()  # or errors of unfinished reads of damaged files would fail a test of another file


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written") / "checkpoints"
    write(folder, [10, 20, 30])
    return folder


@pytest.fixture
def folder(written, tmp_path):
    """A copy of checkpoints of steps 10, 20 and 30."""
    return shutil.copytree(written, tmp_path / "checkpoints")


def test_restored_checkpoints_equal_saved_ones(folder):
    found = restore(folder)
    equal(found.state, make_state(30))
    assert found[1:] == make_saved(30)[1:]
    for step in (10, 20, 30):
        number, params = decode(folder, step)
        assert number == step
        equal(params, make_state(step).params)


def test_a_directory_without_checkpoints(tmp_path):
    assert restore(tmp_path / "new") is None
    with pytest.raises(InputError, match=r"new: there are no checkpoints yet"):
        decode(tmp_path / "new")
    with pytest.raises(InputError, match=r"nowhere: there are no checkpoints; has the run been trained\?"):
        decode(tmp_path / "nowhere")


def test_the_best_checkpoint_is_found_without_other_files(tmp_path):
    values = {10: 3.0, 20: 1.0, 30: float("nan"), 40: 1.0, 50: 2.0}
    for start in (10, 30):  # stopped and started again between
        checkpoints = Checkpoints(tmp_path / "c", micro({"train.keep_best": 2}).train, "loss")
        if start == 30:
            checkpoints.restore(shapes(make_state(0)))
        for step in [step for step in values if start <= step < start + 20 or start == 30 <= step]:
            history = [Evaluation(s, value) for s, value in values.items() if s <= step]
            checkpoints.save(make_saved(step)._replace(history=history))
        checkpoints.close()
    assert sorted(int(path.name) for path in (tmp_path / "c").iterdir()) == [20, 40, 50]  # the latest are 40 and 50
    assert decode(tmp_path / "c", "best")[0] == 20
    assert decode(tmp_path / "c", "latest")[0] == 50
    with pytest.raises(InputError, match=r"no checkpoint of step 30; there are \[20, 40, 50\]"):
        decode(tmp_path / "c", 30)


def test_ranking():
    history = [Evaluation(1, 5.0), Evaluation(2, float("nan")), Evaluation(3, 7.0), Evaluation(4, 5.0)]
    assert [e.step for e in ranked(history, "wer")] == [1, 4, 3, 2]
    assert [e.step for e in ranked(history, "bleu")] == [3, 1, 4, 2]


def test_without_an_evaluation_the_latest_is_best(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c", TRAIN, "loss")
    for step in (1, 2):
        checkpoints.save(make_saved(step))
    checkpoints.close()
    assert decode(tmp_path / "c", "best")[0] == 2


def test_saving_a_step_twice_is_one_checkpoint(tmp_path):
    write(tmp_path / "c", [10, 10])
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["10"]


DAMAGES = {
    "parameters cut short": lambda c: os.truncate(largest(c / "params" / "ocdbt.process_0"), 500),
    "parameters gone": lambda c: largest(c / "params" / "ocdbt.process_0").unlink(),
    "folder of parameters gone": lambda c: shutil.rmtree(c / "params"),
    "index emptied": lambda c: os.truncate(c / "params" / "manifest.ocdbt", 0),
    "names emptied": lambda c: os.truncate(c / "params" / "_METADATA", 0),
    "record emptied": lambda c: os.truncate(c / "run" / "metadata", 0),
    "record gone": lambda c: shutil.rmtree(c / "run"),
    "an empty folder": lambda c: (shutil.rmtree(c), c.mkdir()),
}


@pytest.mark.parametrize("damage", slow_except(list(DAMAGES)[::2], DAMAGES))
def test_the_newest_intact_checkpoint_replaces_a_damaged_one(damage, folder, capsys):
    DAMAGES[damage](folder / "30")
    step, params = decode(folder)
    assert step == 20
    equal(params, make_state(20).params)
    assert f"checkpoint {folder}/30 is damaged (" in capsys.readouterr().err
    with pytest.raises(InputError, match="30: is damaged"):
        decode(folder, 30)
    equal(restore(folder).state, make_state(20))
    stderr = capsys.readouterr().err
    assert f"checkpoint {folder}/30 is damaged (" in stderr
    assert "renamed to damaged.30" in stderr
    write(folder, [30])  # the run reaches step 30 again
    equal(restore(folder).state, make_state(30))
    assert "damaged" not in capsys.readouterr().err


@pytest.mark.parametrize("emptied", ["_CHECKPOINT_METADATA", "commit_success.txt"])
def test_unused_files_may_be_damaged(emptied, folder):
    os.truncate(folder / "30" / emptied, 0)
    equal(restore(folder).state, make_state(30))


@pytest.mark.slow
def test_a_flipped_bit_is_detected(folder, capsys):
    """The result is the saved state or an older checkpoint, whichever bit flips."""
    random = np.random.default_rng(0)
    found = []
    for path in files_of(folder / "30"):
        if path.parent.name != "d" and path.name not in ("metadata", "manifest.ocdbt"):
            continue
        content = path.read_bytes()
        for place in random.integers(len(content), size=2):
            path.write_bytes(
                content[:place] + bytes([content[place] ^ 1 << int(random.integers(8))]) + content[place + 1 :]
            )
            saved = restore(folder)
            step = int(saved.state.step)
            equal(saved.state, make_state(step))
            assert saved[1:] == make_saved(step)[1:]
            found.append(step)
            if step == 20:  # it was renamed; the damaged file still exists
                (folder / "damaged.30").rename(folder / "30")
        path.write_bytes(content)
    assert set(found) == {20, 30}
    assert "do not match their checksum" in capsys.readouterr().err


@pytest.mark.slow
def test_several_damaged_checkpoints(folder, capsys):
    for step in (20, 30):
        os.truncate(folder / str(step) / "run" / "metadata", 0)
    equal(restore(folder).state, make_state(10))
    write(folder, [20])
    os.truncate(folder / "20" / "run" / "metadata", 0)
    os.truncate(folder / "10" / "run" / "metadata", 0)
    with pytest.raises(InputError, match=r"all checkpoints \(steps .*\) are damaged"):
        decode(folder)
    with pytest.raises(InputError, match=r"all checkpoints are damaged; remove the work directory to restart"):
        restore(folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "damaged.10",
        "damaged.20",
        "damaged.20.again",
        "damaged.30",
    ]


def test_incomplete_checkpoints_of_a_killed_run_are_ignored(folder, capsys):
    half = folder / "40.orbax-checkpoint-tmp"
    shutil.copytree(folder / "30" / "params", half / "params.orbax-checkpoint-tmp")
    assert decode(folder)[0] == 30
    assert decode(folder, "best")[0] == 30
    equal(restore(folder).state, make_state(30))
    write(folder, [40])
    assert not half.exists()
    assert decode(folder)[0] == 40
    assert capsys.readouterr().err == ""


def mesh(*sizes):
    count = int(np.prod(sizes))
    return Mesh(np.asarray(jax.devices()[:count]).reshape(sizes), ("x", "y"))


PLACES = {
    "one device": NamedSharding(mesh(1, 1), PartitionSpec()),
    "eight copies": NamedSharding(mesh(8, 1), PartitionSpec()),
    "eight parts": NamedSharding(mesh(8, 1), PartitionSpec("x")),
    "four parts, twice": NamedSharding(mesh(4, 2), PartitionSpec("x")),
}


@pytest.mark.parametrize("after", PLACES)
@pytest.mark.parametrize("before", PLACES)
def test_other_devices_read_the_same_values(before, after, tmp_path):
    def places(name):
        alone = NamedSharding(PLACES[name].mesh, PartitionSpec())
        return jax.tree.map(lambda x: PLACES[name] if x.ndim else alone, make_state(7))

    saved = make_saved(7)
    checkpoints = Checkpoints(tmp_path / "c", TRAIN, "loss")
    checkpoints.save(saved._replace(state=jax.device_put(saved.state, places(before))))
    checkpoints.close()
    like = jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), saved.state, places(after)
    )
    checkpoints = Checkpoints(tmp_path / "c", TRAIN, "loss")
    found = checkpoints.restore(like)
    checkpoints.close()
    equal(found.state, saved.state)
    assert found.state.params["a"].sharding == PLACES[after]
    equal(restore_params(tmp_path / "c", 7, "loss", like.params)[1], saved.state.params)


def test_checkpoints_of_pmap_and_jit_are_interchangeable(tmp_path):
    pmap, state = PmapLayout(), make_state(7)
    copies = pmap.to_layout(state)
    assert copies.params["a"].shape == (8, 16, 24)
    checkpoints = Checkpoints(tmp_path / "c", TRAIN, "loss")
    checkpoints.save(make_saved(7)._replace(state=pmap.to_global(copies)))
    checkpoints.close()
    equal(restore(tmp_path / "c").state, state)
    like = pmap.shapes(lambda: state)
    checkpoints = Checkpoints(tmp_path / "c", TRAIN, "loss")
    equal(pmap.to_layout(checkpoints.restore(like).state), copies)
    checkpoints.close()


@pytest.fixture
def disk(tmp_path):
    """Room for three checkpoints."""
    with small_disk(tmp_path / "disk", "300k") as folder:
        yield folder


def test_a_full_disk_is_an_error_and_keeps_earlier_checkpoints(disk, capfd):
    folder = disk / "checkpoints"
    checkpoints = Checkpoints(folder, micro({"train.keep_latest": 100}).train, "loss")

    def fill():
        for step in range(1, 100):
            checkpoints.save(make_saved(step))

    with pytest.raises(InputError, match=rf"^{folder}: the disk is full \(No space left on device\); free some space"):
        fill()
    checkpoints.close()
    step, params = decode(folder)
    assert step > 1
    equal(params, make_state(step).params)
    assert capfd.readouterr() == ("", "")


def test_a_full_disk_is_an_error_on_close(disk, capfd):
    checkpoints = Checkpoints(disk / "checkpoints", TRAIN, "loss")
    with (disk / "other").open("wb") as file:
        file.write(bytes(240_000))
    checkpoints.save(make_saved(1))
    with pytest.raises(InputError, match="checkpoints: the disk is full"):
        checkpoints.close()
    assert capfd.readouterr() == ("", "")


def test_a_file_in_place_of_the_directory_is_an_error(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c", TRAIN, "loss")
    checkpoints.save(make_saved(1))
    checkpoints._manager.wait_until_finished()
    shutil.rmtree(tmp_path / "c")
    (tmp_path / "c").write_text("no directory any more")

    def save_and_close():
        checkpoints.save(make_saved(2))
        checkpoints.close()

    with pytest.raises(InputError, match="c: was removed or moved during the run"):
        save_and_close()


def test_a_directory_removed_during_the_run_is_an_error(tmp_path):
    """Case r14."""
    folder = tmp_path / "checkpoints"
    checkpoints = Checkpoints(folder, TRAIN, "loss")
    checkpoints.save(make_saved(10))
    checkpoints._manager.wait_until_finished()
    shutil.rmtree(folder)
    with pytest.raises(InputError, match=rf"^{folder}: was removed or moved during the run; put it back"):
        checkpoints.save(make_saved(20))
    with pytest.raises(InputError, match=rf"^{folder}: was removed or moved during the run; put it back"):
        checkpoints.close()
