"""Mixtures: rates, determinism, and the batches of several tasks."""

import itertools

import jax
import numpy as np
import pytest

from flaxformer_lite.config.defaults import get_config
from flaxformer_lite.config.mixture import components
from flaxformer_lite.config.parsing import from_dict
from flaxformer_lite.data import dataset as datasets
from flaxformer_lite.data import pipeline
from flaxformer_lite.data.mixture import MixtureShuffle, rates_by_size
from flaxformer_lite.errors import InputError

_TASKS = {
    "short": {"rate": 3.0, "source_prefix": "z", "reverse": {"max_length": 4, "examples": 100}},
    "long": {"rate": 1.0, "reverse": {"min_length": 5, "max_length": 9, "examples": 400}, "max_source_length": 8},
}


def _config(tasks=None, **changes):
    config = get_config()
    config.data.mixture = tasks or _TASKS
    config.data.update(changes)
    return from_dict(config.to_dict()).data


def _batches(data, count, shard=(0, 1), seed=5, size=8):
    return itertools.islice(pipeline.training_batches(data.train, lambda shape: size, seed, shard, 0), count)


def _assert_equal(ours, theirs):
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.parametrize("packed", [False, True])
def test_each_task_has_its_rate_and_settings(packed):
    data = datasets.load_training(_config(pack=packed, packed_length=20), 0)
    decode = data.source_vocabulary.decode
    sources = []
    for batch in _batches(data, 600):
        for ids, segments in zip(batch.source.ids, batch.source.segments, strict=True):
            sources += [decode(ids[segments == i]) for i in range(1, segments.max() + 1)]
    assert max(map(len, sources)) == 7  # of "long", limited to 8 tokens
    if not packed:  # where rows have several examples, the rates are those of rows
        assert np.mean(["z" in source for source in sources]) == pytest.approx(3 / 4, abs=0.01)
    assert data.validation.keys() == {"short", "long"}
    assert all(source.startswith("z") for source in data.validation["short"].examples.sources)


def test_every_example_of_a_task_is_used_once_per_epoch_of_it():
    order = MixtureShuffle([7, 0, 30], np.array([0.25, 0.0, 0.75]), (1, 2))
    rows = order.take(0, 25_000)
    assert np.mean(rows < 7) == pytest.approx(0.25, abs=0.01)
    for own, size in ((rows[rows < 7], 7), (rows[rows >= 7] - 7, 30)):
        whole = own[: len(own) // size * size].reshape(-1, size)
        assert (np.sort(whole, axis=1) == np.arange(size)).all()
        assert (whole[0] != whole[1]).any()
    assert order.take(9_990, 10_030).tolist() == rows[9_990:10_030].tolist()
    again = MixtureShuffle([7, 0, 30], np.array([0.25, 0.0, 0.75]), (1, 2))
    assert again.take(20_000, 20_050).tolist() == rows[20_000:20_050].tolist()


@pytest.mark.parametrize("count", [2, 4])
def test_batches_are_independent_of_the_number_of_processes(count):
    data = datasets.load_training(_config(), 0)
    whole = list(_batches(data, 30))
    parts = [list(_batches(data, 30, (i, count))) for i in range(count)]
    for batch, *shards in zip(whole, *parts, strict=True):
        _assert_equal(jax.tree.map(lambda *rows: np.concatenate(rows), *shards), batch)


def test_resuming_gives_the_same_batches():
    data = datasets.load_training(_config(), 0)
    batches = pipeline.training_batches(data.train, lambda shape: 8, 5, (0, 1), 0)
    list(itertools.islice(batches, 11))
    state = batches.get_state()
    expected = list(itertools.islice(batches, 9))
    resumed = pipeline.training_batches(data.train, lambda shape: 8, 5, (0, 1), 0)
    resumed.set_state(state)
    _assert_equal(list(itertools.islice(resumed, 9)), expected)


def test_rates_follow_from_sizes_by_the_temperature():
    assert rates_by_size([100, 400], [1.0, 3.0], 0.0) == pytest.approx([1 / 4, 3 / 4])
    assert rates_by_size([100, 400], [1.0, 1.0], 1.0) == pytest.approx([1 / 5, 4 / 5])
    assert rates_by_size([100, 400], [1.0, 1.0], 2.0) == pytest.approx([1 / 3, 2 / 3])
    assert rates_by_size([100, 400], [1.0, 1.0], 1e6) == pytest.approx([1 / 2, 1 / 2], abs=1e-4)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"rate": 0.0}, r"mixture\.x\.rate=0\.0.*at least"),
        ({"num_buckets": 3}, r"mixture\.x\.num_buckets: all components share it"),
        ({"text": {"trian": ("a",)}}, r"mixture\.x\.text\.trian: there is no such key; did you mean"),
        ({"max_source_length": "many"}, r"mixture\.x\.max_source_length='many': must be a whole number"),
        ({"objective": "span_corruption"}, r"mixture\.x\.objective='span_corruption': .*share_vocabulary=True"),
        ({"validation_fraction": 0.1}, r"mixture\.x\.validation_fraction=0\.1: .* has a validation split"),
        (3, r"mixture\.x=3: must be a group of keys"),
    ],
)
def test_invalid_components_are_errors(task, message):
    with pytest.raises(InputError, match=message):
        _config({"x": task})


def test_names_and_metrics():
    with pytest.raises(InputError, match="without a slash"):
        _config({"a/b": {}})
    config = get_config()
    config.data.mixture = _TASKS
    config.eval.best_metric = "long/exact_match"
    assert components(from_dict(config.to_dict()).data)["short"].rate == 3.0
    config.eval.best_metric = "longer/exact_match"
    with pytest.raises(InputError, match="best_metric='longer/exact_match': is not computed"):
        from_dict(config.to_dict())
