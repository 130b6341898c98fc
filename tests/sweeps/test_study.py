"""Searches whose jobs write an evaluation at each look, as good as the learning rate is near 0.003."""

import json
import math
import os
import signal
import statistics
from contextlib import ExitStack

import pytest

from flaxformer_lite.checkpoints.work_dir import RunResult, WorkDir
from flaxformer_lite.config import overrides
from flaxformer_lite.errors import InputError
from flaxformer_lite.sweeps import Choice, Integers, LogUniform, Uniform
from flaxformer_lite.sweeps import run as sweeps
from flaxformer_lite.sweeps.resources import Share
from flaxformer_lite.sweeps.search_space import SearchSpace, read_space
from flaxformer_lite.sweeps.status import Phase, stand
from flaxformer_lite.sweeps.sweep_dir import SweepFolder
from flaxformer_lite.sweeps.trial_dir import Failure, PointFolder
from flaxformer_lite.system import file_lock
from tests.runs import Killed

optuna = pytest.importorskip("optuna", reason="pip install -e '.[optuna]'")
opened = pytest.importorskip("flaxformer_lite.sweeps.study").opened

_EVERY, _EVALUATIONS = 100, 5
_SPACE = {"optim.learning_rate": LogUniform(1e-5, 1.0), "train.eval_every": _EVERY}


def quality(config):
    return 90.0 - 10 * abs(math.log10(config["optim"]["learning_rate"] / 3e-3))


class Training:
    """Each question whether a job is over brings it one evaluation further; a job goes on from what is recorded."""

    name = "fake"
    patience = 0.0

    def __init__(self, parallel, quality=quality):
        self.shares = [Share((i,)) for i in range(parallel)]
        self.quality = quality
        self.started, self.told = [], []
        self.jobs = {}

    def submit(self, job):
        job.folder.mkdir(exist_ok=True)
        (job.folder / "config.json").write_text(json.dumps(job.config))
        self.jobs[job.folder.name] = job, (stack := ExitStack())
        assert stack.enter_context(file_lock.hold(PointFolder(job.folder).job_lock)) is None
        self.started.append(job.folder.name)
        return job.folder.name

    def advance(self):
        for name, (job, _) in list(self.jobs.items()):
            path, value = job.folder / "metrics.jsonl", self.quality(job.config)
            done = len(path.read_text().splitlines()) if path.exists() else 0
            if value is None:
                PointFolder(job.folder).save_failure(Failure(1, "out of memory"))
                self.end(name)
                continue
            with path.open("a") as file:
                file.write(json.dumps({"step": (done + 1) * _EVERY, "eval/exact_match": value + done}) + "\n")
            if done + 1 == _EVALUATIONS:
                last = None if math.isnan(value) else value + done
                WorkDir(job.folder).save_finish(RunResult(_EVALUATIONS * _EVERY, _EVALUATIONS * _EVERY, last))
                self.end(name)

    def end(self, name):
        self.jobs.pop(name)[1].close()

    def over(self, ticket):
        return ticket.id not in self.jobs

    def stop(self, folder, ticket, kill):
        self.told.append((ticket.id, kill))
        self.end(ticket.id)
        return True

    def kill(self):
        for name in list(self.jobs):
            self.end(name)


@pytest.fixture
def base(repository):
    changes = [f"--config.train.steps={_EVERY * _EVALUATIONS}"]
    return overrides.read(str(repository / "configs/tiny.py"), changes)


@pytest.fixture
def search(tmp_path, base):
    """Runs a search; gives the launcher and what the study says of its trials in the end."""

    def search(values=_SPACE, trials=6, parallel=1, pruner="none", quality=quality, watch=None, name="search"):
        launcher = search.launcher = Training(parallel, quality)
        folder, space = SweepFolder(tmp_path / name), SearchSpace(values, base, frozenset())

        def look(source, standings, stopping):
            if watch:
                watch(source, standings)
            launcher.advance()

        try:
            with folder.alone(), opened(folder, space, pruner, trials) as study:
                study.take_up()
                search.standings, search.stop = sweeps.run(study, sweeps.Jobs(folder, launcher), look)
                search.refused = study.refused
        finally:
            launcher.kill()
        return launcher, trials_of(folder)

    search.path = tmp_path / "search"
    return search


