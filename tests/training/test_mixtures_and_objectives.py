"""Whole runs on a mixture of supervised and self-supervised tasks: training, evaluation, and fine-tuning from it."""

import json

import pytest

from flaxformer_lite.cli.main import main
from flaxformer_lite.training.loop import train
from tests.micro_config import micro, use_devices

_TOKENS = {f"data.{side}_vocabulary.num_sentinels": 8 for side in ("source", "target")}
_MIXTURE = {
    "pairs": {"rate": 2.0, "source_prefix": "a"},
    "text": {"objective": "span_corruption", "reverse": {"examples": 100}, "overlength": "split"},
}
_CHANGES = {"data.mixture": _MIXTURE, "data.share_vocabulary": True, "train.steps": 6, **_TOKENS}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run on the mixture."""
    folder = tmp_path_factory.mktemp("mixture") / "run"
    with pytest.MonkeyPatch.context() as patch:
        use_devices(patch, 1)
        assert train(micro({**_CHANGES, "eval.best_metric": "pairs/exact_match"}), folder).step == 6
    return folder


def test_each_task_is_evaluated(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    metrics = next(line for line in lines if "eval/loss" in line)
    names = {name.removeprefix("eval/") for name in metrics if name.startswith("eval/")}
    common = {"loss", "token_accuracy"}
    of_tasks = {f"{task}/{name}" for task in _MIXTURE for name in common}
    assert names == {*common, *of_tasks, "exact_match", "pairs/exact_match"}
    assert metrics["eval/loss"] == pytest.approx((metrics["eval/pairs/loss"] + metrics["eval/text/loss"]) / 2)
    assert 0 <= lines[-2]["train/padding"] < 100


def test_the_command_evaluate_measures_each_task(run, capsys):
    assert main(["evaluate", f"--workdir={run}", "--split=test", "--json", "--max_examples=8"]) == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    assert {"loss", "pairs/exact_match", "text/loss"} <= metrics.keys()
    assert "text/exact_match" not in metrics


def test_fine_tuning_starts_from_it(run, tmp_path, monkeypatch):
    use_devices(monkeypatch, 1)
    saved = {
        f"data.{side}_vocabulary.{key}": value
        for side in ("source", "target")
        for key, value in {"kind": "saved", "model": str(run / f"{side}.vocabulary.json")}.items()
    }
    changes = {"data.share_vocabulary": True, "train.init_from": str(run), "train.steps": 4, **saved}
    assert train(micro(changes), tmp_path / "tuned").step == 4
