"""A work directory that version 0.1.0 wrote still decodes and resumes.

``work_dir_0_1_0`` has trained the run card tiny, made smaller, for 60 steps; of its checkpoints, step 40 is kept.
"""

import json
import shutil
from pathlib import Path

import pytest

from flaxformer_lite.checkpoints.work_dir import WorkDir
from flaxformer_lite.cli.main import main
from flaxformer_lite.config import migrations
from tests.micro_config import use_devices

_METRICS = ("train/loss", "train/token_accuracy", "train/learning_rate", "train/gradient_norm", "eval/loss")


@pytest.fixture
def work_dir(tmp_path, monkeypatch):
    use_devices(monkeypatch, 1)
    return shutil.copytree(Path(__file__).parent / "work_dir_0_1_0", tmp_path / "run")


def metrics(work_dir, after):
    lines = [json.loads(line) for line in (work_dir / "metrics.jsonl").read_text().splitlines()]
    return [
        (line["step"], {name: line[name] for name in _METRICS if name in line})
        for line in lines
        if line["step"] > after
    ]


def test_it_decodes_as_before(work_dir, tmp_path, capsys):
    (tmp_path / "lines").write_text("abc\nhij\njihgfedcba\ncafe\n")
    assert main(["decode", f"--workdir={work_dir}", f"--input={tmp_path}/lines"]) == 0
    assert capsys.readouterr().out == "ccc\na\neeeeeee\ngg\n"
    assert WorkDir(work_dir).finish() == (60, 40, 10.0)


@pytest.mark.slow
def test_it_resumes_as_before(work_dir):
    expected = metrics(work_dir, after=40)
    (work_dir / "finished.json").unlink()
    assert main(["train", f"--config={work_dir}/config.json", f"--workdir={work_dir}"]) == 0
    resumed = metrics(work_dir, after=40)
    assert [step for step, _ in resumed] == [step for step, _ in expected] == [45, 50, 55, 60, 60]
    for (_, new), (_, old) in zip(resumed, expected, strict=True):
        assert new == pytest.approx(old, rel=1e-3)  # another CPU, and less optimization by the compiler
    assert WorkDir(work_dir).finish() == (60, 40, 10.0)
    assert json.loads((work_dir / "config.json").read_text())["version"] == migrations.VERSION
    assert [start["step"] for start in WorkDir(work_dir).starts()] == [0, 40]
