"""Runs that are stopped, killed and resumed; ``runs`` trains a toy model that compiles immediately."""

import os
import random
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import flaxformer_lite
from flaxformer_lite.checkpoints.listing import Evaluation
from flaxformer_lite.checkpoints.work_dir import WorkDir
from flaxformer_lite.errors import InputError
from flaxformer_lite.sharding.mesh_layout import MeshLayout
from flaxformer_lite.train_step.optimizers import make_schedule
from flaxformer_lite.training import loop, setup
from tests.micro_config import flags, micro, use_devices
from tests.training_runs import EVALUATE, MEASURED, SAVE, UPDATE, PlainEvaluator, Runs, assert_equal_records, number_of


@pytest.fixture
def runs(tmp_path, monkeypatch):
    use_devices(monkeypatch, 1)
    return Runs(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The record of an uninterrupted run."""
    with pytest.MonkeyPatch.context() as patch:
        use_devices(patch, 1)
        runs = Runs(tmp_path_factory.mktemp("runs"), patch)
        assert runs.start("whole") == 0
        return runs.record("whole")


def test_a_run_killed_at_any_step_resumes_exactly(runs, whole):
    assert [line["step"] for line in whole[0]] == [4, 5, 8, 10, 12, 12]
    for at in (2, 5, 7, 9):  # resumes from 0, 4, 6, 8
        runs.kill_at(f"killed {at}", UPDATE, at)
        assert runs.start(f"killed {at}") == 0
        assert_equal_records(runs.record(f"killed {at}"), whole)


@pytest.mark.parametrize("place", [EVALUATE, SAVE], ids=["in the evaluation", "before the checkpoint"])
def test_a_run_killed_around_an_evaluation_resumes_exactly(place, runs, whole):
    runs.kill_at("killed", place, 8)
    assert runs.start("killed") == 0
    assert_equal_records(runs.record("killed"), whole)


@pytest.mark.parametrize(
    ("number", "code", "place"),
    [(signal.SIGTERM, 143, UPDATE), (signal.SIGINT, 130, EVALUATE), (signal.SIGTERM, 143, SAVE)],
    ids=["in a step", "in an evaluation", "while saving"],
)
def test_a_signal_saves_and_logs_how_to_resume(number, code, place, runs, whole, monkeypatch, capsys):
    owner, method = place
    original = getattr(owner, method)

    signals, before = iter([number]), signal.getsignal(number)

    def stop_at_eight(self, step, *rest):
        if number_of(step) == 8:
            for once in signals:
                signal.raise_signal(once)
        return original(self, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(owner, method, stop_at_eight)
        assert runs.start("stopped") == code
    stderr = capsys.readouterr().err
    assert f"{number.name}: saving" in stderr
    assert "stopped and saved at step 8; the same command resumes from there" in stderr
    assert signal.getsignal(number) == before
    assert runs.start("stopped") == 0
    assert "resuming from step 8" in capsys.readouterr().err
    assert_equal_records(runs.record("stopped"), whole)


def test_a_signal_between_evaluations(runs, whole, monkeypatch):
    add = loop.Progress.add

    def stop(self, step, *rest):
        if step in (5, 7):
            signal.raise_signal(signal.SIGTERM)
        add(self, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Progress, "add", stop)
        assert runs.start("stopped") == 143  # at 5, a step with a log line
        assert runs.start("stopped") == 143  # at 7, a step without one
    assert runs.start("stopped") == 0
    assert_equal_records(runs.record("stopped"), whole)


def test_a_second_signal_stops_at_once(runs, monkeypatch):
    def signal_twice(*_):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(PlainEvaluator, "__call__", signal_twice)
    with pytest.raises(KeyboardInterrupt):
        runs.start("stopped")


def test_a_finished_run_is_unchanged(runs, whole, capsys):
    assert runs.start("finished") == 0
    assert runs.start("finished") == 0
    assert_equal_records(runs.record("finished"), whole)
    assert WorkDir(runs.folder / "finished").finish().step == 12
    assert "done at step 12" in capsys.readouterr().err


def test_other_devices_read_the_same_batches(runs, whole, monkeypatch):
    use_devices(monkeypatch, 2)
    runs.kill_at("moved", UPDATE, 8)
    use_devices(monkeypatch, 1)
    assert runs.start("moved", micro({"mesh.data": 1})) == 0  # the devices and the layout may change
    lines, _, saved = runs.record("moved")
    assert saved.data == whole[2].data
    for ours, theirs in zip(lines, whole[0], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


def test_another_config_is_an_error_with_the_difference(runs):
    runs.kill_at("run", UPDATE, 4)
    with pytest.raises(InputError, match=r"(?s)model\.encoder\.dropout: 0\.1 → 0\.2.*another directory") as caught:
        runs.start("run", micro({"model.encoder.dropout": 0.2, "parallel.mode": "pmap"}))
    assert "parallel" not in str(caught.value)


def test_patience_counts_evaluations_across_restarts(runs, monkeypatch, capsys):
    values = {2: 5.0, 4: 7.0, 6: 7.0, 8: 6.0, 10: 9.0, 12: 9.0}  # the best, 7, is reached at step 4
    monkeypatch.setattr(PlainEvaluator, "__call__", lambda self, step, params: values[step])
    impatient = micro({"train.patience": 2, "train.eval_every": 2})
    runs.kill_at("run", UPDATE, 7, impatient)
    folder = WorkDir(runs.folder / "run")
    assert folder.finish() is None
    assert runs.start("run", impatient) == 0
    assert int(runs.saved["run"][-1].state.step) == 8
    assert folder.finish() == (8, 4, 7.0)
    assert (
        "done at step 8 (no better exact_match in 2 evaluations); best exact_match 7 at step 4"
        in capsys.readouterr().err
    )
    assert runs.start("run", impatient) == 0  # it stays stopped
    assert int(runs.saved["run"][-1].state.step) == 8


def test_best_and_latest_checkpoints_are_kept(runs, monkeypatch):
    values = {2: 5.0, 4: 7.0, 6: 7.0, 8: 6.0, 10: float("nan"), 12: 6.5}
    monkeypatch.setattr(PlainEvaluator, "__call__", lambda self, step, params: values[step])
    config = micro({"train.eval_every": 2, "train.save_every": 100, "train.keep_best": 2})
    runs.kill_at("run", UPDATE, 7, config)
    assert runs.start("run", config) == 0
    kept = sorted(int(path.name) for path in (runs.folder / "run" / "checkpoints").iterdir())
    assert kept == [4, 6, 10, 12]
    history = runs.saved["run"][-1].history
    assert history[:3] == [Evaluation(2, 5.0), Evaluation(4, 7.0), Evaluation(6, 7.0)]


def poison(monkeypatch, steps):
    """Gives the batches of these steps, counted from 1 in each run, a loss of NaN."""
    put, count = MeshLayout.shard_batch, 0

    def spoil(layout, batch):
        nonlocal count
        count += 1
        return put(layout, batch._replace(weights=batch.weights * np.nan) if count in steps else batch)

    monkeypatch.setattr(MeshLayout, "shard_batch", spoil)


def test_an_update_that_is_not_finite_is_skipped_and_counted(runs, monkeypatch, capsys):
    poison(monkeypatch, {3, 6, 7})
    assert runs.start("run", micro({"train.max_nonfinite_steps": 3})) == 0
    stderr = capsys.readouterr().err
    skipped = [line.partition(":")[0] for line in stderr.splitlines() if "update skipped" in line]
    assert skipped == ["step 3", "step 6", "step 7"]
    counts = {int(s.state.step): (int(s.state.skipped), int(s.state.skipped_total)) for s in runs.saved["run"]}
    assert counts == {3: (1, 1), 4: (0, 1), 6: (1, 2), 8: (0, 3), 9: (0, 3), 12: (0, 3)}
    lines, _, saved = runs.record("run")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(saved.state))
    logged = [line for line in lines if "train/loss" in line]
    assert all(line["train/loss"] > 0 for line in logged)
    assert [(line["step"], line["train/skipped"]) for line in logged] == [(5, 1), (10, 3), (12, 3)]
    schedule = make_schedule(micro().optim, 12)  # skipped updates do not count
    rates = [float(schedule(update)) for update in (3, 6, 8)]  # of 5 - 1, 10 - 3 and 12 - 3 updates the last
    assert [line["train/learning_rate"] for line in logged] == pytest.approx(rates)


def test_a_diverging_run_stops_and_keeps_the_last_good_checkpoint(runs, monkeypatch):
    with monkeypatch.context() as patch:
        poison(patch, {5, 6, 7, 8, 9})
        with pytest.raises(InputError, match=r"^step 9: loss or gradient was not finite for 5 consecutive updates"):
            runs.start("run", micro({"train.max_nonfinite_steps": 5}))
    states = {int(saved.state.step): saved.state for saved in runs.saved["run"]}
    assert int(states[8].skipped) == 4
    jax.tree.map(np.testing.assert_array_equal, states[8].params, states[4].params)  # no NaN reached the state
    assert runs.start("run", micro({"train.max_nonfinite_steps": 5})) == 0  # the checkpoint itself is valid


def test_consecutive_skipped_updates_are_counted_across_restarts(runs, monkeypatch):
    config = micro({"train.max_nonfinite_steps": 4})
    with monkeypatch.context() as patch:
        poison(patch, {5, 6})
        runs.kill_at("run", UPDATE, 7, config)
    poison(monkeypatch, {1, 2})
    with pytest.raises(InputError, match=r"^step 8: .* for 4 consecutive updates"):
        runs.start("run", config)


def test_the_log_counts_skipped_updates_across_restarts(runs, monkeypatch):
    poison(monkeypatch, {2, 3})
    runs.kill_at("run", UPDATE, 8)
    assert runs.start("run") == 0
    lines = [line for line in runs.record("run")[0] if "train/loss" in line]
    assert [(line["step"], line["train/skipped"]) for line in lines] == [(5, 2), (10, 2), (12, 2)]


def test_the_log_omits_metrics_without_information(whole):
    logged = [line for line in whole[0] if "train/loss" in line]
    assert logged
    assert not any("train/skipped" in line or "train/objective" in line for line in logged)


AVERAGED = {"train.ema_decay": 0.8}


def test_a_run_with_a_moving_average_resumes_exactly(runs):
    assert runs.start("whole", micro(AVERAGED)) == 0
    runs.kill_at("killed", UPDATE, 7, micro(AVERAGED))
    assert runs.start("killed", micro(AVERAGED)) == 0
    assert_equal_records(runs.record("killed"), runs.record("whole"))


def test_the_moving_average_is_evaluated_and_loaded(runs, whole):
    assert runs.start("run", micro(AVERAGED)) == 0
    lines, _, saved = runs.record("run")
    jax.tree.map(np.testing.assert_array_equal, saved.state.params, whole[2].state.params)  # it changes nothing else
    evaluated = [line["eval/exact_match"] for line in lines if "eval/exact_match" in line]
    assert evaluated[-1] == sum(np.abs(leaf).sum() for leaf in jax.tree.leaves(saved.state.ema))
    loaded = flaxformer_lite.load(runs.folder / "run", step="latest").params
    jax.tree.map(np.testing.assert_array_equal, loaded, saved.state.ema)


def test_a_distilled_run_resumes_with_the_same_teacher(runs, monkeypatch, capsys):
    """The teacher is trained further in the meantime."""
    evaluate = PlainEvaluator.__call__
    monkeypatch.setattr(
        PlainEvaluator, "__call__", lambda *asked: evaluate(*asked) and float(asked[1])
    )  # always improving
    deep = {"model.encoder.num_layers": 2, "train.keep_latest": 9}
    runs.kill_at("teacher", UPDATE, 9, micro(deep))
    taught = {"train.distill.teachers": (str(runs.folder / "teacher"),), "train.distill.temperature": 2.0}
    student = micro(taught | {"train.r_drop": 0.5, "train.z_loss": 1e-3})
    assert runs.start("whole", student) == 0
    runs.kill_at("killed", UPDATE, 7, student)
    stderr = capsys.readouterr().err
    first_step = int(re.search(rf"distilling from {runs.folder}/teacher, step (\d+)", stderr)[1])
    assert first_step == 8
    assert runs.start("teacher", micro(deep)) == 0
    assert int(flaxformer_lite.load(runs.folder / "teacher").step) == 12
    assert runs.start("killed", student) == 0
    assert_equal_records(runs.record("killed"), runs.record("whole"))
    logged = [line for line in runs.record("whole")[0] if "train/loss" in line]
    assert all(line["train/objective"] != line["train/loss"] for line in logged)


def test_metrics_are_read_one_step_late(runs, monkeypatch):
    events = []
    check, compiled = loop.Progress._check_finite, setup.LoggedJit.__call__

    def call(self, state, batch):
        events.append(("begin", len([kind for kind, _ in events if kind == "begin"]) + 1))
        return compiled(self, state, batch)

    monkeypatch.setattr(setup.LoggedJit, "__call__", call)

    def read(self, step, *results):
        events.append(("read", step))
        check(self, step, *results)

    monkeypatch.setattr(loop.Progress, "_check_finite", read)
    assert runs.start("run", micro({"train.eval_every": 100, "train.save_every": 4})) == 0
    order = [f"{kind} {step}" for kind, step in events]
    assert order[:10] == [
        *("begin 1", "begin 2", "read 1", "begin 3", "read 2", "begin 4", "read 3"),
        *("read 4", "begin 5", "begin 6"),  # the checkpoint after step 4 reads all metrics so far
    ]


def test_a_run_under_pmap_resumes_exactly(runs, monkeypatch):
    use_devices(monkeypatch, 2)
    config = micro(AVERAGED | {"parallel.mode": "pmap"})
    assert runs.start("whole", config) == 0
    runs.kill_at("killed", UPDATE, 8, config)
    assert runs.start("killed", config) == 0
    assert_equal_records(runs.record("killed"), runs.record("whole"))


@pytest.mark.slow
def test_sigkill_at_a_random_moment(repository, tmp_path):
    """A real process with real evaluations; incomplete files are ignored."""
    trained = ["train", *flags({"train.steps": 40, "train.eval_every": 20})]
    script = (
        "import sys; from flaxformer_lite.cli.main import main; sys.exit(max(main(a.split()) for a in sys.argv[1:]))"
    )
    one_device = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")
    options = {
        "cwd": repository,
        "env": os.environ | {"XLA_FLAGS": one_device},
        "stderr": subprocess.PIPE,
        "text": True,
    }
    killed, whole = (" ".join([*trained, f"--workdir={tmp_path / name}"]) for name in ("killed", "whole"))
    moment = random.Random().uniform(0, 0.5)
    with subprocess.Popen([sys.executable, "-c", script, killed], **options) as process:
        for line in process.stderr:
            if re.match(r"step +10/", line):
                break
        time.sleep(moment)
        process.kill()
    assert process.returncode == -signal.SIGKILL, f"the run had ended after {moment} s"
    ended = subprocess.run([sys.executable, "-c", script, killed, whole], check=False, **options)
    assert ended.returncode == 0, ended.stderr
    assert "resuming from step" in ended.stderr
    for name in ("metrics.jsonl", "samples.txt", "checkpoints/40/run/metadata"):  # it has the arrays' checksums
        texts = [(tmp_path / run / name).read_text() for run in ("killed", "whole")]
        one, other = (re.sub(rf'"({"|".join(MEASURED)})": [^,}}]*', "", text) for text in texts)
        assert one == other, f"{name} differs after a kill {moment} s behind step 10"


def test_an_unknown_suppressed_token_is_an_error_before_training(runs):
    with pytest.raises(
        InputError, match=r"^config\.decode\.suppress_tokens: 'xyz' is not a token of the target vocabulary"
    ):
        runs.start("run", micro({"decode.suppress_tokens": ("xyz",)}))
    assert not (runs.folder / "run").exists()