def trials_of(folder):
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder.search}")
    try:
        return optuna.load_study(study_name="search", storage=storage).trials
    finally:
        storage.remove_session()
        storage.engine.dispose()


def states(trials):
    return [trial.state.name for trial in trials]


def drawn(trials):
    return [trial.params for trial in trials]


def test_a_search_finds_the_better_and_is_a_function_of_the_seed(search):
    launcher, trials = search(trials=14)
    assert states(trials) == ["COMPLETE"] * 14
    assert launcher.started == [trial.user_attrs["point"] for trial in trials]
    for trial in trials:
        assert list(trial.intermediate_values) == [100, 200, 300, 400, 500]
        rate = json.loads((search.path / trial.user_attrs["point"] / "config.json").read_text())["optim"]
        assert rate["learning_rate"] == float(f"{trial.params['optim.learning_rate']:.4g}")
    quality = [trial.value for trial in trials]
    assert statistics.mean(quality[10:]) > statistics.mean(quality[:10]), "it learns from the first ten"
    assert drawn(search(trials=3, name="again")[1]) == drawn(trials)[:3]
    assert search(trials=15)[0].started == [trials_of_path(search)[14].user_attrs["point"]]


def trials_of_path(search):
    return trials_of(SweepFolder(search.path))


def test_jobs_run_side_by_side(search):
    most = 0

    def watch(source, standings):
        nonlocal most
        most = max(most, sum(standing.phase.under_way for standing in standings.values()))

    assert states(search(parallel=3, trials=7, watch=watch)[1]) == ["COMPLETE"] * 7
    assert most == 3


def test_the_median_prunes_what_is_worse_than_it(search):
    launcher, trials = search(trials=12, pruner="median")
    assert states(trials)[:5] == ["COMPLETE"] * 5, "of so few there is no median yet"
    assert "PRUNED" in states(trials)
    for i, trial in enumerate(trials[5:], 5):
        others = [t.intermediate_values[100] for t in trials[:i] if t.state.name == "COMPLETE"]
        worse = trial.intermediate_values[100] < statistics.median(others)
        assert trial.state.name == ("PRUNED" if worse else "COMPLETE")
        name = trial.user_attrs["point"]
        assert search.standings[name].phase is (Phase.PRUNED if worse else Phase.DONE)
        assert ((name, False) in launcher.told) == worse
        if worse:
            said = json.loads((search.path / name / "pruned.json").read_text())
            assert said == {"step": 100, "value": trial.intermediate_values[100]}
            assert not (search.path / name / "finished.json").exists()
    assert search(trials=12, pruner="median")[0].started == []


def test_halving_lets_the_best_third_of_a_rung_go_on(search):
    rates = {"optim.learning_rate": Choice(1e-3, 1e-1, 1e-2, 3e-3, 1.0, 3e-2), "train.eval_every": _EVERY}
    _, trials = search(rates, trials=12, pruner="halving")
    seen = []
    for trial in {trial.user_attrs["point"]: trial for trial in reversed(trials)}.values():
        seen.append(trial.intermediate_values[100])
    assert {"PRUNED", "COMPLETE"} == set(states(trials))
    best = next(trial for trial in trials if trial.intermediate_values[100] == max(seen))
    assert best.state.name == "COMPLETE"
    assert min(seen) not in [t.intermediate_values[100] for t in trials if t.state.name == "COMPLETE"] or len(seen) == 1


def test_lower_can_be_better(search, base):
    base.eval.metrics, base.eval.best_metric = ("exact_match", "wer"), "wer"
    folder = SweepFolder(search.path)
    with folder.alone(), opened(folder, SearchSpace(_SPACE, base, frozenset()), "none", 1) as study:
        assert study._study.direction.name == "MINIMIZE"


