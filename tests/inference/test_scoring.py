import dataclasses
import json

import numpy as np
import pytest

import flaxformer_lite
from flaxformer_lite.cli import decode_flags
from flaxformer_lite.cli.main import main
from flaxformer_lite.errors import InputError
from flaxformer_lite.inference.scoring import Scorer
from tests.marks import slow_except
from tests.micro_config import micro, use_devices
from tests.work_dirs import LETTERS, make_folder

SOURCES = ["abc", "j", "ihgfedcba", "", "bb"]
TARGETS = ["cba", "", "abcdefghijabcdef", "a", "bb"]

_RNN = {"model.encoder.kind": "rnn", "model.decoder.kind": "rnn"}
_MODELS = {
    "transformer": {},
    "bahdanau": _RNN,
    "sutskever": _RNN | {"model.decoder.rnn.design": "sutskever"},
}


@pytest.fixture(scope="module", params=slow_except(("transformer", "sutskever"), _MODELS))
def folder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("scored") / request.param
    make_folder(path, micro(_MODELS[request.param]))
    return path


@pytest.fixture
def predictor(folder, monkeypatch):
    use_devices(monkeypatch, 1)
    return flaxformer_lite.load(folder)


def test_a_search_and_the_scorer_agree(predictor):
    decode = dataclasses.replace(
        predictor.config.decode, method="beam", beam_size=3, n_best=3, length_penalty=0.0, max_length_offset=2
    )
    lines = [line for line in SOURCES if line]
    found = predictor.n_best(lines, decode)
    pairs = [(line, p) for line, predictions in zip(lines, found, strict=True) for p in predictions]
    scored = Scorer(predictor, predictor.config.decode).score_ids(
        [line for line, _ in pairs], [p.ids for _, p in pairs]
    )
    np.testing.assert_allclose([s.log_prob for s in scored], [p.score for _, p in pairs], rtol=1e-4, atol=1e-4)


def test_the_score_of_a_pair_does_not_depend_on_other_pairs(predictor):
    scorer = Scorer(predictor, predictor.config.decode)
    together = scorer.score(SOURCES, TARGETS)
    for source, target, found in zip(SOURCES, TARGETS, together, strict=True):
        (alone,) = scorer.score([source], [target])
        assert alone.tokens == found.tokens == [*target, "<end>"]
        assert found.source_tokens == [*source, "<end>"]
        np.testing.assert_array_equal(alone.log_probs, found.log_probs)
        np.testing.assert_array_equal(alone.attention, found.attention)


def test_attention_weights_over_source_tokens_sum_to_1(predictor, folder):
    for source, target, found in zip(
        SOURCES, TARGETS, Scorer(predictor, predictor.config.decode).score(SOURCES, TARGETS), strict=True
    ):
        if folder.name == "sutskever":
            assert found.attention.shape == (len(target) + 1, 0)
        else:
            assert found.attention.shape == (len(target) + 1, len(source) + 1)
            np.testing.assert_allclose(found.attention.sum(-1), 1, rtol=1e-5)


def test_unknown_tokens_are_counted_in_a_message(predictor, capfd):
    known, unknown = Scorer(predictor, predictor.config.decode).score(["abc", "abc"], ["ab", "äb"])
    assert "1 tokens of the targets are not in the vocabulary" in capfd.readouterr().err
    assert known.log_probs[0] != unknown.log_probs[0]


def next_log_probs(predictor, decode, target):
    """Log-probabilities of every token at each position of a target of "abc"."""
    continued = [[*target[:position], token] for position in range(len(target)) for token in range(LETTERS.size)]
    scored = Scorer(predictor, decode).score_ids(["abc"] * len(continued), continued)
    return np.reshape([found.log_probs[-1] for found in scored], (len(target), LETTERS.size))


def normalized(log_probs):
    return log_probs - np.log(np.exp(log_probs).sum(axis=-1, keepdims=True))


_MEANS = {
    "probability": lambda members: np.log(np.exp(members).mean(axis=0)),
    "log_probability": lambda members: normalized(np.mean(members, axis=0)),
}


