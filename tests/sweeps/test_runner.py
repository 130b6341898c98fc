"""Sweeps whose fake jobs end after a few polls with the files that training would write."""

import contextlib
import json
import os
import signal

import pytest

from flaxformer_lite.checkpoints.work_dir import RunResult, WorkDir
from flaxformer_lite.config import loading
from flaxformer_lite.errors import InputError
from flaxformer_lite.sweeps import runner
from flaxformer_lite.sweeps.resources import JobResources
from flaxformer_lite.sweeps.suggester import FixedTrials
from flaxformer_lite.sweeps.sweep_dir import SweepDir
from flaxformer_lite.sweeps.trial_dir import JobFailure, Submission, TrialDir
from flaxformer_lite.sweeps.trial_status import TrialState, read_status
from flaxformer_lite.sweeps.trials import make_trial
from flaxformer_lite.system import file_lock


class FakeLauncher:
    """Jobs that run for ``polls`` calls of ``is_over`` and then end by calling ``ends``."""

    name = "fake"
    poll_seconds = 0.0
    polls = 4

    def __init__(self, parallel, ends):
        self.slots = [JobResources((i,)) for i in range(parallel)]
        self.ends = ends  # by seed
        self.started, self.stopped, self.max_active = [], [], 0
        self.jobs = {}

    def submit(self, job):
        seed = job.config["seed"]
        self.started.append(seed)
        self.jobs[str(seed)] = [job, 0]
        taken = [other.resources.cores for other, polls in self.jobs.values() if polls < self.polls]
        assert len(set(taken)) == len(taken), "two jobs share a slot"
        self.max_active = max(self.max_active, len(taken))
        return str(seed)

    def is_over(self, submission):
        if submission.id not in self.jobs:
            return True
        entry = self.jobs[submission.id]
        entry[1] += 1
        if entry[1] == self.polls:
            self.ends(int(submission.id), entry[0].path)
        return entry[1] >= self.polls

    def stop(self, folder, submission, kill):
        self.stopped.append((submission.id, kill))
        self.jobs[submission.id][1] = self.polls
        return True


def finishes(seed, folder):
    begins(seed, folder)
    WorkDir(folder).save_finish(RunResult(12, 8, seed / 2))


def begins(seed, folder):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")


@pytest.fixture
def trials(repository):
    base = loading.read(str(repository / "configs/tiny.py"), [])
    return [make_trial({"seed": seed}, base, []) for seed in range(5)]


@pytest.fixture
def sweep(tmp_path, trials):
    """Runs all trials; returns their final states, the signal, and the launcher."""

    def sweep(ends=finishes, parallel=2, display=lambda suggester, statuses, stopping: None, launcher=None):
        launcher = launcher or FakeLauncher(parallel, ends)
        jobs = runner.JobManager(SweepDir(tmp_path), launcher)
        statuses, stop = runner.run_trials(FixedTrials(trials), jobs, display)
        return [statuses[trial.name].state for trial in trials], stop, launcher

    return sweep


def test_each_trial_gets_one_job_and_at_most_parallel_run_at_once(sweep):
    for parallel in (1, 2, 3, 9):
        states, stop, launcher = sweep(parallel=parallel)
        if parallel == 1:
            assert launcher.started == [0, 1, 2, 3, 4]
            assert launcher.max_active == 1
        else:
            assert launcher.started == [], "finished trials are not run again"
        assert (set(states), stop) == ({TrialState.DONE}, 0)


def test_jobs_run_concurrently_in_separate_slots(sweep):
    assert sweep(parallel=3)[2].max_active == 3


def test_a_failed_trial_is_retried_by_the_next_call(sweep, tmp_path, trials):
    def ends(seed, folder):
        if seed == 1:
            begins(seed, folder)
            TrialDir(folder).failure.save(JobFailure(2, "the loss is no number"))
        elif seed != 3:  # which is killed before it writes anything
            finishes(seed, folder)

    states, stop, launcher = sweep(ends)
    assert states == [TrialState.DONE, TrialState.FAILED, TrialState.DONE, TrialState.FAILED, TrialState.DONE]
    assert (stop, launcher.started) == (0, [0, 1, 2, 3, 4])
    failed = read_status(trials[1], SweepDir(tmp_path).trial_dir(trials[1]), launcher)
    assert failed.message == "the loss is no number"
    states, _, launcher = sweep()
    assert set(states) == {TrialState.DONE}
    assert launcher.started == [1, 3]


def test_a_killed_job_has_failed_and_resumes_in_the_next_call(sweep):
    states, _, launcher = sweep(lambda seed, folder: (begins if seed == 2 else finishes)(seed, folder))
    assert states == [TrialState.DONE, TrialState.DONE, TrialState.FAILED, TrialState.DONE, TrialState.DONE]
    assert launcher.started == [0, 1, 2, 3, 4], "a trial gets one job per call"
    assert sweep()[2].started == [2]


