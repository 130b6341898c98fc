"""Sweeps whose jobs take a few looks and write what training would."""

import contextlib
import json
import os
import signal

import pytest

from flaxformer_lite.checkpoints.work_dir import RunResult, WorkDir
from flaxformer_lite.config import overrides
from flaxformer_lite.errors import InputError
from flaxformer_lite.sweeps import run as sweeps
from flaxformer_lite.sweeps.resources import Share
from flaxformer_lite.sweeps.status import Phase, stand
from flaxformer_lite.sweeps.suggesters import Listed
from flaxformer_lite.sweeps.sweep_dir import SweepFolder
from flaxformer_lite.sweeps.trial_dir import Failure, PointFolder, Ticket
from flaxformer_lite.sweeps.trials import make_point
from flaxformer_lite.system import file_lock


class Fake:
    """Jobs that are at work from the first look on, for as many looks as ``looks`` says, and then end as ``ends`` does.

    A look is a question whether a job is over.
    """

    name = "fake"
    patience = 0.0
    looks = 4

    def __init__(self, parallel, ends):
        self.shares = [Share((i,)) for i in range(parallel)]
        self.ends = ends  # by seed
        self.started, self.told, self.most = [], [], 0
        self.jobs = {}

    def submit(self, job):
        seed = job.config["seed"]
        self.started.append(seed)
        self.jobs[str(seed)] = [job, 0]
        taken = [other.share.cores for other, looked in self.jobs.values() if looked < self.looks]
        assert len(set(taken)) == len(taken), "two jobs have one share"
        self.most = max(self.most, len(taken))
        return str(seed)

    def over(self, ticket):
        if ticket.id not in self.jobs:
            return True
        entry = self.jobs[ticket.id]
        entry[1] += 1
        if entry[1] == self.looks:
            self.ends(int(ticket.id), entry[0].folder)
        return entry[1] >= self.looks

    def stop(self, folder, ticket, kill):
        self.told.append((ticket.id, kill))
        self.jobs[ticket.id][1] = self.looks
        return True


def finishes(seed, folder):
    begins(seed, folder)
    WorkDir(folder).save_finish(RunResult(12, 8, seed / 2))


def begins(seed, folder):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")


@pytest.fixture
def points(repository):
    base = overrides.read(str(repository / "configs/tiny.py"), [])
    return [make_point({"seed": seed}, base, []) for seed in range(5)]


@pytest.fixture
def sweep(tmp_path, points):
    """Runs all points; gives the phases in the end, the signal, and the launcher."""

    def sweep(ends=finishes, parallel=2, watch=lambda source, standings, stopping: None, launcher=None):
        launcher = launcher or Fake(parallel, ends)
        jobs = sweeps.Jobs(SweepFolder(tmp_path), launcher)
        standings, stop = sweeps.run(Listed(points), jobs, watch)
        return [standings[point.name].phase for point in points], stop, launcher

    return sweep


def test_every_point_has_a_job_and_no_more_than_said_at_once(sweep):
    for parallel in (1, 2, 3, 9):
        phases, stop, launcher = sweep(parallel=parallel)
        if parallel == 1:
            assert launcher.started == [0, 1, 2, 3, 4]
            assert launcher.most == 1
        else:
            assert launcher.started == [], "what is done is not done again"
        assert (set(phases), stop) == ({Phase.DONE}, 0)


def test_jobs_run_side_by_side_with_a_share_each(sweep):
    assert sweep(parallel=3)[2].most == 3


def test_a_failure_stops_nobody_and_is_tried_again_by_the_next_call(sweep, tmp_path, points):
    def ends(seed, folder):
        if seed == 1:
            begins(seed, folder)
            PointFolder(folder).save_failure(Failure(2, "the loss is no number"))
        elif seed != 3:  # which is killed before it writes anything
            finishes(seed, folder)

    phases, stop, launcher = sweep(ends)
    assert phases == [Phase.DONE, Phase.FAILED, Phase.DONE, Phase.FAILED, Phase.DONE]
    assert (stop, launcher.started) == (0, [0, 1, 2, 3, 4])
    failed = stand(points[1], SweepFolder(tmp_path).of(points[1]), launcher)
    assert failed.said == "the loss is no number"
    phases, _, launcher = sweep()
    assert set(phases) == {Phase.DONE}
    assert launcher.started == [1, 3]


def test_a_job_that_is_killed_halfway_has_failed_for_now_and_goes_on_later(sweep):
    phases, _, launcher = sweep(lambda seed, folder: (begins if seed == 2 else finishes)(seed, folder))
    assert phases == [Phase.DONE, Phase.DONE, Phase.FAILED, Phase.DONE, Phase.DONE]
    assert launcher.started == [0, 1, 2, 3, 4], "it is not tried twice in one call"
    assert sweep()[2].started == [2]


