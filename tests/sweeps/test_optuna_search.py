"""Searches whose fake jobs write one evaluation per poll; the best learning rate is 0.003."""

import json
import math
import os
import signal
import statistics
from contextlib import ExitStack

import pytest

from flaxformer_lite.checkpoints.work_dir import RunResult, WorkDir
from flaxformer_lite.config import loading
from flaxformer_lite.errors import InputError
from flaxformer_lite.sweeps import Choice, Integers, LogUniform, Uniform, runner
from flaxformer_lite.sweeps.resources import JobResources
from flaxformer_lite.sweeps.search_space import SearchSpace, load_search_space
from flaxformer_lite.sweeps.sweep_dir import SweepDir
from flaxformer_lite.sweeps.trial_dir import JobFailure, TrialDir
from flaxformer_lite.sweeps.trial_status import TrialState, read_status
from flaxformer_lite.system import file_lock
from tests.training_runs import Killed

optuna = pytest.importorskip("optuna", reason="pip install -e '.[optuna]'")
open_study = pytest.importorskip("flaxformer_lite.sweeps.optuna_search").open_study

_EVERY, _EVALUATIONS = 100, 5
_SPACE = {"optim.learning_rate": LogUniform(1e-5, 1.0), "train.eval_every": _EVERY}


def quality(config):
    return 90.0 - 10 * abs(math.log10(config["optim"]["learning_rate"] / 3e-3))


class Training:
    """A launcher whose jobs write one evaluation per poll; a new job resumes from the recorded evaluations."""

    name = "fake"
    poll_seconds = 0.0

    def __init__(self, parallel, quality=quality):
        self.slots = [JobResources((i,)) for i in range(parallel)]
        self.quality = quality
        self.started, self.stopped = [], []
        self.jobs = {}

    def submit(self, job):
        job.path.mkdir(exist_ok=True)
        (job.path / "config.json").write_text(json.dumps(job.config))
        self.jobs[job.path.name] = job, (stack := ExitStack())
        assert stack.enter_context(file_lock.hold(TrialDir(job.path).job_lock)) is None
        self.started.append(job.path.name)
        return job.path.name

    def advance(self):
        for name, (job, _) in list(self.jobs.items()):
            path, value = job.path / "metrics.jsonl", self.quality(job.config)
            done = len(path.read_text().splitlines()) if path.exists() else 0
            if value is None:
                TrialDir(job.path).failure.save(JobFailure(1, "out of memory"))
                self.end(name)
                continue
            with path.open("a") as file:
                file.write(json.dumps({"step": (done + 1) * _EVERY, "eval/exact_match": value + done}) + "\n")
            if done + 1 == _EVALUATIONS:
                last = None if math.isnan(value) else value + done
                WorkDir(job.path).save_finish(RunResult(_EVALUATIONS * _EVERY, _EVALUATIONS * _EVERY, last))
                self.end(name)

    def end(self, name):
        self.jobs.pop(name)[1].close()

    def is_over(self, submission):
        return submission.id not in self.jobs

    def stop(self, folder, submission, kill):
        self.stopped.append((submission.id, kill))
        self.end(submission.id)
        return True

    def kill(self):
        for name in list(self.jobs):
            self.end(name)


@pytest.fixture
def base(repository):
    changes = [f"--config.train.steps={_EVERY * _EVALUATIONS}"]
    return loading.read(str(repository / "configs/tiny.py"), changes)


@pytest.fixture
def search(tmp_path, base):
    """Runs a search; returns the launcher and the final trials of the study."""

    def search(values=_SPACE, trials=6, parallel=1, pruner="none", quality=quality, watch=None, name="search"):
        launcher = search.launcher = Training(parallel, quality)
        folder, space = SweepDir(tmp_path / name), SearchSpace(values, base, frozenset())

        def display(suggester, statuses, stopping):
            if watch:
                watch(suggester, statuses)
            launcher.advance()

        try:
            with folder.lock(), open_study(folder, space, pruner, trials) as study:
                study.recover()
                search.statuses, search.stop = runner.run_trials(study, runner.JobManager(folder, launcher), display)
                search.invalid = study.invalid
        finally:
            launcher.kill()
        return launcher, trials_of(folder)

    search.path = tmp_path / "search"
    return search


def trials_of(folder):
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder.study}")
    try:
        return optuna.load_study(study_name="search", storage=storage).trials
    finally:
        storage.remove_session()
        storage.engine.dispose()


def states(trials):
    return [trial.state.name for trial in trials]


