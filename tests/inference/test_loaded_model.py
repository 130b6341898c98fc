"""The Python API of loaded models."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flaxformer_lite
from flaxformer_lite.errors import InputError
from tests.micro_config import micro, use_devices
from tests.work_dirs import make_folder

LINES = ["abc", "jihgfedcbajih", "", "d"]
TARGETS = ["cba", "a", "ij", ""]
RNN = {"model.encoder.kind": "rnn", "model.decoder.kind": "rnn"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    path = tmp_path_factory.mktemp("models")
    make_folder(path / "transformer", micro({"model.vocab_pad_multiple": 32}))
    make_folder(path / "rnn", micro(RNN), steps=(20,))
    return path


@pytest.fixture
def model(folders, monkeypatch):
    use_devices(monkeypatch, 1)
    return flaxformer_lite.load(folders / "transformer")


def test_encode_returns_states_without_padding(model):
    found = model.encode(LINES)
    assert [states.shape for states in found] == [(len(line) + 1, model.config.model.encoder.width) for line in LINES]
    for line, states in zip(LINES, found, strict=True):
        np.testing.assert_allclose(model.encode([line])[0], states, rtol=1e-5, atol=1e-5)
    assert model.encode([]) == []


def test_logits_give_the_log_probabilities_of_the_score(model):
    found = model.logits(LINES, TARGETS)
    assert [logits.shape for logits in found] == [(len(t) + 1, model.vocabularies[1].size) for t in TARGETS]
    for logits, target, scored in zip(found, TARGETS, model.score(LINES, TARGETS), strict=True):
        ids = [*model.vocabularies[1].encode(target), model.vocabularies[1].special.end]
        log_probs = np.asarray(jax.nn.log_softmax(logits))[np.arange(len(ids)), ids]
        np.testing.assert_allclose(log_probs, scored.log_probs, rtol=1e-4, atol=1e-4)


def test_logits_of_any_number_of_targets_must_match_the_sources(model):
    with pytest.raises(InputError, match="4 sources and 1 targets"):
        model.logits(LINES, ["a"])


def test_evaluate_equals_evaluate_of_text_files(model, tmp_path):
    found = model.evaluate("test", max_examples=4)
    assert found.keys() == {"loss", "token_accuracy", "exact_match"}
    (tmp_path / "pairs.tsv").write_text("abc\tcba\nab\tba\n")
    other = model.evaluate("test", files=[str(tmp_path / "pairs.tsv")])
    assert other["loss"] != found["loss"]
    scored = model.score(["abc", "ab"], ["cba", "ba"])
    assert other["loss"] == pytest.approx(-sum(s.log_prob for s in scored) / (4 + 3), rel=1e-4)


def test_repr_names_kind_parameters_step_and_directory(model, folders):
    count = sum(leaf.size for leaf in jax.tree.leaves(model.params))
    assert repr(model) == f"LoadedModel(transformer, {count:,} parameters, step 10, {folders / 'transformer'})"
    ensemble = flaxformer_lite.load([folders / "transformer", folders / "rnn"])
    assert re.match(
        r"LoadedModel\(ensemble of 2 models, [\d,]+ parameters, step 10, .*transformer, .*rnn\)", repr(ensemble)
    )


def test_params_belong_to_the_module(model):
    from flaxformer_lite.data.batching import pad, tokenize

    source = model.vocabularies[0]
    tokens = jax.tree.map(jnp.asarray, pad(tokenize(source, ["abc"]), np.array([0]), 4, source.special))
    output = model.module.apply({"params": model.params}, tokens, train=False, method="encoder_output")
    np.testing.assert_allclose(output.states[0], model.encode(["abc"])[0], rtol=1e-5, atol=1e-5)


def test_an_ensemble_has_no_encoder_states(folders, monkeypatch):
    use_devices(monkeypatch, 1)
    ensemble = flaxformer_lite.load([folders / "transformer", folders / "rnn"])
    with pytest.raises(InputError, match="encode: an ensemble has no common encoder states; load one model"):
        ensemble.encode(["a"])
    assert ensemble.logits(["a"], ["b"])[0].shape == (2, ensemble.vocabularies[1].size)


def test_errors_of_load_name_the_path():
    with pytest.raises(InputError) as error:
        flaxformer_lite.load("/nonexistent/x")
    assert str(error.value).startswith("/nonexistent/x")
    assert "--" not in str(error.value)


def test_nan_scores_are_reported(folders, monkeypatch, capsys):
    use_devices(monkeypatch, 1)
    model = flaxformer_lite.load(folders / "transformer")
    model.params = jax.tree.map(lambda leaf: leaf * np.nan, model.params)
    for method in ("greedy", "beam"):
        decode = model.config.decode.__class__(**{**vars(model.config.decode), "method": method})
        (prediction,) = model.n_best(["abc"], decode)[0]
        assert np.isnan(prediction.score)
        assert "1 of 1 lines have no sound output: the model computed NaN" in capsys.readouterr().err