def test_a_running_job_of_an_earlier_call_is_awaited(sweep, tmp_path, trials):
    folder = SweepDir(tmp_path).trial_dir(trials[0])
    begins(0, folder.path)
    folder.submission.save(Submission("fake", "of an earlier call", 1))
    polls = 0
    with contextlib.ExitStack() as stack:
        assert stack.enter_context(file_lock.hold(folder.job_lock)) is None

        def display(suggester, statuses, stopping):
            nonlocal polls
            polls += 1
            if polls == 12:
                assert statuses[trials[0].name].state is TrialState.RUNNING
                finishes(0, folder.path)
                stack.close()

        states, _, launcher = sweep(display=display)
    assert set(states) == {TrialState.DONE}
    assert launcher.started == [1, 2, 3, 4]
    assert launcher.max_active == 1, "the job of the earlier call occupies a slot"


def test_a_trial_whose_earlier_job_ended_early_is_resumed(sweep, tmp_path, trials):
    folder = SweepDir(tmp_path).trial_dir(trials[0])
    begins(0, folder.path)
    with contextlib.ExitStack() as stack:
        stack.enter_context(file_lock.hold(folder.job_lock))
        states, _, launcher = sweep(
            display=lambda suggester, statuses, stopping: stack.close() if len(statuses) == 5 else None
        )
    assert set(states) == {TrialState.DONE}
    assert sorted(launcher.started) == [0, 1, 2, 3, 4]


def test_a_signal_stops_the_jobs_and_the_sweep(sweep):
    polls, before = 0, signal.getsignal(signal.SIGINT)

    def display(suggester, statuses, stopping):
        nonlocal polls
        polls += 1
        if polls == 3:
            os.kill(os.getpid(), signal.SIGINT)

    states, stop, launcher = sweep(display=display)
    assert stop == signal.SIGINT
    assert (launcher.started, launcher.stopped) == ([0, 1], [("0", False), ("1", False)])
    assert TrialState.FAILED not in states
    assert signal.getsignal(signal.SIGINT) is before
    assert sweep()[2].started == [0, 1, 2, 3, 4]


def test_a_job_that_ignores_signals_is_killed_at_the_third(sweep):
    launcher = FakeLauncher(2, finishes)
    requests = []

    def stop(folder, submission, kill):
        requests.append((submission.id, kill))
        if kill:
            launcher.jobs[submission.id][1] = launcher.polls
        return True

    launcher.stop, launcher.polls, polls = stop, 1000, 0

    def display(suggester, statuses, stopping):
        nonlocal polls
        polls += 1
        if polls in (3, 6, 9):
            os.kill(os.getpid(), signal.SIGTERM)

    assert sweep(display=display, launcher=launcher)[1] == signal.SIGTERM
    assert requests == [(id, kill) for kill in (False, False, True) for id in ("0", "1")]


def test_other_jobs_are_stopped_where_one_cannot_be_started(sweep):
    launcher = FakeLauncher(2, finishes)
    submit = launcher.submit

    def refuse(job):
        if job.config["seed"] == 1:
            raise InputError("the disk is full")
        return submit(job)

    launcher.submit = refuse
    with pytest.raises(InputError, match="the disk is full"):
        sweep(launcher=launcher)
    assert launcher.stopped == [("0", False)]


def test_another_sweep_or_run_in_the_directory_is_an_error(tmp_path, trials, repository):
    folder = SweepDir(tmp_path)
    WorkDir(folder.trial_dir(trials[0]).path).claim(trials[0].config)
    folder.check_trials(trials)
    folder.check_trials([*trials[1:], trials[0]])  # in another order, or with more trials, it is the same sweep
    with pytest.raises(
        InputError, match=r"contains another sweep: seed=0__\w+ is not among these trials; choose another"
    ):
        folder.check_trials(trials[1:])
    base = loading.read(str(repository / "configs/tiny.py"), ["--config.optim.beta1=0.8"])
    with pytest.raises(InputError, match=r"(?s)seed=0__.*\(stored → here\):\n  optim\.beta1: 0\.9 → 0\.8$"):
        folder.check_trials([make_trial({"seed": 0}, base, [])])
    with pytest.raises(InputError, match="is the work directory of a run"):
        SweepDir(folder.trial_dir(trials[0]).path).check_trials(trials)


def test_one_process_runs_a_sweep_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(file_lock, "_PATIENCE", 0.0)
    folder = SweepDir(tmp_path / "a")
    locked = pytest.raises(InputError, match=rf"process {os.getpid()} on .* runs this sweep already")
    with folder.lock(), locked, folder.lock():
        pytest.fail("the lock is held twice")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file: cannot be written"), SweepDir(tmp_path / "file").lock():
        pytest.fail("the directory cannot exist")


def test_progress_is_the_last_recorded_value(tmp_path):
    folder = TrialDir(tmp_path)
    assert folder.progress("eval/wer") == (0, "", None)
    lines = [{"step": 5, "train/loss": 2.0}, {"step": 8, "eval/wer": None}, {"step": 10, "train/loss": 1.0}]
    text = "\n".join(map(json.dumps, lines))
    (tmp_path / "metrics.jsonl").write_text(text + '\n{"step": 15, "trai')  # still being written
    assert folder.progress("eval/wer") == (10, "eval/wer", None)
    assert folder.progress("eval/per") == (10, "train/loss", 1.0)
    (tmp_path / "metrics.jsonl").write_text("x" * 2**19 + "\n" + text)
    assert folder.progress("eval/wer").step == 10
