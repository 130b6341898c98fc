import errno
import json
import math
from pathlib import Path

import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from flaxformer_lite.errors import InputError
from flaxformer_lite.monitoring import plots
from flaxformer_lite.monitoring.metric_writer import MetricWriter


def _lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def _events(folder: Path) -> list:
    """All events of TensorBoard's files, in order: records of length, checksum, data, checksum."""
    events = []
    for path in sorted((folder / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            size = int.from_bytes(data[:8], "little")
            events.append(event_pb2.Event.FromString(data[12 : 12 + size]))
            data = data[16 + size :]
    return events


def _shape(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head.startswith(b"\x89PNG")
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")


def test_metrics_are_json_lines_and_events(tmp_path):
    writer = MetricWriter(tmp_path / "run")
    writer.write(3, {"train/loss": np.float32(1.5), "train/norm": math.nan})
    writer.write(7, {"eval/wer": 33})
    assert _lines(tmp_path / "run") == [
        {"step": 3, "train/loss": 1.5, "train/norm": None},
        {"step": 7, "eval/wer": 33.0},
    ]
    values = [(e.step, v.tag, v.simple_value) for e in _events(tmp_path / "run") for v in e.summary.value]
    assert values[0] == (3, "train/loss", 1.5)
    assert values[1][:2] == (3, "train/norm")
    assert values[2] == (7, "eval/wer", 33.0)
    writer.close()


def test_rewind_removes_later_steps(tmp_path, capsys):
    killed = MetricWriter(tmp_path)
    for step in (5, 10, 15):
        killed.write(step, {"train/loss": 1.0 / step})
        killed.write_samples(step, [("abc", "c b a", f"hypothesis\nof {step}"), ("x", "y", "samples of step 3")])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 16, "train/l')

    resumed = MetricWriter(tmp_path)
    resumed.rewind(10)
    assert [line["step"] for line in _lines(tmp_path)] == [5, 10]
    samples = (tmp_path / "samples.txt").read_text()
    assert "hypothesis of 10" in samples
    assert "hypothesis of 15" not in samples
    resumed.write(15, {"train/loss": 3.0})
    resumed.write_samples(15, [("abc", "c b a", "again")])
    assert [line["step"] for line in _lines(tmp_path)] == [5, 10, 15]
    assert "again" in (tmp_path / "samples.txt").read_text()
    starts = [e.step for e in _events(tmp_path) if e.session_log.status == event_pb2.SessionLog.START]
    assert starts == [0, 11]  # TensorBoard forgets steps from 11 on
    assert "again" in capsys.readouterr().err
    killed.close()
    resumed.close()


def test_rewind_keeps_an_edited_samples_file(tmp_path):
    """Case r04: users may edit samples.txt, which must not stop a run."""
    edited = b"samples of step abc\n  caf\xe9\nsamples of step 20\n  x\nsamples of step 1,000\n  y\n"
    (tmp_path / "samples.txt").write_bytes(edited)
    MetricWriter(tmp_path).rewind(20)
    assert (tmp_path / "samples.txt").read_bytes() == edited.partition(b"samples of step 1,000")[0]


@pytest.mark.parametrize("name", ["samples.txt", "metrics.jsonl"])
def test_a_directory_in_place_of_a_file_is_an_error(name, tmp_path):
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=rf"{name}: cannot be written \(Is a directory\)"):
        MetricWriter(tmp_path).rewind(0)


def test_rewind_without_files(tmp_path):
    MetricWriter(tmp_path).rewind(0)
    assert (tmp_path / "metrics.jsonl").read_text() == ""
    MetricWriter(tmp_path).draw_plots()
    assert not (tmp_path / "curves.png").exists()


def test_plots_of_few_and_of_many_points(tmp_path):
    writer = MetricWriter(tmp_path)
    writer.write(1, {"train/loss": 2.0})
    writer.draw_plots()
    one_panel = _shape(tmp_path / "curves.png")
    rng = np.random.default_rng(0)
    for step in range(2, 400):
        writer.write(step, {"train/loss": rng.normal(), "train/learning_rate": 1 / step, "train/norm": math.inf})
    writer.write(400, {"eval/loss": 1.0, "eval/wer": 3.0, "eval/per": 1.0})
    writer.draw_plots()
    writer.close()
    width, height = _shape(tmp_path / "curves.png")
    assert (width, height) == (3 * one_panel[0], 2 * one_panel[1])  # loss, wer, per; learning rate
    assert [path.name for path in tmp_path.glob("*.partial")] == []


def test_panels_combine_train_and_eval():
    lines = [
        {"step": 1, "train/rate": 0.1, "train/loss": 2.0},
        {"step": 2, "train/rate": None, "eval/wer": 9.0, "eval/loss": 3.0, "eval/wer/of_a_group": 7.0},
    ]
    assert list(plots._panels(lines).items()) == [
        ("loss", {"train": [(1, 2.0)], "eval": [(2, 3.0)]}),
        ("wer", {"eval": [(2, 9.0)]}),
        ("rate", {"train": [(1, 0.1)]}),
    ]


def test_running_mean_keeps_the_ends():
    np.testing.assert_allclose(plots._running_mean(np.array([1.0, 2, 3, 4, 9]), 3), [1.5, 2, 3, 16 / 3, 6.5])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_an_error(number, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(number, "No space left on device")

    writer = MetricWriter(tmp_path)
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(InputError, match=r"metrics\.jsonl: the disk is full"):
        writer.write(1, {"train/loss": 1.0})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_really_full_disk_is_an_error(tmp_path):
    writer = MetricWriter(tmp_path)
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"metrics\.jsonl: the disk is full"):
        writer.write(1, {"train/loss": 1.0})
