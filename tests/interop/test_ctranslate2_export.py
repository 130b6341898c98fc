"""CTranslate2 gives the same outputs and scores for exported models."""

import dataclasses
import json
import sys
import warnings

import numpy as np
import pytest

from flaxformer_lite.data.vocabularies.character_word import WordVocabulary
from flaxformer_lite.data.vocabularies.pretrained import AddedToken, ByT5Vocabulary, TokenTemplate
from flaxformer_lite.errors import InputError
from flaxformer_lite.inference.loaded_model import load_model
from flaxformer_lite.interop import exporting
from flaxformer_lite.interop.ctranslate2_export import unique_tokens, write_ctranslate2
from flaxformer_lite.types import SpecialIds
from tests.marks import slow_except
from tests.micro_config import micro
from tests.work_dirs import LETTERS, make_folder

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    ctranslate2 = pytest.importorskip(
        "ctranslate2", reason="compares with CTranslate2: pip install -e '.[ctranslate2]'"
    )

_DEEP_DECODER = {"model.encoder.num_layers": 1, "model.decoder.num_layers": 2}
_T5 = {
    **{"model.encoder.positions.kind": "relative_bias", "model.encoder.norm.kind": "rms"},
    **{"model.encoder.attention.bias": False, "model.encoder.attention.query_pre_attn_scalar": 1.0},
    **{"model.encoder.feed_forward.bias": False, "model.encoder.feed_forward.gated": True},
    **{"model.encoder.feed_forward.activation": "gelu_tanh", "model.scale_embeddings": False},
    **{"model.lm_head.scale": True, "model.encoder.head_dim": 3, "model.encoder.positions.num_buckets": 8},
    **{"model.encoder.positions.max_distance": 7, "decode.suppress_tokens": ("h", "c d")},
}
_BART = {
    **{"model.encoder.positions.kind": "learned", "model.encoder.positions.offset": 2},
    **{"model.encoder.norm.placement": "post", "model.encoder.norm.embeddings": True},
    **{"model.encoder.norm.epsilon": 1e-5, "model.encoder.feed_forward.activation": "gelu"},
    **{"model.share_embeddings": "none", "model.lm_head.bias": "always"},
}
_POST = {"model.encoder.norm.placement": "post"}
_MODELS = {
    "own, pre-norm": {"model.encoder.positions.max_length": 40},
    "own, different stacks": {
        **{"model.encoder.head_dim": 5, "model.decoder.head_dim": 3, "model.decoder.width": 24},
        **{"model.decoder.norm.placement": "post", "model.decoder.positions.kind": "learned"},
        **{"model.decoder.feed_forward.gated": True, "model.decoder.feed_forward.activation": "silu"},
    },
    "own, post-norm, learned": _POST | {"model.encoder.positions.kind": "learned"},
    "t5": _T5,
    "umt5": _T5 | {"model.encoder.positions.per_layer": True, "model.lm_head.scale": False},
    "bart": _BART,
    "marian": _POST | {"model.encoder.positions.kind": "sinusoidal_concat", "model.lm_head.bias": "always"},
    "m2m": {
        **{"model.encoder.positions.kind": "sinusoidal_fairseq", "model.encoder.positions.offset": 2},
        "decode.forced_bos": True,
    },
}
_QUICK = ("t5", "m2m")
_LINES = ["abc", "dgehfia", "jj", "cbadefgh"]


def _framed(opening, closing, begin):
    """A byte vocabulary with two language tokens."""
    special = SpecialIds(pad=1, end=2, begin=begin, unknown=3)
    languages = (AddedToken("en_XX", 260), AddedToken("ro_RO", 261))
    return ByT5Vocabulary(4, 262, TokenTemplate(special, opening, closing, (260, 261)), languages)


# As in M2M-100, and as in mBART, where a target starts with its language without being forced to.
_VOCABULARIES = {
    "m2m": (_framed((260,), (2,), 2), _framed((261,), (2,), 2)),
    "bart": (_framed((), (2, 260), 261), _framed((), (2,), 261)),
}
_FRAMES = {"m2m": ([], [], ["ro_RO"]), "bart": ([], ["<2>", "en_XX"], [])}


@pytest.mark.parametrize("kind", slow_except(_QUICK, _MODELS))
def test_outputs_and_scores_are_the_same(tmp_path, kind):
    search = {"decode.method": "beam", "decode.beam_variant": "hf", "decode.length_penalty": 1.0}
    # It normalizes the probabilities of the tokens that are allowed.
    search |= {"decode.renormalize_logits": True, "decode.early_stopping": "true"}
    limits = {"decode.max_length_ratio": 0.0, "decode.max_length_offset": 8, "decode.batch_size": 4}
    config = micro(_DEEP_DECODER | _MODELS[kind] | search | limits)
    make_folder(tmp_path / "work", config, vocabularies=_VOCABULARIES.get(kind, (LETTERS, LETTERS)))
    (tmp_path / "exported").mkdir()
    write_ctranslate2(exporting.load_trained(tmp_path / "work", "best"), tmp_path / "exported")

    translator = ctranslate2.Translator(str(tmp_path / "exported"), compute_type="float32", intra_threads=1)
    frame = json.loads((tmp_path / "exported/config.json").read_text())
    before, after, prefix = (frame[key] for key in ("source_prefix", "source_suffix", "target_prefix"))
    search = {key: frame[key] for key in ("end_token", "suppress_sequences")}
    assert search["suppress_sequences"] == ([["c", "d"]] if "t5" in kind else [])
    assert (before, after, prefix) == _FRAMES.get(kind, ([], [], []))
    predictor = load_model(tmp_path / "work")
    for beams in (1, 4) if kind == "t5" else (4,):
        decode = dataclasses.replace(config.decode, beam_size=beams, n_best=beams)
        found = predictor.n_best(_LINES, decode)
        expected = translator.translate_batch(
            [[*before, *line, *after] for line in _LINES],
            target_prefix=[prefix] * len(_LINES),
            **search,
            beam_size=beams,
            num_hypotheses=beams,
            length_penalty=1.0,
            return_scores=True,
            max_decoding_length=8,
            min_decoding_length=0,
        )
        for row, other in zip(found, expected, strict=True):
            assert [predictor.tokens(hypothesis) for hypothesis in row] == other.hypotheses
            np.testing.assert_allclose([hypothesis.score for hypothesis in row], other.scores, rtol=2e-5)


def test_tokens_with_the_same_spelling_get_distinct_names():
    assert unique_tokens(WordVocabulary(["<end>", "b"])) == ["<pad>", "<end>", "<begin>", "<unknown>", "<end>#4", "b"]


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    make_folder(tmp_path / "work", micro())
    trained = exporting.load_trained(tmp_path / "work", "best")
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(InputError, match=r"flaxformer-lite\[ctranslate2\]"):
        write_ctranslate2(trained, tmp_path)


def test_unsupported_settings_are_listed(tmp_path):
    config = micro(
        {
            "model.encoder.norm.placement": "sandwich",
            "model.decoder.positions.kind": "rotary",
            "model.encoder.num_kv_heads": 1,
        }
    )
    make_folder(tmp_path / "work", config)
    trained = exporting.load_trained(tmp_path / "work", "best")
    with pytest.raises(InputError) as raised:
        write_ctranslate2(trained, tmp_path)
    for problem in ("encoder.norm.placement='sandwich'", "decoder.positions.kind='rotary'", "decoder.num_kv_heads=1"):
        assert f"config.model.{problem} (only " in str(raised.value)
