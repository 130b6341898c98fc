import jax
import numpy as np
import pytest

import flaxformer_lite
from flaxformer_lite.cli.main import main
from tests.micro_config import micro, use_devices
from tests.work_dirs import make_folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A work directory with checkpoints of four steps, and their parameters."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    config = micro({"train.keep_latest": 4, "train.save_every": 5, "train.eval_every": 5})
    return folder, make_folder(folder, config, (5, 10, 15, 20))


def test_the_average_can_be_loaded(run, monkeypatch, capsys):
    use_devices(monkeypatch, 1)
    folder, params = run
    assert main(["average", f"--workdir={folder}", "--last=3"]) == 0
    assert "averaged the checkpoints of steps 10, 15, 20; use" in capsys.readouterr().out
    predictor = flaxformer_lite.load(folder, step="average")
    assert "the average of the checkpoints of steps 10, 15, 20" in capsys.readouterr().err
    expected = jax.tree.map(lambda *x: np.mean(np.float64(x), axis=0), *(params[step] for step in (10, 15, 20)))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), predictor.params, expected)
    assert flaxformer_lite.load(folder, step="latest").step == 20


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--last=5"], "--last=5: the last consecutive checkpoints are those of steps [5, 10, 15, 20] (config"),
        (["--last=0"], "--last=0: must be at least 1"),
        (["--last=many"], "invalid int value: 'many'"),
        ([], "the following arguments are required: --last"),
    ],
)
def test_errors_are_one_line(flags, message, run, capsys):
    assert main(["average", f"--workdir={run[0]}", *flags]) == 2
    captured = capsys.readouterr()
    assert message.format(run[0]) in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_a_directory_without_a_run_is_reported(tmp_path, capsys):
    assert main(["average", f"--workdir={tmp_path}", "--last=2"]) == 2
    assert f"{tmp_path}/config.json: there is no such file; " in capsys.readouterr().err
