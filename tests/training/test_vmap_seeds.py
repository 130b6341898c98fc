"""Seeds that train in one program: each is the run that it would be by itself."""

import json
import signal
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest

from flaxformer_lite.checkpoints.saving import Checkpoints
from flaxformer_lite.checkpoints.work_dir import WorkDir
from flaxformer_lite.cli import main as cli
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.errors import InputError
from flaxformer_lite.models.build import make_model
from flaxformer_lite.models.layers import Dropout
from flaxformer_lite.monitoring.plots import DEVIATION
from flaxformer_lite.sharding import layout as sharding_layout
from flaxformer_lite.sharding.layout import MeshLayout, SeedsLayout
from flaxformer_lite.training import loop, run_state, vmap_seeds
from flaxformer_lite.training.setup import make_training
from flaxformer_lite.types import Batch, Tokens
from tests.micro import flags, micro, use_devices
from tests.models.contract import sentences
from tests.pairs import SOURCE_SIZE, TARGET_SIZE, Pairs
from tests.runs import MEASURED, Killed, PlainEvaluator, number_of

FIRST, COUNT = 5, 2
TOGETHER = {"seed": FIRST, "train.vmap_seeds": COUNT, "data.num_buckets": 2}
_SEEDS = range(FIRST, FIRST + COUNT)


class Little(nn.Module):
    """``Pairs`` with dropout that does not mind padding."""

    reach = 99

    @nn.compact
    def __call__(self, source: Tokens, target_in: Tokens, train: bool) -> Any:
        return Dropout(0.2)(Pairs()(source, target_in, False), train)


class Plain(PlainEvaluator):
    """Evaluates by the sum of all parameters."""

    def of_seed(self, config, data, report):
        return type(self)(config, data, None, report)


_STEPS = {}  # one compiled step for many runs


class Runs:
    """Starts runs in folders of ``tmp_path``; remembers the last state that was saved in each."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.saved = folder, {}
        for module in (loop, vmap_seeds):
            monkeypatch.setattr(module, "Evaluator", Plain)
        monkeypatch.setattr(run_state, "make_model", lambda *_: Little())
        monkeypatch.setattr(vmap_seeds.Means, "curves", lambda self: None)  # drawing takes longer than training
        save, compile_step = Checkpoints.save, SeedsLayout.compile
        once = lambda *given: _STEPS.setdefault((jax.device_count(), len(given[2])), compile_step(*given))  # noqa: E731
        monkeypatch.setattr(SeedsLayout, "compile", once)

        def save_and_remember(checkpoints, saved):
            self.saved[checkpoints._folder.parent] = jax.device_get(saved)
            save(checkpoints, saved)

        monkeypatch.setattr(Checkpoints, "save", save_and_remember)

    def start(self, name: str, config: Config) -> int:
        return vmap_seeds.start(config, self.folder / name)

    def lines(self, name):
        """What metrics.jsonl says that does not depend on the clock."""
        lines = [json.loads(line) for line in (self.folder / name / "metrics.jsonl").read_text().splitlines()]
        measured = {name + suffix for name in MEASURED for suffix in ("", DEVIATION)}
        return [{key: value for key, value in line.items() if key not in measured} for line in lines]

    def record(self, name):
        """All that a folder of several seeds holds."""
        folders = [f"{name}/seed_{seed}" for seed in _SEEDS]
        samples = [(self.folder / of_one / "samples.txt").read_text() for of_one in folders]
        saved = [self.saved[self.folder / of_one] for of_one in folders]
        return [self.lines(of_one) for of_one in (name, *folders)], samples, saved


@pytest.fixture
def runs(tmp_path, monkeypatch):
    use_devices(monkeypatch, 1)
    return Runs(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The record of seeds that nothing disturbed."""
    with pytest.MonkeyPatch.context() as patch:
        use_devices(patch, 1)
        runs = Runs(tmp_path_factory.mktemp("seeds"), patch)
        assert runs.start("whole", micro(TOGETHER)) == 0
        return runs.record("whole")