@pytest.mark.parametrize("mean", slow_except(["probability"], _MEANS))
def test_the_mean_of_an_ensemble_is_the_one_of_the_config(mean, tmp_path, monkeypatch):
    use_devices(monkeypatch, 1)
    make_folder(tmp_path / "a", micro(), steps=(10,))
    make_folder(tmp_path / "b", micro(_RNN), steps=(20,))
    ensemble = flaxformer_lite.load([tmp_path / "a", tmp_path / "b"])
    members = [flaxformer_lite.load(tmp_path / name) for name in "ab"]
    beam = dataclasses.replace(
        ensemble.config.decode, ensemble=mean, method="beam", beam_size=2, length_penalty=0.0, max_length_offset=2
    )

    best = ensemble.n_best(["abc"], beam)[0][0]
    expected = _MEANS[mean]([next_log_probs(member, beam, best.ids) for member in members])
    np.testing.assert_allclose(next_log_probs(ensemble, beam, best.ids), expected, atol=1e-4)
    assert best.score == pytest.approx(expected[range(len(best.ids)), best.ids].sum(), abs=1e-3)


def test_bad_input(predictor):
    with pytest.raises(InputError, match="5 sources and 1 targets: the numbers differ"):
        Scorer(predictor, predictor.config.decode).score(SOURCES, ["a"])


def test_rejects_targets_beyond_learned_positions(tmp_path, monkeypatch):
    use_devices(monkeypatch, 1)
    make_folder(tmp_path, micro({"model.encoder.positions.kind": "learned"}))
    long = "ab" * 40
    predictor = flaxformer_lite.load(tmp_path)
    with pytest.raises(InputError, match="target 2: has 81 tokens"):
        Scorer(predictor, predictor.config.decode).score(["a", "b"], ["a", long])
    # A search truncates its sources, and so does the scoring of its results.
    cut = predictor.decode([long])[0]
    (scored,) = Scorer(predictor, predictor.config.decode).score_ids([long], [predictor.vocabularies[1].encode(cut)])
    assert len(scored.source_tokens) == predictor.max_supported_length


def test_the_command(folder, predictor, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(decode_flags, "load_model", lambda arguments: predictor)  # its programs are compiled once
    (tmp_path / "source").write_text("\n".join(SOURCES))
    (tmp_path / "target").write_text("\n".join(TARGETS) + "\n")
    expected = Scorer(predictor, predictor.config.decode).score(SOURCES, TARGETS)
    flags = [f"--workdir={folder}", f"--source={tmp_path / 'source'}", f"--target={tmp_path / 'target'}"]

    assert main(["score", *flags]) == 0
    assert [float(x) for x in capfd.readouterr().out.split()] == pytest.approx([s.log_prob for s in expected], abs=1e-4)
    assert main(["score", *flags, "--format=tsv"]) == 0
    rows = [line.split("\t") for line in capfd.readouterr().out.splitlines()]
    assert [row[1:] for row in rows] == [[str(len(t) + 1), s, t] for s, t in zip(SOURCES, TARGETS, strict=True)]
    assert main(["score", *flags, "--format=jsonl", f"--output={tmp_path / 'out'}"]) == 0
    records = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert records[0]["log_probs"] == pytest.approx(expected[0].log_probs.tolist(), abs=1e-5)
    assert np.shape(records[0]["attention"]) == expected[0].attention.shape

    (tmp_path / "target").write_text("a\n")
    assert main(["score", *flags]) == 2
    assert "has 5 lines and --target" in capfd.readouterr().err


def test_decode_with_attention(folder, tmp_path, capfd):
    (tmp_path / "lines").write_text("abc\n\n")
    flags = [
        f"--workdir={folder}",
        f"--input={tmp_path / 'lines'}",
        "--beam_size=3",
        "--n_best=2",
        "--length_penalty=0",
    ]
    assert main(["decode", *flags, "--format=jsonl", "--attention"]) == 0
    first, second = (json.loads(line) for line in capfd.readouterr().out.splitlines())
    assert first["source_tokens"] == ["a", "b", "c", "<end>"]
    for hypothesis in first["hypotheses"]:
        assert hypothesis["log_prob"] == pytest.approx(hypothesis["score"], abs=1e-3)
        assert len(hypothesis["tokens"]) + 1 == len(hypothesis["log_probs"]) == len(hypothesis["attention"])
    assert second["hypotheses"] == [{"text": "", "score": 0.0, "tokens": []}]
    assert main(["decode", *flags, "--attention"]) == 2
    assert "--attention: needs --format=jsonl" in capfd.readouterr().err
