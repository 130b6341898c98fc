"""Training runs that are killed at chosen moments, and their records."""

import json
from collections import defaultdict

import jax
import numpy as np
import pytest

from flaxformer_lite.checkpoints.checkpoint_manager import Checkpoints
from flaxformer_lite.inference import loaded_model, predict
from flaxformer_lite.sharding.mesh_layout import MeshLayout
from flaxformer_lite.sharding.pmap_layout import PmapLayout
from flaxformer_lite.training import loop, setup, teachers
from flaxformer_lite.training.evaluator import Evaluator
from tests.micro_config import micro
from tests.toy_model import Pairs

# Metrics that depend on the clock and on the devices.
MEASURED = (
    *("train/tokens_per_second", "train/tokens_per_second_per_device", "train/data_wait"),
    *("train/mfu", "train/peak_memory"),
)


class Killed(BaseException):
    """Ends a run abruptly within one process."""


class PlainEvaluator(Evaluator):
    """Evaluates without compiling anything: by the sum of all parameters."""

    def __init__(self, config, data, layout, writer):
        self._writer = writer

    def __call__(self, step, params):
        value = float(sum(np.abs(leaf).sum() for leaf in jax.tree.leaves(jax.device_get(params))))
        self._writer.write(step, {"eval/exact_match": value})
        self._writer.write_samples(step, [("abc", "cba", repr(value))])
        return value


class Brief(Pairs):
    """The model of these runs; the loop does not depend on it."""

    max_supported_length = 99


def make_brief(config, source_size, target_size):
    del source_size, target_size  # its tables are large enough
    return Brief(width=6 * config.model.encoder.num_layers)


_STEPS, _STATES = {}, {}  # one compiled step and one initial state for many runs


class Runs:
    """Starts runs and records the checkpoints that each of them saves."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        self.saved = defaultdict(list)
        self._patch = monkeypatch
        for layout in (MeshLayout, PmapLayout):
            self._compile_and_init_once(layout)
        monkeypatch.setattr(loop, "Evaluator", PlainEvaluator)
        monkeypatch.setattr(setup, "make_model", make_brief)
        for module in (loaded_model, predict, teachers):
            monkeypatch.setattr(module, "make_decoding_model", make_brief)
        save = Checkpoints.save

        def save_and_remember(checkpoints, saved):
            self.saved[checkpoints._folder.parent.name].append(jax.device_get(saved))
            save(checkpoints, saved)

        monkeypatch.setattr(Checkpoints, "save", save_and_remember)

    def _compile_and_init_once(self, layout):
        compile_step, init = layout.compile, layout.init

        def init_once(self_, make_state):
            if self._program not in _STATES:
                _STATES[self._program] = jax.device_get(self_.to_global(init(self_, make_state)))
            places = jax.tree.map(lambda array: array.sharding, self_.shapes(make_state))
            return self_.to_layout(jax.device_put(_STATES[self._program], places))

        self._patch.setattr(layout, "compile", lambda *given: _STEPS.setdefault(self._program, compile_step(*given)))
        self._patch.setattr(layout, "init", init_once)

    def start(self, name, config=None):
        config = config or micro()
        changes_program = ("steps", "z_loss", "r_drop", "distill", "ema_decay")
        train = tuple(getattr(config.train, name) for name in changes_program)
        where = (config.mesh, config.parallel, jax.device_count())
        self._program = (config.seed, config.data, config.model, config.optim, train, where, setup.make_model)
        return loop.train(config, self.folder / name).exit_code

    def kill_at(self, name, place, at, config=None):
        """Starts a run and raises in the method ``place`` when it is called with step ``at``."""
        owner, method = place
        original = getattr(owner, method)

        def fail(self, step, *rest):
            if number_of(step) == at:
                raise Killed
            return original(self, step, *rest)

        with self._patch.context() as patch:
            patch.setattr(owner, method, fail)
            with pytest.raises(Killed):
                self.start(name, config)

    def record(self, name):
        """Metrics, samples and last checkpoint of a run, without values that depend on the clock."""
        lines = [json.loads(line) for line in (self.folder / name / "metrics.jsonl").read_text().splitlines()]
        for line in lines:
            for measured in MEASURED:
                line.pop(measured, None)
        return lines, (self.folder / name / "samples.txt").read_text(), self.saved[name][-1]


def number_of(step):
    """The step of a checkpoint, or the step itself."""
    return step if isinstance(step, int) else int(step.state.step)


UPDATE, EVALUATE, SAVE = (loop.Progress, "add"), (PlainEvaluator, "__call__"), (Checkpoints, "save")


def assert_equal_records(left, right):
    """Asserts that two records are equal to the last bit."""
    assert left[:2] == right[:2]
    assert left[2][1:] == right[2][1:]  # data position, history and sums
    jax.tree.map(np.testing.assert_array_equal, left[2].state, right[2].state)