def close(left, right):
    """Asserts that two runs' saved states and positions are one, but for rounding."""
    assert (left.data, len(left.history)) == (right.data, len(right.history))
    np.testing.assert_allclose(left.history, right.history, rtol=1e-5)
    np.testing.assert_allclose(left.sums, right.sums, rtol=1e-4)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), left.state, right.state)


def same(left, right):
    """Asserts that two records are one, to the last bit."""
    assert left[:2] == right[:2]
    for one, other in zip(left[2], right[2], strict=True):
        assert one[1:] == other[1:]
        jax.tree.map(np.testing.assert_array_equal, one.state, other.state)


KINDS = {
    "transformer": {"train.ema_decay": 0.9, "optim.schedule": "plateau"},
    "rnn": {"model.encoder": "rnn", "model.decoder": "rnn"},
}
LONG_KINDS = {
    "variational": {**KINDS["rnn"], "model.rnn.variational_dropout": True, "optim.optimizer": "muon"},
    "everything": {
        **{"train.grad_accum_steps": 2, "train.ema_decay": 0.9, "train.r_drop": 0.5, "model.scan_layers": True},
        **{"optim.optimizer": "adafactor", "optim.schedule": "plateau", "model.remat": "dots"},
    },
}


def _batch(seed: int, source: int, target: int) -> Batch:
    """Four rows, of which one has the given lengths."""
    lengths = np.random.default_rng(seed).integers(1, (source, target), (3, 2), endpoint=True).tolist()
    sources, targets = zip((source, target), *lengths, strict=True)
    said = sentences(targets, target, TARGET_SIZE)
    labels = np.roll(said.ids, -1, axis=1)
    return Batch(sentences(sources, source, SOURCE_SIZE), said, labels, said.segments.astype(np.float32))


@pytest.mark.parametrize(
    ("kind", "platform"),
    [
        ("transformer", "cpu"),
        pytest.param("rnn", "gpu", marks=pytest.mark.slow),  # the way of a GPU, which a CPU can go too
        *(pytest.param(kind, "gpu", marks=pytest.mark.slow) for kind in LONG_KINDS),
    ],
)
def test_a_step_of_all_is_the_step_of_each_whatever_their_shapes(kind, platform, monkeypatch):
    use_devices(monkeypatch, 1)
    monkeypatch.setattr(
        sharding_layout, "for_each", lambda function, _, original=sharding_layout.for_each: original(function, platform)
    )
    config = micro({"model.dropout": 0.3, "optim.epsilon": 1e-3, **(KINDS | LONG_KINDS)[kind]})
    training = make_training(config, make_model(config, SOURCE_SIZE, TARGET_SIZE), [])
    batches = [[_batch(1, 7, 5), _batch(2, 4, 3)], [_batch(3, 4, 3), _batch(4, 7, 5)]]  # short and long, by turns
    keys = [jax.random.key(seed + 1) for seed in (3, 4)]

    layout = SeedsLayout(config.mesh, 2)
    states = layout.init(lambda seed: training._replace(seed=seed).first_state(), (3, 4))
    step, found = layout.compile(training.step, keys), []
    for number in range(2):
        batch = vmap_seeds.side_by_side({seed: batches[seed][number] for seed in range(2)}, 2)
        states, results = step([], states, layout.put(batch))
        found.append(results)

    for seed in range(2):
        alone = MeshLayout(config.mesh, config.logical_axis_rules)
        make = training._replace(seed=seed + 3).first_state
        state, step = alone.init(make), alone.compile(training.step, keys[seed], alone.shapes(make))
        for number in range(2):
            state, results = step([], state, alone.put(batches[seed][number]))
            jax.tree.map(lambda x, y, i=seed: np.testing.assert_allclose(x[i], y, rtol=1e-4), found[number], results)
        jax.tree.map(
            lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-3, atol=2e-5), layout.one(states, seed), state
        )


