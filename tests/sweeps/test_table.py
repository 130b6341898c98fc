import pytest

from flaxformer_lite.config import overrides
from flaxformer_lite.sweeps.status import Phase, Standing
from flaxformer_lite.sweeps.suggesters import Listed
from flaxformer_lite.sweeps.table import Lines, LiveTable, Pace, format_table
from flaxformer_lite.sweeps.trial_dir import Progress
from flaxformer_lite.sweeps.trials import make_point

_NOTHING = Progress(0, "", None)


@pytest.fixture
def points(repository):
    base = overrides.read(str(repository / "configs/tiny.py"), [])  # 2,000 steps
    return [make_point({"seed": seed}, base, []) for seed in range(30)]


def _stand(points, **phases):
    standings = {point.name: Standing(Phase.NEW, _NOTHING) for point in points}
    for name, standing in phases.items():
        standings[points[int(name[1:])].name] = standing
    return standings


def test_a_row_for_each_point(points):
    standings = _stand(
        points[:4],
        p0=Standing(Phase.DONE, Progress(2000, "eval/exact_match", 99.5)),
        p1=Standing(Phase.RUNNING, Progress(1000, "train/loss", 1.25)),
        p2=Standing(Phase.FAILED, Progress(500, "eval/exact_match", None), "no number\nat all"),
    )
    rows = [line.split("  ") for line in format_table(Listed(points[:4]), standings, {points[1].name: 100.0}, 24)]
    assert [[cell.strip() for cell in row if cell.strip()] for row in rows] == [
        ["seed=0", "done", "step 2,000/2,000", "eval/exact_match 99.5"],
        ["seed=1", "running", "step 1,000/2,000", "train/loss 1.25", "2 min left"],
        ["seed=2", "failed", "step 500/2,000", "eval/exact_match not a number", "no number"],
        ["seed=3", "new"],
        ["4 points: 1 done, 1 failed, 1 running, 1 new"],
    ]


def test_a_small_terminal_shows_what_matters(points):
    standings = _stand(
        points,
        p29=Standing(Phase.RUNNING, _NOTHING),
        p7=Standing(Phase.FAILED, _NOTHING, "x"),
        p0=Standing(Phase.DONE, _NOTHING),
    )
    lines = format_table(Listed(points), standings, {}, 6)
    assert len(lines) == 6
    assert [line.split()[0] for line in lines[:-1]] == ["seed=1", "seed=2", "seed=3", "seed=7", "seed=29"]
    assert lines[-1] == "30 points: 1 done, 1 failed, 1 running, 27 new (25 not shown)"


def test_time_left_is_what_was_seen(points):
    pace, point = Pace(), points[0]

    def at(clock, step, phase=Phase.RUNNING):
        return pace.left(point, Standing(phase, Progress(step, "", None)), clock)

    assert at(0.0, 0) is None
    assert at(60.0, 10) is None  # what was compiled before does not count
    assert at(70.0, 110) == pytest.approx(189.0)  # 10 steps a second
    assert at(71.0, 110, Phase.INTERRUPTED) is None
    assert at(500.0, 1000) is None  # a run that goes on is measured anew
    assert at(501.0, 1500) == pytest.approx(1.0)


def test_in_a_file_each_event_is_a_line(points, capsys):
    watch, two = Lines(), Listed(points[:2])
    watch(two, _stand(points[:2]), False)
    for step, metric, value in ((0, "", None), (10, "train/loss", 2.0), (20, "eval/wer", 3.0), (30, "eval/wer", 3.0)):
        watch(two, _stand(points[:2], p1=Standing(Phase.RUNNING, Progress(step, metric, value))), False)
    for phase in (Phase.QUEUED, Phase.DONE):
        watch(two, _stand(points[:2], p1=Standing(phase, Progress(2000, "eval/wer", 3.0))), True)
    assert capsys.readouterr().err.splitlines() == [
        "seed=1: running",
        "seed=1: running step 20/2,000 eval/wer 3",
        "stopping: every run saves first …",
        "seed=1: done step 2,000/2,000 eval/wer 3",
    ]


def test_a_terminal_is_drawn_over(points, capsys, monkeypatch):
    monkeypatch.setattr("flaxformer_lite.sweeps.table._EVERY", 0.0)
    watch, three = LiveTable(), Listed(points[:3])
    for _ in range(2):
        watch(three, _stand(points[:3]), False)
    first, second = capsys.readouterr().err.split("\x1b[4F")
    assert first.removeprefix("\x1b[J") == second.removeprefix("\x1b[J")