@pytest.mark.parametrize("parallel", [1, 2])
def test_after_a_crash_the_same_trials_go_on(search, parallel):
    """The sweep is killed in the middle, and its jobs with it."""
    looks = 0

    def watch(source, standings):
        nonlocal looks
        looks += 1
        if looks == 10:
            raise Killed

    with pytest.raises(Killed):
        search(trials=5, parallel=parallel, watch=watch)
    before = trials_of_path(search)
    running = [trial.user_attrs["point"] for trial in before if trial.state.name == "RUNNING"]
    assert len(running) == parallel
    recorded = {name: (search.path / name / "metrics.jsonl").read_text() for name in running}
    assert all(recorded.values())

    launcher, trials = search(trials=5, parallel=parallel)
    assert states(trials) == ["COMPLETE"] * 5
    assert launcher.started[:parallel] == running
    done = [trial.user_attrs["point"] for trial in before if trial.state.name == "COMPLETE"]
    assert done
    assert not set(done) & set(launcher.started)
    for name, text in recorded.items():
        assert (search.path / name / "metrics.jsonl").read_text().startswith(text)
    if parallel == 1:
        assert drawn(trials) == drawn(search(trials=5, name="whole")[1])


def test_what_ended_unseen_is_told(search):
    """A job outlives the sweep and ends while nobody looks."""

    def watch(source, standings):
        if any(standing.progress.step for standing in standings.values()):
            raise Killed

    with pytest.raises(Killed):
        search(trials=2, watch=watch)
    (trial,) = trials_of_path(search)
    with (search.path / trial.user_attrs["point"] / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 200, "eval/exact_match": 3.5}) + "\n")
    WorkDir(search.path / trial.user_attrs["point"]).save_finish(RunResult(500, 200, 3.5))
    launcher, trials = search(trials=2)
    assert launcher.started == [trials[1].user_attrs["point"]]
    assert (trials[0].value, list(trials[0].intermediate_values)) == (3.5, [100, 200])


def test_a_trial_that_was_half_drawn_is_void(search, tmp_path, base):
    space = SearchSpace(_SPACE | {"train.label_smoothing": Uniform(0.0, 0.2)}, base, frozenset())
    folder = SweepFolder(search.path)
    with folder.alone(), opened(folder, space, "none", 1) as study:
        study._study.ask({"train.label_smoothing": optuna.distributions.FloatDistribution(0.0, 0.2)})
    assert states(search(space.values, trials=2)[1]) == ["FAIL", "COMPLETE", "COMPLETE"]


def test_ctrl_c_leaves_trials_to_be_gone_on_with(search):
    def watch(source, standings):
        if any(standing.progress.step == 200 for standing in standings.values()):
            os.kill(os.getpid(), signal.SIGINT)

    launcher, trials = search(trials=3, watch=watch)
    assert search.stop == signal.SIGINT
    assert launcher.told == [(trials[0].user_attrs["point"], False)]
    launcher, trials = search(trials=3)
    assert states(trials) == ["COMPLETE"] * 3
    assert launcher.started == [trial.user_attrs["point"] for trial in trials]


def test_failures_stop_nobody_and_are_tried_again_by_the_next_call(search):
    def fails(config):
        return None if config["optim"]["learning_rate"] < 1e-2 else quality(config)

    launcher, trials = search(trials=5, quality=fails)
    assert set(states(trials)) == {"COMPLETE", "FAIL"}
    failed = [trial.user_attrs["point"] for trial in trials if trial.state.name == "FAIL"]
    assert [search.standings[name].said for name in failed] == ["out of memory"] * len(failed)
    launcher, trials = search(trials=5)
    assert launcher.started == failed
    assert sorted(states(trials)) == ["COMPLETE"] * 5 + ["FAIL"] * len(failed)
    assert search(trials=5)[0].started == []


def test_a_run_without_a_number_has_failed_and_is_not_repeated(search):
    _, trials = search(trials=2, quality=lambda config: math.nan)
    assert states(trials) == ["FAIL", "FAIL"]
    assert search(trials=2)[0].started == []


def test_what_cannot_be_run_is_told_and_the_rest_is(search):
    _, trials = search(
        {"model.encoder.width": Integers(32, 64), "train.eval_every": _EVERY}, trials=6
    )  # of which 4 heads work
    assert set(states(trials)) == {"COMPLETE", "FAIL"}
    assert len(search.refused) == states(trials).count("FAIL")
    assert "num_heads" in search.refused[0]


def test_few_choices_are_each_run_once(search):
    smoothed = {"train.label_smoothing": Choice(0.0, 0.1), "eval.metrics": Choice(("wer",), ("wer", "exact_match"))}
    launcher, trials = search(smoothed | {"eval.best_metric": "loss"}, trials=12, parallel=3)
    assert len(trials) == 12
    assert len(set(launcher.started)) == len(launcher.started) == 4