def test_each_seed_is_the_run_that_it_is_alone(runs, whole):
    lines, _, saved = whole
    for number, seed in enumerate(_SEEDS):
        assert runs.start(f"{seed}", micro({**TOGETHER, "seed": seed, "train.vmap_seeds": 1})) == 0
        for ours, theirs in zip(lines[1 + number], runs.lines(f"{seed}"), strict=True):
            assert ours == pytest.approx(theirs, rel=1e-4)
        close(saved[number], runs.saved[runs.folder / f"{seed}"])


def test_means_and_deviations_are_those_of_the_seeds(whole):
    together, *each = whole[0]
    assert [line["step"] for line in together] == [4, 5, 8, 10, 12, 12]
    for line, *of_seeds in zip(together, *each, strict=True):
        assert line["seeds"] == COUNT
        for name in set(of_seeds[0]) - {"step"}:
            values = [of_one[name] for of_one in of_seeds]
            assert line[name] == pytest.approx(np.mean(values))
            assert line[name + DEVIATION] == pytest.approx(np.std(values, ddof=1))


@pytest.mark.parametrize("at", [("add", 7), ("save", 3), ("save", 8)], ids=lambda at: f"{at[0]} {at[1]}")
def test_killed_seeds_go_on_as_if_they_had_not_been(at, runs, whole, monkeypatch):
    """In the second one's part of a step: where they save, the first one is ahead then."""
    method, step = at
    owner = {"add": vmap_seeds.SeedProgress, "save": Checkpoints}[method]
    original, calls = getattr(owner, method), []

    def fail(self, *given):
        if number_of(given[0]) == step:
            calls.append(given)
            if len(calls) == 2:
                raise Killed
        return original(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(owner, method, fail)
        with pytest.raises(Killed):
            runs.start("killed", micro(TOGETHER))
    steps = [
        max((int(path.name) for path in folder.iterdir() if path.name.isdigit()), default=0)
        for folder in sorted((runs.folder / "killed").glob("seed_*/checkpoints"))
    ]
    assert len(set(steps)) == (1 if method == "add" else 2)
    assert runs.start("killed", micro(TOGETHER)) == 0
    same(runs.record("killed"), whole)


def test_a_signal_saves_all_and_one_may_go_on_alone(runs, whole, monkeypatch, capsys):
    add = vmap_seeds.ProgressTogether.add

    def stop(self, step, *rest):
        if step == 7:
            signal.raise_signal(signal.SIGTERM)
        add(self, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(vmap_seeds.ProgressTogether, "add", stop)
        assert runs.start("stopped", micro(TOGETHER)) == 143
    assert runs.start("stopped/seed_6", micro({**TOGETHER, "seed": 6, "train.vmap_seeds": 1})) == 0
    close(runs.saved[runs.folder / "stopped" / "seed_6"], whole[2][1])
    capsys.readouterr()
    assert runs.start("stopped", micro(TOGETHER)) == 0  # it has ended, and the other one goes on
    assert "going on from step 7" in capsys.readouterr().err
    close(runs.saved[runs.folder / "stopped" / "seed_5"], whole[2][0])
    assert [line["seeds"] for line in runs.lines("stopped")] == [2, 2, 1, 1, 1, 1]


def test_a_seed_out_of_patience_ends_and_the_others_go_on(runs, monkeypatch, capsys):
    values = {5: (9, 8, 8, 8, 8, 8), 6: (1, 2, 3, 4, 5, 6)}  # 5 ends at step 6

    def evaluate(self, step, params):
        seed = int(self._report._metrics.parent.name.removeprefix("seed_"))
        self._report.write(step, {"eval/exact_match": values[seed][step // 2 - 1]})
        self._report.samples(step, [("abc", "cba", f"{float(jax.tree.leaves(params)[0].sum())!r}")])
        return float(values[seed][step // 2 - 1])

    monkeypatch.setattr(Plain, "__call__", evaluate)
    config = micro({**TOGETHER, "train.patience": 2, "train.eval_every": 2})
    assert runs.start("whole", config) == 0
    assert "seed 5 has ended, out of patience" in capsys.readouterr().err
    together = [(line["step"], line["seeds"]) for line in runs.lines("whole") if "eval/exact_match" in line]
    assert together == [(2, 2), (4, 2), (6, 2), (8, 1), (10, 1), (12, 1)]
    ends = [WorkDir(runs.folder / "whole" / f"seed_{seed}").finish() for seed in _SEEDS]
    assert ends == [(6, 2, 9.0), (12, 12, 6.0)]
    assert WorkDir(runs.folder / "whole").finish() == (12, 12, 7.5)

    add = vmap_seeds.SeedProgress.add

    def fail(self, step, *rest):
        if step == 9:
            raise Killed
        add(self, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(vmap_seeds.SeedProgress, "add", fail)
        with pytest.raises(Killed):
            runs.start("killed", config)
    assert runs.start("killed", config) == 0
    same(runs.record("killed"), runs.record("whole"))
    assert runs.start("killed", config) == 0  # all stay ended
    same(runs.record("killed"), runs.record("whole"))


def test_devices_share_the_seeds(whole, tmp_path, monkeypatch):
    use_devices(monkeypatch, 3)
    runs = Runs(tmp_path, monkeypatch)
    with pytest.raises(InputError, match=r"vmap_seeds=2 must be a multiple of 3, the devices that share them"):
        runs.start("shared", micro(TOGETHER))
    use_devices(monkeypatch, 2)
    assert runs.start("shared", micro(TOGETHER)) == 0
    lines, _, saved = runs.record("shared")
    for ours, theirs in zip(saved, whole[2], strict=True):
        close(ours, theirs)
    assert lines[0][-1] == pytest.approx(whole[0][0][-1], rel=1e-4)


def test_evaluations_are_those_of_the_runs_alone(tmp_path, monkeypatch, capsys):
    use_devices(monkeypatch, 1)
    small = {"train.steps": 2, "train.batch_size": 32, "optim.warmup_steps": 1, "seed": 5}
    assert vmap_seeds.train(micro({**small, "train.vmap_seeds": 2}), tmp_path / "both") == 0
    assert loop.train(micro({**small, "seed": 6}), tmp_path / "alone") == 0
    both, alone = (Runs.lines(Lines(tmp_path), name)[-1] for name in ("both/seed_6", "alone"))
    assert both == pytest.approx(alone, rel=1e-5)
    assert {"eval/loss", "eval/token_accuracy", "eval/exact_match"} < set(both)
    said = capsys.readouterr().err
    assert said.count("compiling the greedy search") == 2  # one for both seeds, one for the run alone
    for command in (["decode", "--input=/dev/null"], ["evaluate"], ["average", "--last=1"]):
        assert cli.main([*command, f"--workdir={tmp_path / 'both'}"]) == 2
        assert f"name one of {tmp_path / 'both' / 'seed_5'}, {tmp_path / 'both' / 'seed_6'}" in capsys.readouterr().err


class Lines:
    """What ``Runs.lines`` needs."""

    def __init__(self, folder):
        self.folder = folder


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"parallel.mode": "pmap"}, "config.train.vmap_seeds=2: each seed of a program is whole on one device"),
        ({"mesh.fsdp": 2}, "config.train.vmap_seeds=2: each seed of a program is whole on one device"),
        ({"data.reverse.examples": 10, "data.reverse.max_length": 1}, "models of one program have one size"),
    ],
)
def test_what_cannot_train_together_is_named(changes, said, tmp_path, monkeypatch, capsys):
    use_devices(monkeypatch, 1)
    assert cli.main(["train", *flags({**TOGETHER, **changes}), f"--workdir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()
