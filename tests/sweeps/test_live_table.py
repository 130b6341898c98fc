import pytest

from flaxformer_lite.config import loading
from flaxformer_lite.sweeps.live_table import EventLog, LiveTable, TimeLeft, format_table
from flaxformer_lite.sweeps.suggester import FixedTrials
from flaxformer_lite.sweeps.trial_dir import TrialProgress
from flaxformer_lite.sweeps.trial_status import TrialState, TrialStatus
from flaxformer_lite.sweeps.trials import make_trial
from flaxformer_lite.system.console import configure_logging

_NO_PROGRESS = TrialProgress(0, "", None)


@pytest.fixture
def trials(repository):
    base = loading.read(str(repository / "configs/tiny.py"), [])  # 2,000 steps
    return [make_trial({"seed": seed}, base, []) for seed in range(30)]


def _statuses(trials, **states):
    statuses = {trial.name: TrialStatus(TrialState.NEW, _NO_PROGRESS) for trial in trials}
    for name, status in states.items():
        statuses[trials[int(name[1:])].name] = status
    return statuses


def test_one_row_per_trial(trials):
    statuses = _statuses(
        trials[:4],
        p0=TrialStatus(TrialState.DONE, TrialProgress(2000, "eval/exact_match", 99.5)),
        p1=TrialStatus(TrialState.RUNNING, TrialProgress(1000, "train/loss", 1.25)),
        p2=TrialStatus(
            TrialState.FAILED, TrialProgress(500, "eval/exact_match", None), "loss is not finite\nat step 500"
        ),
    )
    rows = [line.split("  ") for line in format_table(FixedTrials(trials[:4]), statuses, {trials[1].name: 100.0}, 24)]
    assert [[cell.strip() for cell in row if cell.strip()] for row in rows] == [
        ["seed=0", "done", "step 2,000/2,000", "eval/exact_match 99.5"],
        ["seed=1", "running", "step 1,000/2,000", "train/loss 1.25", "2 min left"],
        ["seed=2", "failed", "step 500/2,000", "eval/exact_match not finite", "loss is not finite"],
        ["seed=3", "new"],
        ["4 trials: 1 done, 1 failed, 1 running, 1 new"],
    ]


def test_a_small_terminal_prefers_active_and_failed_trials(trials):
    statuses = _statuses(
        trials,
        p29=TrialStatus(TrialState.RUNNING, _NO_PROGRESS),
        p7=TrialStatus(TrialState.FAILED, _NO_PROGRESS, "x"),
        p0=TrialStatus(TrialState.DONE, _NO_PROGRESS),
    )
    lines = format_table(FixedTrials(trials), statuses, {}, 6)
    assert len(lines) == 6
    assert [line.split()[0] for line in lines[:-1]] == ["seed=1", "seed=2", "seed=3", "seed=7", "seed=29"]
    assert lines[-1] == "30 trials: 1 done, 1 failed, 1 running, 27 new (25 not shown)"


def test_time_left_excludes_compilation(trials):
    time_left, trial = TimeLeft(), trials[0]

    def at(clock, step, state=TrialState.RUNNING):
        return time_left.update(trial, TrialStatus(state, TrialProgress(step, "", None)), clock)

    assert at(0.0, 0) is None
    assert at(60.0, 10) is None  # compilation is excluded
    assert at(70.0, 110) == pytest.approx(189.0)  # 10 steps per second
    assert at(71.0, 110, TrialState.INTERRUPTED) is None
    assert at(500.0, 1000) is None  # a resumed run is measured from its first step on
    assert at(501.0, 1500) == pytest.approx(1.0)


def test_each_event_is_logged_in_one_line(trials, capsys):
    configure_logging()
    display, two = EventLog(), FixedTrials(trials[:2])
    display(two, _statuses(trials[:2]), False)
    for step, metric, value in ((0, "", None), (10, "train/loss", 2.0), (20, "eval/wer", 3.0), (30, "eval/wer", 3.0)):
        display(
            two, _statuses(trials[:2], p1=TrialStatus(TrialState.RUNNING, TrialProgress(step, metric, value))), False
        )
    for state in (TrialState.QUEUED, TrialState.DONE):
        display(two, _statuses(trials[:2], p1=TrialStatus(state, TrialProgress(2000, "eval/wer", 3.0))), True)
    assert capsys.readouterr().err.splitlines() == [
        "seed=1: running",
        "seed=1: running step 20/2,000 eval/wer 3",
        "stopping: every run saves a checkpoint first …",
        "seed=1: done step 2,000/2,000 eval/wer 3",
    ]


def test_the_table_is_redrawn_in_place(trials, capsys, monkeypatch):
    monkeypatch.setattr("flaxformer_lite.sweeps.live_table._REDRAW_SECONDS", 0.0)
    display, three = LiveTable(), FixedTrials(trials[:3])
    for _ in range(2):
        display(three, _statuses(trials[:3]), False)
    first, second = capsys.readouterr().err.split("\x1b[4F")
    assert first.removeprefix("\x1b[J") == second.removeprefix("\x1b[J")