def sampled(trials):
    return [trial.params for trial in trials]


def test_search_improves_and_is_a_function_of_the_seed(search):
    launcher, trials = search(trials=14)
    assert states(trials) == ["COMPLETE"] * 14
    assert launcher.started == [trial.user_attrs["trial"] for trial in trials]
    for trial in trials:
        assert list(trial.intermediate_values) == [100, 200, 300, 400, 500]
        rate = json.loads((search.path / trial.user_attrs["trial"] / "config.json").read_text())["optim"]
        assert rate["learning_rate"] == float(f"{trial.params['optim.learning_rate']:.4g}")
    quality = [trial.value for trial in trials]
    assert statistics.mean(quality[10:]) > statistics.mean(quality[:10]), "TPE samples at random ten times first"
    assert sampled(search(trials=3, name="again")[1]) == sampled(trials)[:3]
    assert search(trials=15)[0].started == [trials_of_path(search)[14].user_attrs["trial"]]


def trials_of_path(search):
    return trials_of(SweepDir(search.path))


def test_jobs_run_concurrently(search):
    most = 0

    def watch(suggester, statuses):
        nonlocal most
        most = max(most, sum(status.state.is_active for status in statuses.values()))

    assert states(search(parallel=3, trials=7, watch=watch)[1]) == ["COMPLETE"] * 7
    assert most == 3


def test_median_pruner_stops_what_is_below_the_median(search):
    launcher, trials = search(trials=12, pruner="median")
    assert states(trials)[:5] == ["COMPLETE"] * 5, "the median needs five trials"
    assert "PRUNED" in states(trials)
    for i, trial in enumerate(trials[5:], 5):
        others = [t.intermediate_values[100] for t in trials[:i] if t.state.name == "COMPLETE"]
        worse = trial.intermediate_values[100] < statistics.median(others)
        assert trial.state.name == ("PRUNED" if worse else "COMPLETE")
        name = trial.user_attrs["trial"]
        assert search.statuses[name].state is (TrialState.PRUNED if worse else TrialState.DONE)
        assert ((name, False) in launcher.stopped) == worse
        if worse:
            pruned = json.loads((search.path / name / "pruned.json").read_text())
            assert pruned == {"step": 100, "value": trial.intermediate_values[100]}
            assert not (search.path / name / "finished.json").exists()
    assert search(trials=12, pruner="median")[0].started == []


def test_halving_pruner_keeps_the_best_third_of_a_rung(search):
    rates = {"optim.learning_rate": Choice(1e-3, 1e-1, 1e-2, 3e-3, 1.0, 3e-2), "train.eval_every": _EVERY}
    _, trials = search(rates, trials=12, pruner="halving")
    seen = []
    for trial in {trial.user_attrs["trial"]: trial for trial in reversed(trials)}.values():
        seen.append(trial.intermediate_values[100])
    assert {"PRUNED", "COMPLETE"} == set(states(trials))
    best = next(trial for trial in trials if trial.intermediate_values[100] == max(seen))
    assert best.state.name == "COMPLETE"
    assert min(seen) not in [t.intermediate_values[100] for t in trials if t.state.name == "COMPLETE"] or len(seen) == 1


def test_direction_follows_the_metric(search, base):
    base.eval.metrics, base.eval.best_metric = ("exact_match", "wer"), "wer"
    folder = SweepDir(search.path)
    with folder.lock(), open_study(folder, SearchSpace(_SPACE, base, frozenset()), "none", 1) as study:
        assert study._study.direction.name == "MINIMIZE"


@pytest.mark.parametrize("parallel", [1, 2])
def test_the_same_trials_resume_after_a_crash(search, parallel):
    """The sweep and its jobs are killed."""
    polls = 0

    def watch(suggester, statuses):
        nonlocal polls
        polls += 1
        if polls == 10:
            raise Killed

    with pytest.raises(Killed):
        search(trials=5, parallel=parallel, watch=watch)
    before = trials_of_path(search)
    running = [trial.user_attrs["trial"] for trial in before if trial.state.name == "RUNNING"]
    assert len(running) == parallel
    recorded = {name: (search.path / name / "metrics.jsonl").read_text() for name in running}
    assert all(recorded.values())

    launcher, trials = search(trials=5, parallel=parallel)
    assert states(trials) == ["COMPLETE"] * 5
    assert launcher.started[:parallel] == running
    done = [trial.user_attrs["trial"] for trial in before if trial.state.name == "COMPLETE"]
    assert done
    assert not set(done) & set(launcher.started)
    for name, text in recorded.items():
        assert (search.path / name / "metrics.jsonl").read_text().startswith(text)
    if parallel == 1:
        assert sampled(trials) == sampled(search(trials=5, name="whole")[1])


