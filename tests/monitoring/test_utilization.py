"""MFU, peak memory and profiles of a run."""

import json

import flax.linen as nn
import jax
import numpy as np
import pytest

from flaxformer_lite.cli.main import main
from flaxformer_lite.models.encoder_decoder import make_model
from flaxformer_lite.monitoring import utilization
from flaxformer_lite.monitoring.chips import CHIPS, chip_of
from flaxformer_lite.monitoring.utilization import PeakTime
from flaxformer_lite.training import loop
from flaxformer_lite.training.setup import make_training
from flaxformer_lite.types import Batch, Tokens
from tests.micro_config import micro, use_devices


def batch(rows, source, target):
    side = [Tokens(*[np.ones((rows, length), np.int32)] * 3) for length in (source, target)]
    return Batch(*side, side[1].ids, np.ones((rows, target), np.float32))


def peak_time(changes, monkeypatch):
    """With a peak of one FLOP/s, seconds are FLOPs."""
    monkeypatch.setattr(utilization, "peak_flops", lambda dtype: 1.0)
    config = micro({"train.batch_size": 6, **changes})
    training = make_training(config, make_model(config, 12, 14))
    params = nn.meta.unbox(jax.eval_shape(training.init_state).params)
    return PeakTime(training.step.objective, params, (), config)


def step_by_hand(layers):
    """FLOPs of layers of width 16 with 24 hidden units: the products of 6 rows, 7 + 5 tokens, forward and backward."""
    width, hidden, rows, s, t = 16, 24, 6, 7, 5
    encoder = s * (4 * width * width + 2 * width * hidden) + 2 * s * s * width
    decoder = t * (6 * width * width + 2 * width * hidden) + s * 2 * width * width + 2 * (t * t + t * s) * width
    return 3 * 2 * rows * (layers * (encoder + decoder) + t * width * 14)


def test_flops_equal_the_count_by_hand(monkeypatch):
    assert peak_time({}, monkeypatch)(batch(6, 7, 5)) == step_by_hand(1)


@pytest.mark.parametrize(
    "changes",
    [{"model.remat": "full"}, {"model.scan_layers": True}, {"train.grad_accum_steps": 3}],
    ids=["rematerialized", "scanned", "accumulated"],
)
def test_how_a_step_is_computed_does_not_change_its_flops(changes, monkeypatch):
    """A process with half of the rows counts all of them."""
    layers = {"model.encoder.num_layers": 2, "model.decoder.num_layers": 2}
    assert peak_time(layers | changes, monkeypatch)(batch(3, 7, 5)) == step_by_hand(2)


def test_chips_are_found_by_device_kind():
    kinds = ("NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB", "TPU v5 lite", "TPU v5", "TPU v6 lite", "NVIDIA H200")
    assert [chip and chip.name for chip in map(chip_of, kinds)] == ["h100", "a100", "v5e", "v5p", "v6e", "h200"]
    assert chip_of("cpu") is None
    assert chip_of("NVIDIA H100 PCIe") is None
    assert utilization.peak_flops("float32") == 0
    assert utilization.peak_memory() >= 0


def test_a_run_reports_utilization_and_traces_steps(tmp_path, monkeypatch, capsys):
    use_devices(monkeypatch, 1)
    monkeypatch.setattr(utilization, "chip_of", lambda kind: CHIPS["h100"])
    monkeypatch.setattr(utilization, "peak_memory", lambda: 12345)
    monkeypatch.setattr("flaxformer_lite.monitoring.training_metrics.peak_memory", lambda: 12345)
    untested = {"eval.metrics": (), "eval.best_metric": "loss"}  # decoding is not compiled
    config = micro({"train.steps": 6, "train.log_every": 3, "train.eval_every": 6} | untested)
    assert loop.train(config, tmp_path, (2, 4)).exit_code == 0
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for line in (line for line in lines if "train/loss" in line):
        assert line["train/tokens_per_second_per_device"] == line["train/tokens_per_second"]
        assert 0 < line["train/mfu"] < 1
        assert 0 <= line["train/data_wait"] < 1
        assert line["train/peak_memory"] == 12345
    assert "tracing steps 2 to 4 …" in capsys.readouterr().err
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))


@pytest.mark.parametrize("steps", ["10", "4:2", "0:3", "a:b"])
def test_invalid_profile_steps(steps):
    assert main(["train", "--config=configs/tiny.py", "--workdir=/nowhere", f"--profile_steps={steps}"]) == 2