def test_a_job_of_an_earlier_call_is_not_joined_by_another(sweep, tmp_path, points):
    """The second call finds the first one's job at work: it waits, and gives the rest to others."""
    folder = SweepFolder(tmp_path).of(points[0])
    begins(0, folder.path)
    folder.save_ticket(Ticket("fake", "of an earlier call", 1))
    looks = 0
    with contextlib.ExitStack() as stack:
        assert stack.enter_context(file_lock.hold(folder.job_lock)) is None

        def watch(source, standings, stopping):
            nonlocal looks
            looks += 1
            if looks == 12:
                assert standings[points[0].name].phase is Phase.RUNNING
                finishes(0, folder.path)
                stack.close()

        phases, _, launcher = sweep(watch=watch)
    assert set(phases) == {Phase.DONE}
    assert launcher.started == [1, 2, 3, 4]
    assert launcher.most == 1, "the other one counts"


def test_a_job_of_an_earlier_call_that_ends_early_is_gone_on_with(sweep, tmp_path, points):
    folder = SweepFolder(tmp_path).of(points[0])
    begins(0, folder.path)
    with contextlib.ExitStack() as stack:
        stack.enter_context(file_lock.hold(folder.job_lock))
        phases, _, launcher = sweep(
            watch=lambda source, standings, stopping: stack.close() if len(standings) == 5 else None
        )
    assert set(phases) == {Phase.DONE}
    assert sorted(launcher.started) == [0, 1, 2, 3, 4]


def test_a_signal_stops_the_jobs_and_starts_no_more(sweep):
    looks, before = 0, signal.getsignal(signal.SIGINT)

    def watch(source, standings, stopping):
        nonlocal looks
        looks += 1
        if looks == 3:
            os.kill(os.getpid(), signal.SIGINT)

    phases, stop, launcher = sweep(watch=watch)
    assert stop == signal.SIGINT
    assert (launcher.started, launcher.told) == ([0, 1], [("0", False), ("1", False)])
    assert Phase.FAILED not in phases
    assert signal.getsignal(signal.SIGINT) is before
    assert sweep()[2].started == [0, 1, 2, 3, 4]


def test_who_does_not_hear_is_told_again_and_killed_at_last(sweep):
    launcher = Fake(2, finishes)
    deaf = []

    def stop(folder, ticket, kill):
        deaf.append((ticket.id, kill))
        if kill:
            launcher.jobs[ticket.id][1] = launcher.looks
        return True

    launcher.stop, launcher.looks, looks = stop, 1000, 0

    def watch(source, standings, stopping):
        nonlocal looks
        looks += 1
        if looks in (3, 6, 9):
            os.kill(os.getpid(), signal.SIGTERM)

    assert sweep(watch=watch, launcher=launcher)[1] == signal.SIGTERM
    assert deaf == [(id, kill) for kill in (False, False, True) for id in ("0", "1")]


def test_where_a_job_cannot_be_started_the_others_are_stopped(sweep):
    launcher = Fake(2, finishes)
    submit = launcher.submit

    def refuse(job):
        if job.config["seed"] == 1:
            raise InputError("the disk is full")
        return submit(job)

    launcher.submit = refuse
    with pytest.raises(InputError, match="the disk is full"):
        sweep(launcher=launcher)
    assert launcher.told == [("0", False)]


def test_another_sweep_or_a_run_in_the_folder_is_named(tmp_path, points, repository):
    folder = SweepFolder(tmp_path)
    WorkDir(folder.of(points[0]).path).claim(points[0].config)
    folder.check(points)
    folder.check([*points[1:], points[0]])  # in another order, or with more points, it is the same sweep
    with pytest.raises(InputError, match=r"holds another sweep: seed=0__\w+ is no point of this one\nname another"):
        folder.check(points[1:])
    base = overrides.read(str(repository / "configs/tiny.py"), ["--config.optim.beta1=0.8"])
    with pytest.raises(InputError, match=r"(?s)seed=0__.*\(there → here\):\n  optim\.beta1: 0\.9 → 0\.8\nname another"):
        folder.check([make_point({"seed": 0}, base, [])])
    with pytest.raises(InputError, match="is the work folder of a run"):
        SweepFolder(folder.of(points[0]).path).check(points)


def test_two_sweeps_do_not_share_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(file_lock, "_PATIENCE", 0.0)
    folder = SweepFolder(tmp_path / "a")
    said = pytest.raises(InputError, match=rf"process {os.getpid()} on .* runs this sweep already")
    with folder.alone(), said, folder.alone():
        pytest.fail("it is not alone")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file: cannot be written"), SweepFolder(tmp_path / "file").alone():
        pytest.fail("there is no folder")


def test_progress_is_the_last_that_was_written(tmp_path):
    folder = PointFolder(tmp_path)
    assert folder.progress("eval/wer") == (0, "", None)
    lines = [{"step": 5, "train/loss": 2.0}, {"step": 8, "eval/wer": None}, {"step": 10, "train/loss": 1.0}]
    text = "\n".join(map(json.dumps, lines))
    (tmp_path / "metrics.jsonl").write_text(text + '\n{"step": 15, "trai')  # still being written
    assert folder.progress("eval/wer") == (10, "eval/wer", None)
    assert folder.progress("eval/per") == (10, "train/loss", 1.0)
    (tmp_path / "metrics.jsonl").write_text("x" * 2**19 + "\n" + text)
    assert folder.progress("eval/wer").step == 10
