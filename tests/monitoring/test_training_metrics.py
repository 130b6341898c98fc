from types import SimpleNamespace

import numpy as np
import pytest

from flaxformer_lite.monitoring import training_metrics
from flaxformer_lite.monitoring.metric_writer import MetricWriter, read_metrics
from flaxformer_lite.monitoring.training_metrics import Progress, Skipped, format_progress
from flaxformer_lite.monitoring.utilization import StepTiming, TokenCounts
from flaxformer_lite.train_step.objective import Sums
from flaxformer_lite.train_step.step import UpdateStats
from tests.micro_config import micro


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            (1200, 10_000, 1.2341, 1e-3, 15_312.0, 700.0),
            "step  1,200/10,000  loss 1.234  rate 1.0e-03  15,300 tokens/s  12 min left",
        ),
        ((7, 9, 12.0, 2.5e-5, 431.2, 89.4), "step 7/9  loss 12.000  rate 2.5e-05  431 tokens/s  89 s left"),
        (
            (1, 999_999, 0.5, 0.0, 1_234_567.0, 12_000.0),
            "step       1/999,999  loss 0.500  rate 0.0e+00  1,230,000 tokens/s  3 h 20 min left",
        ),
    ],
)
def test_progress_line(arguments, line):
    assert format_progress(*arguments) == line


def test_speed_and_time_left_exclude_compilation(tmp_path, monkeypatch, capsys):
    now, compiled = [0.0], [0.0]
    monkeypatch.setattr(training_metrics, "time", SimpleNamespace(monotonic=lambda: now[0]))
    writer = MetricWriter(tmp_path)
    config = micro({"train.steps": 30, "train.log_every": 1})
    each = Progress(config, lambda step: 0.1, writer, Skipped(0, 0), [0.0] * 4, lambda: compiled[0])
    for step, seconds, compile_seconds in ((1, 60, 58), (2, 64, 58)):
        each.add(
            step,
            Sums(*map(np.float32, (2, 1, 4, 2))),
            UpdateStats(*map(np.float32, (1, 1, 1))),
            StepTiming(),
            TokenCounts(6, 8),
        )
        now[0], compiled[0] = seconds, compile_seconds
        each.catch_up()
    writer.close()
    written = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["train/tokens_per_second"] for line in written] == [2, 1]
    assert [line["train/padding"] for line in written] == [25, 25]
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("tokens/s  ")[1] for line in lines] == ["58 s left", "2 min left"]