@pytest.fixture
def read(base, tmp_path):
    def read(*lines, given=()):
        path = tmp_path / "mine.py"
        head = "from flaxformer_lite.sweeps import *\nimport random\n"
        path.write_text(head + "\n".join(["def space():", *(f"    {line}" for line in lines)]))
        return read_space(str(path), base, given)

    return read


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("return {}", r"space\(\) leaves nothing to search; configs/sweeps/space\.py"),
        ("return {'seed': 1}", r"leaves nothing to search"),
        ("yield {'seed': Integers(0, 9)}", r"must return a dictionary of dotted keys, .*got <generator"),
        ("return {1: Integers(0, 9)}", r"must return a dictionary of dotted keys"),
        ("return {'optim.learning_rat': Uniform(0.1, 1)}", r"learning_rat: there is no such key; did you mean"),
        ("return {'seed': Uniform(0, 9)}", r"space\(\), seed=0\.0: .*must be of type int"),
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
        ("return {'eval.best_metric': Choice('loss', 'exact_match')}", r"name one for all"),
        ("return {'seed': 1 / 0}", r"mine\.py, line 4: ZeroDivisionError"),
        ("return {'seed': type('Odd', (), {'draw': len})()}", r"seed is drawn from .*; a search knows LogUniform"),
    ],
)
def test_a_wrong_space_is_named(line, message, read):
    with pytest.raises(InputError, match=message) as caught:
        read(line)
    assert "\n" not in str(caught.value)


def test_keys_of_the_command_line_stay(read):
    with pytest.raises(InputError, match=r"the command line sets config\.seed for all points"):
        read("return {'seed': Integers(0, 9)}", given=["seed"])


def test_the_example_is_good(repository, base):
    space = read_space(f"{repository}/configs/sweeps/space.py", base, [])
    assert len(space.searched) == 3


def test_another_search_in_the_folder_is_named(search, base):
    search(trials=1)
    with pytest.raises(InputError, match=r"search of another space .*:\n  optim\.learning_rate: '.*1e-05.*\nname"):
        search(_SPACE | {"optim.learning_rate": LogUniform(1e-4, 1.0)})
    base.model.encoder.width = 32
    with pytest.raises(InputError, match=r"(?s)search of another config .*model\.width: 64 → 32"):
        search()
    folder = SweepFolder(search.path)
    folder.check_search()
    with pytest.raises(InputError, match=r"holds a search \(--search=optuna\)"):
        folder.check([])
    folder.search.unlink()
    with pytest.raises(InputError, match=r"holds a sweep without a search: learning_rate="):
        folder.check_search()


def test_a_damaged_study_is_named(search):
    search.path.mkdir()
    (search.path / "search.sqlite").write_text("not a database" * 100)
    with pytest.raises(InputError, match=r"search\.sqlite: cannot be read or written: file is not a database"):
        search()


def test_where_the_study_cannot_be_written_jobs_are_stopped(search):
    def full(*given, **named):
        raise optuna.exceptions.StorageInternalError("database or disk is full")

    def fails(config):
        first.append(config["seed"])
        return None if config["seed"] == first[0] else 50.0

    def watch(source, standings):
        source._study.tell = full

    first = []

    with pytest.raises(InputError, match=r"search\.sqlite: cannot be read or written: database or disk is full"):
        search({"seed": Integers(0, 99), "train.eval_every": _EVERY}, 3, 2, quality=fails, watch=watch)
    assert len(search.launcher.started) == 2
    assert search.launcher.told == [(search.launcher.started[1], False)]


def test_a_pruned_folder_stays_so(tmp_path, base):
    space = SearchSpace(_SPACE, base, frozenset())
    point, folder = space.point({}), PointFolder(tmp_path)
    (tmp_path / "pruned.json").write_text('{"step": 100, "value": null}')
    assert stand(point, folder, Training(1)).phase is Phase.PRUNED
    with file_lock.hold(folder.job_lock):
        assert stand(point, folder, Training(1)).phase is Phase.RUNNING
    WorkDir(tmp_path).save_finish(RunResult(500, 500, 1.0))
    assert stand(point, folder, Training(1)).phase is Phase.DONE
