"""Decoding with an untrained model: what a line becomes depends on that line alone."""

import dataclasses

import jax
import numpy as np
import pytest

from flaxformer_lite.config import MeshConfig
from flaxformer_lite.data.vocabulary import CharacterVocabulary
from flaxformer_lite.models.build import make_model
from flaxformer_lite.predict import Prediction, Predictor
from flaxformer_lite.sharding import MeshLayout
from flaxformer_lite.train_state import init_params
from tests.micro import micro

LETTERS = CharacterVocabulary("abcdefghij")
GREEDY = dataclasses.replace(micro().decode, batch_size=6, max_length_ratio=1.5, max_length_offset=3)
BEAM = dataclasses.replace(GREEDY, method="beam", beam_size=3, n_best=3)


def lines_of(count, longest=14):
    random = np.random.default_rng(count)
    return ["".join(random.choice(list("abcdefghij"), size=random.integers(1, longest))) for _ in range(count)]


@pytest.fixture(scope="module")
def make():
    """Makes predictors on the first devices. Their parameters are large, so that different lines become different."""

    def predictor(changes=None, devices=1):
        config = micro(changes)
        model = make_model(config, LETTERS.size, LETTERS.size)
        layout = MeshLayout(MeshConfig(data=-1, fsdp=1, tensor=1), jax.devices()[:devices])
        params = layout.init(lambda: init_params(model, 0))
        params = jax.tree.map(lambda x: 4 * x if x.ndim > 1 else x, params)
        return Predictor(config, (LETTERS, LETTERS), params, 0, layout)

    return predictor


@pytest.fixture(scope="module")
def predictor(make):
    return make()


def close(left: list[list[Prediction]], right: list[list[Prediction]]) -> None:
    assert [[p.text for p in line] for line in left] == [[p.text for p in line] for line in right]
    scores = [[p.score for line in lines for p in line] for lines in (left, right)]
    np.testing.assert_allclose(*scores, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("decode", [GREEDY, BEAM], ids=["greedy", "beam"])
def test_a_line_depends_on_itself_alone(decode, predictor):
    lines = lines_of(15)
    found = predictor.n_best(lines, decode)
    assert len({line[0].text for line in found}) > 8  # or there would be nothing to see
    order = np.random.default_rng(1).permutation(len(lines))
    close(predictor.n_best([lines[i] for i in order], decode), [found[i] for i in order])
    close([predictor.n_best([line], decode)[0] for line in lines[:4]], found[:4])
    close(predictor.n_best([lines[0]] * 7, decode), [found[0]] * 7)
    close(predictor.n_best(lines, dataclasses.replace(decode, batch_size=1)), found)
    close(predictor.n_best(lines, dataclasses.replace(decode, batch_size=11)), found)


@pytest.mark.parametrize("decode", [GREEDY, BEAM], ids=["greedy", "beam"])
def test_several_devices_say_the_same(decode, predictor, make):
    lines = lines_of(9)
    four_rows = dataclasses.replace(decode, batch_size=4)  # of which three devices make six
    close(make(devices=3).n_best(lines, four_rows), predictor.n_best(lines, decode))


def test_empty_lines_stay_empty_in_their_places(predictor):
    lines = ["", "abc", "", "  ", "d", "\t", ""]
    found = predictor.decode(lines, GREEDY)
    assert [bool(text) for text in found] == [False, True, False, False, True, False, False]
    assert [found[1], found[4]] == predictor.decode(["abc", "d"], GREEDY)
    assert predictor.n_best(["", " "], BEAM) == [[Prediction("", 0.0)]] * 2
    assert predictor.decode([], GREEDY) == []


def test_n_best_are_ranked_and_the_first_is_decodes(predictor):
    lines = lines_of(5)
    found = predictor.n_best(lines, BEAM)
    assert [len(line) for line in found] == [3] * 5
    for line in found:
        scores = [prediction.score for prediction in line]
        assert scores == sorted(scores, reverse=True)
        assert len({prediction.text for prediction in line}) == 3
    assert predictor.decode(lines, BEAM) == [line[0].text for line in found]
    fewer = predictor.n_best(lines, dataclasses.replace(BEAM, n_best=2))
    close(fewer, [line[:2] for line in found])


def test_the_length_is_capped_by_the_sources(predictor):
    lines = lines_of(12)
    for text, line in zip(predictor.decode(lines, GREEDY), lines, strict=True):
        assert len(text) <= np.ceil(1.5 * (len(line) + 1)) + 3
    short = dataclasses.replace(GREEDY, max_length_ratio=0.0, max_length_offset=2)
    assert max(len(text) for text in predictor.decode(lines, short)) <= 2


def test_unknown_letters_are_read(predictor):
    assert len(predictor.decode(["äöü", "日本", "a\u2028b"], GREEDY)) == 3


@pytest.mark.parametrize("decode", [GREEDY, BEAM], ids=["greedy", "beam"])
def test_learned_positions_end_somewhere_and_say_so(decode, make, capsys):
    predictor = make({"model.positions": "learned", "data.max_source_length": 12, "data.max_target_length": 11})
    lines = lines_of(6, longest=11)
    found = predictor.n_best(lines, decode)
    assert "positions" not in capsys.readouterr().err
    long = ["abcdefghijabcdefghij", "abcdefghija" + "j" * 50]
    mixed = predictor.n_best([*lines, *long], decode)
    assert (
        "2 lines have more than the 12 tokens that this model's learned positions reach to" in capsys.readouterr().err
    )
    close(mixed[:6], found)
    close(mixed[6:], predictor.n_best(["abcdefghija"] * 2, decode))
    assert max(len(p.text) for line in mixed for p in line) <= 12


def test_sinusoidal_positions_never_end(predictor, capsys):
    longer = "ab" * 60  # the config's limits are 32
    assert predictor.decode([longer], GREEDY) == predictor.decode([longer, "a"], GREEDY)[:1]
    assert "positions" not in capsys.readouterr().err


def test_a_handful_of_compiles_for_lines_of_all_lengths(make, capsys):
    predictor = make()
    lines = [("abcdefghij" * 6)[:length] for length in range(1, 61)] * 2
    predictor.decode(lines, dataclasses.replace(GREEDY, batch_size=16))
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line.startswith("compiling")] == [
        f"compiling the greedy search for 16×{length} …" for length in (8, 16, 32, 64)
    ]
    predictor.decode(lines[5:50], dataclasses.replace(GREEDY, batch_size=16))
    assert capsys.readouterr().err == ""