def test_results_of_jobs_that_outlive_the_sweep_are_reported(search):
    """A job outlives the sweep and ends while nobody polls."""

    def watch(suggester, statuses):
        if any(status.progress.step for status in statuses.values()):
            raise Killed

    with pytest.raises(Killed):
        search(trials=2, watch=watch)
    (trial,) = trials_of_path(search)
    with (search.path / trial.user_attrs["trial"] / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 200, "eval/exact_match": 3.5}) + "\n")
    WorkDir(search.path / trial.user_attrs["trial"]).save_finish(RunResult(500, 200, 3.5))
    launcher, trials = search(trials=2)
    assert launcher.started == [trials[1].user_attrs["trial"]]
    assert (trials[0].value, list(trials[0].intermediate_values)) == (3.5, [100, 200])


def test_incompletely_sampled_trials_are_voided(search, tmp_path, base):
    space = SearchSpace(_SPACE | {"train.label_smoothing": Uniform(0.0, 0.2)}, base, frozenset())
    folder = SweepDir(search.path)
    with folder.lock(), open_study(folder, space, "none", 1) as study:
        study._study.ask({"train.label_smoothing": optuna.distributions.FloatDistribution(0.0, 0.2)})
    assert states(search(space.values, trials=2)[1]) == ["FAIL", "COMPLETE", "COMPLETE"]


def test_trials_resume_after_ctrl_c(search):
    def watch(suggester, statuses):
        if any(status.progress.step == 200 for status in statuses.values()):
            os.kill(os.getpid(), signal.SIGINT)

    launcher, trials = search(trials=3, watch=watch)
    assert search.stop == signal.SIGINT
    assert launcher.stopped == [(trials[0].user_attrs["trial"], False)]
    launcher, trials = search(trials=3)
    assert states(trials) == ["COMPLETE"] * 3
    assert launcher.started == [trial.user_attrs["trial"] for trial in trials]


def test_failed_trials_are_retried_by_the_next_call(search):
    def fails(config):
        return None if config["optim"]["learning_rate"] < 1e-2 else quality(config)

    launcher, trials = search(trials=5, quality=fails)
    assert set(states(trials)) == {"COMPLETE", "FAIL"}
    failed = [trial.user_attrs["trial"] for trial in trials if trial.state.name == "FAIL"]
    assert [search.statuses[name].message for name in failed] == ["out of memory"] * len(failed)
    launcher, trials = search(trials=5)
    assert launcher.started == failed
    assert sorted(states(trials)) == ["COMPLETE"] * 5 + ["FAIL"] * len(failed)
    assert search(trials=5)[0].started == []


def test_a_trial_with_a_nan_metric_has_failed_and_is_not_retried(search):
    _, trials = search(trials=2, quality=lambda config: math.nan)
    assert states(trials) == ["FAIL", "FAIL"]
    assert search(trials=2)[0].started == []


def test_invalid_samples_are_reported_and_the_others_run(search):
    space = {"model.encoder.width": Integers(32, 64), "train.eval_every": _EVERY}  # 4 heads divide some widths
    _, trials = search(space, trials=6)
    assert set(states(trials)) == {"COMPLETE", "FAIL"}
    assert len(search.invalid) == states(trials).count("FAIL")
    assert "num_heads" in search.invalid[0]


def test_equal_samples_run_once(search):
    smoothed = {"train.label_smoothing": Choice(0.0, 0.1), "eval.metrics": Choice(("wer",), ("wer", "exact_match"))}
    launcher, trials = search(smoothed | {"eval.best_metric": "loss"}, trials=12, parallel=3)
    assert len(trials) == 12
    assert len(set(launcher.started)) == len(launcher.started) == 4


@pytest.fixture
def read(base, tmp_path):
    def read(*lines, fixed=()):
        path = tmp_path / "mine.py"
        head = "from flaxformer_lite.sweeps import *\nimport random\n"
        path.write_text(head + "\n".join(["def space():", *(f"    {line}" for line in lines)]))
        return load_search_space(str(path), base, fixed)

    return read


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("return {}", r"space\(\): has no distribution to search; see configs/sweeps/space\.py"),
        ("return {'seed': 1}", r"has no distribution to search"),
        ("yield {'seed': Integers(0, 9)}", r"must return a dictionary of dotted config keys, .*got <generator"),
        ("return {1: Integers(0, 9)}", r"must return a dictionary of dotted config keys"),
        ("return {'optim.learning_rat': Uniform(0.1, 1)}", r"learning_rat: there is no such key; did you mean"),
        ("return {'seed': Uniform(0, 9)}", r"space\(\), seed=0\.0: .*must be a whole number"),
        ("return {'train.label_smoothing': Uniform(0.0, 1.5)}", r"space\(\), train\.label_smoothing=1\.5: .*below 1"),
        (
            "return {'seed': Integers(0, 9), 'model.encoder.norm.placement': Choice('pre', 'pos')}",
            r"model\.encoder\.norm\.placement='pos': .*post",
        ),
        (
            "return {'seed': Integers(0, 9), 'model.encoder.norm.placement': 'prre'}",
            r"model\.encoder\.norm\.placement='prre': .*did you mean pre",
        ),
        ("return {'model.encoder.num_heads': Integers(3, 4)}", r"num_heads=3\): |num_heads=3: .*must divide"),
        ("return {'eval.best_metric': Choice('loss', 'exact_match')}", r"must not search eval\.best_metric"),
        ("return {'seed': 1 / 0}", r"mine\.py, line 4: ZeroDivisionError"),
        (
            "return {'seed': type('Odd', (), {'sample': len})()}",
            r"seed: must be LogUniform, Uniform, Integers or Choice, got",
        ),
    ],
)
def test_invalid_search_space_is_an_error(line, message, read):
    with pytest.raises(InputError, match=message) as caught:
        read(line)
    assert "\n" not in str(caught.value)


def test_keys_of_the_command_line_are_fixed(read):
    with pytest.raises(InputError, match=r"config\.seed: is already overridden for all trials"):
        read("return {'seed': Integers(0, 9)}", fixed=["seed"])


def test_example_space_is_valid(repository, base):
    space = load_search_space(f"{repository}/configs/sweeps/space.py", base, [])
    assert len(space.distributions) == 3


def test_another_search_in_the_directory_is_an_error(search, base):
    search(trials=1)
    with pytest.raises(
        InputError, match=r"(?s)search with another search space; .*:\n  optim\.learning_rate: '.*1e-05"
    ):
        search(_SPACE | {"optim.learning_rate": LogUniform(1e-4, 1.0)})
    base.model.encoder.width = 32
    with pytest.raises(InputError, match=r"(?s)search with another base config.*model\.encoder\.width: 64 → 32"):
        search()
    folder = SweepDir(search.path)
    folder.check_search()
    with pytest.raises(InputError, match=r"contains a search \(search\.sqlite\)"):
        folder.check_trials([])
    folder.study.unlink()
    with pytest.raises(InputError, match=r"contains a sweep without a search \(learning_rate="):
        folder.check_search()


def test_a_damaged_study_is_an_error(search):
    search.path.mkdir()
    (search.path / "search.sqlite").write_text("not a database" * 100)
    with pytest.raises(InputError, match=r"search\.sqlite: cannot be read or written: file is not a database"):
        search()


def test_jobs_are_stopped_where_the_study_cannot_be_written(search):
    def full(*given, **named):
        raise optuna.exceptions.StorageInternalError("database or disk is full")

    def fails(config):
        first.append(config["seed"])
        return None if config["seed"] == first[0] else 50.0

    def watch(suggester, statuses):
        suggester._study.tell = full

    first = []

    with pytest.raises(InputError, match=r"search\.sqlite: cannot be read or written: database or disk is full"):
        search({"seed": Integers(0, 99), "train.eval_every": _EVERY}, 3, 2, quality=fails, watch=watch)
    assert len(search.launcher.started) == 2
    assert search.launcher.stopped == [(search.launcher.started[1], False)]


def test_pruned_state_is_stored(tmp_path, base):
    space = SearchSpace(_SPACE, base, frozenset())
    trial, folder = space.trial({}), TrialDir(tmp_path)
    (tmp_path / "pruned.json").write_text('{"step": 100, "value": null}')
    assert read_status(trial, folder, Training(1)).state is TrialState.PRUNED
    with file_lock.hold(folder.job_lock):
        assert read_status(trial, folder, Training(1)).state is TrialState.RUNNING
    WorkDir(tmp_path).save_finish(RunResult(500, 500, 1.0))
    assert read_status(trial, folder, Training(1)).state is TrialState.DONE
