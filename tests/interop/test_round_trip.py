"""Import and export of published models: equal outputs and scores, and identical bytes."""

import dataclasses
import filecmp
import json
import types

import jax
import numpy as np
import pytest

import flaxformer_lite
from flaxformer_lite.config.dataclasses import MeshConfig
from flaxformer_lite.data.batching import tokenize
from flaxformer_lite.errors import InputError
from flaxformer_lite.inference.predict import Predictor
from flaxformer_lite.interop import exporting, importing, verify
from flaxformer_lite.interop.tokenizer_import import LanguagePair
from flaxformer_lite.sharding.mesh_layout import MeshLayout
from flaxformer_lite.train_step.state import init_params
from flaxformer_lite.types import SpecialIds
from tests.interop import tokenizer_files as files
from tests.marks import slow_except
from tests.transformers_reference import torch, transformers

pytestmark = pytest.mark.filterwarnings("ignore")  # raised by other libraries

_T5 = {
    **{"d_model": 12, "d_kv": 5, "d_ff": 14, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 4},
    **{"relative_attention_num_buckets": 8, "relative_attention_max_distance": 9},
}
_BART = {
    **{"max_position_embeddings": 29, "d_model": 12, "encoder_layers": 3, "decoder_layers": 2},
    **{"encoder_attention_heads": 4, "decoder_attention_heads": 2, "encoder_ffn_dim": 14, "decoder_ffn_dim": 10},
    **{"encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0},
}
_GEMMA = {
    **{"num_key_value_heads": 2, "head_dim": 6, "query_pre_attn_scalar": 5, "sliding_window": 3},
    **{"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
    "rope_parameters": {"rope_type": "default", "rope_theta": 50.0},
}
_SIDES = {
    "encoder": {"hidden_size": 20, "intermediate_size": 14, "num_hidden_layers": 3, "num_attention_heads": 4},
    "decoder": {"hidden_size": 12, "intermediate_size": 18, "num_hidden_layers": 2, "num_attention_heads": 6},
}
_SUMMARY = {"forced_bos_token_id": 0, "forced_eos_token_id": 2, "no_repeat_ngram_size": 3}
# name: (class of its config, tokenizer, further settings, languages, generation settings)
_FAMILIES = {
    "t5": ("T5", files.t5, _T5, ("", ""), {"length_penalty": 0.7}),
    "t5 1.1": ("T5", files.t5, _T5 | {"feed_forward_proj": "gated-gelu"}, ("", ""), {"early_stopping": True}),
    "byt5": ("T5", files.byt5, _T5 | {"feed_forward_proj": "gated-gelu"}, ("", ""), {"no_repeat_ngram_size": 2}),
    "mt5": ("MT5", files.t5, _T5, ("", ""), {"min_length": 5}),
    "umt5": ("UMT5", files.t5, _T5, ("", ""), {"repetition_penalty": 1.3}),
    "bart": ("Bart", files.bart, _BART, ("", ""), _SUMMARY),
    "bart unforced": ("Bart", files.bart, _BART | {"scale_embedding": True}, ("", ""), {"no_repeat_ngram_size": 2}),
    "mbart": ("MBart", files.mbart, _BART, ("en_XX", "ro_RO"), {"forced_eos_token_id": 2, "no_repeat_ngram_size": 2}),
    "mbart50": ("MBart", files.mbart50, _BART, ("en_XX", "sl_SI"), {"forced_bos_token_id": "sl_SI"}),
    "marian": (
        "Marian",
        files.marian,
        _BART,
        ("", ""),
        {"renormalize_logits": True, "forced_eos_token_id": 0, "no_repeat_ngram_size": 2},
    ),
    "pegasus": (
        "Pegasus",
        files.pegasus,
        _BART,
        ("", ""),
        {"length_penalty": 0.6, "forced_eos_token_id": 1, "no_repeat_ngram_size": 3},
    ),
    "t5gemma": ("T5Gemma", files.gemma, _SIDES, ("", ""), {"no_repeat_ngram_size": 2}),
    "m2m_100": ("M2M100", files.m2m100, _BART, ("en", "ro"), {"forced_bos_token_id": "__ro__"}),
    "nllb": ("M2M100", files.nllb, _BART, ("eng_Latn", "fra_Latn"), {"forced_bos_token_id": "fra_Latn"}),
}
_SHARDED = (
    "t5 1.1",
    "bart",
    "nllb",
    "t5gemma",
)  # parameters are sharded over two axes of the mesh, others are replicated
_IN_BFLOAT16 = ("t5gemma",)  # as it is published
# t5 1.1 for relative bias and sharded parameters, mbart for languages, marian for sinusoidal positions; other tests of
# this folder compare logits, tokenizers and generation settings of every family.
_QUICK = ("t5 1.1", "mbart", "marian")
_LINES = ("the cat", "Hello world dog", "jumps", "sat on 7 é")
_LIMIT = 13


def _model(folder, name):
    """Writes a model with random weights of the magnitude of trained ones, and returns it."""
    kind, tokenizer, settings, _, search = _FAMILIES[name]
    ids = tokenizer(folder)
    torch.manual_seed(len(name))
    if kind == "T5Gemma":
        both = _GEMMA | {key: ids[key] for key in ids if key != "decoder_start_token_id"}
        settings = {side: both | sizes for side, sizes in settings.items()}
    config = getattr(transformers, f"{kind}Config")(**ids, **settings)
    model = transformers.AutoModelForSeq2SeqLM.from_config(config).eval()
    with torch.no_grad():
        for key, tensor in model.named_parameters():
            if "embed_positions" not in key or kind in ("Bart", "MBart"):
                tensor.add_(0.5 * torch.randn_like(tensor))
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.normal_(std=0.3)
    never = {ids["pad_token_id"], ids["decoder_start_token_id"]} - {ids["eos_token_id"]}
    model.generation_config = transformers.GenerationConfig(
        **{key: ids[key] for key in ids if key.endswith("_id")},
        **{"num_beams": 4, "max_length": _LIMIT, "suppress_tokens": sorted(never)},
        **{key: value for key, value in search.items() if not isinstance(value, str)},
    )
    (model.bfloat16() if name in _IN_BFLOAT16 else model).save_pretrained(folder)
    return model.float()


def _import(source, workdir, name):
    pretrained = importing.open_pretrained(source, workdir, LanguagePair(*_FAMILIES[name][3]))
    workdir.mkdir()
    importing.write_workdir(pretrained, importing.read_params(pretrained), workdir)


def _predictor(workdir, sharded):
    """On all eight devices."""
    predictor = flaxformer_lite.load(workdir)
    if not sharded:
        return predictor
    config = predictor.config
    layout = MeshLayout(MeshConfig(2, 2, 2), dataclasses.replace(config.logical_axis_rules, vocab="none"))
    shapes = layout.shapes(lambda: init_params(predictor.module_of(config.decode), 0))
    params = jax.device_put(predictor.params, jax.tree.map(lambda x: x.sharding, shapes))
    return Predictor(config, predictor.vocabularies, params, predictor.step, layout)


def _generate(model, vocabularies, beams):
    """Outputs of the reference for each line: ids from after the start token to the end token, and scores of beams."""
    rows = tokenize(vocabularies[0], _LINES)
    lengths = rows.lengths
    pad, end = vocabularies[0].special.pad, vocabularies[0].special.end
    ids = np.full((len(_LINES), lengths.max()), pad)
    for row, start, length in zip(ids, rows.offsets, lengths, strict=False):
        row[:length] = rows.ids[start : start + length]
    mask = np.arange(ids.shape[1]) < lengths[:, None]
    found = model.generate(
        torch.tensor(ids),
        attention_mask=torch.tensor(mask).long(),
        num_beams=beams,
        num_return_sequences=beams,
        **{"return_dict_in_generate": True, "output_scores": True},
        **({"early_stopping": False, "length_penalty": 1.0, "repetition_penalty": 1.0} if beams == 1 else {}),
    )
    outputs = [row[1:].tolist() for row in found.sequences]
    outputs = [row[: row.index(end) + 1] if end in row else row for row in outputs]
    scores = found.sequences_scores.tolist() if beams > 1 else [0.0] * len(outputs)
    return [outputs[i : i + beams] for i in range(0, len(outputs), beams)], np.reshape(scores, (-1, beams))


@pytest.mark.parametrize("name", slow_except(_QUICK, _FAMILIES))
def test_outputs_scores_and_bytes_are_the_same(tmp_path, name):
    model = _model(tmp_path / "source", name)
    _import(tmp_path / "source", tmp_path / "work", name)
    predictor = _predictor(tmp_path / "work", name in _SHARDED)
    forced = _FAMILIES[name][4].get("forced_bos_token_id")
    if isinstance(forced, str):  # which the user sets by --target_lang
        model.generation_config.forced_bos_token_id = predictor.vocabularies[1].prefix_ids[0]
        predictor.config = dataclasses.replace(
            predictor.config, decode=dataclasses.replace(predictor.config.decode, forced_bos=True)
        )
    beam = dataclasses.replace(predictor.config.decode, n_best=4, batch_size=4)
    greedy = dataclasses.replace(beam, method="greedy", n_best=1, repetition_penalty=1.0)
    for decode, beams in ((greedy, 1), (beam, 4)):
        assert (decode.method, decode.beam_size) == ("greedy" if beams == 1 else "beam", 4)
        expected, scores = _generate(model, predictor.vocabularies, beams)
        found = predictor.n_best(_LINES, decode)
        assert [[list(prediction.ids) for prediction in row] for row in found] == expected
        if beams > 1:
            own = [[prediction.score for prediction in row] for row in found]
            np.testing.assert_allclose(own, scores, rtol=1e-5, atol=2e-5)
    assert len({tuple(row[0]) for row in expected}) > 1, "the outputs must differ"

    exported = _exported(tmp_path / "work", tmp_path / "exported")
    state, again = model.state_dict(), exported.state_dict()
    assert state.keys() == again.keys()
    assert {str(tensor.dtype) for tensor in again.values()} == {f"torch.{predictor.config.precision.param_dtype}"}
    assert (predictor.config.precision.param_dtype == "bfloat16") == (name in _IN_BFLOAT16)
    assert all(torch.equal(state[key], again[key].float()) for key in state)
    exported.generation_config.max_length, exported.generation_config.num_beams = _LIMIT, 4
    if isinstance(forced, str):
        exported.generation_config.forced_bos_token_id = predictor.vocabularies[1].prefix_ids[0]
    assert _generate(exported.float(), predictor.vocabularies, 4)[0] == expected

    _import(tmp_path / "exported", tmp_path / "work again", name)
    _exported(tmp_path / "work again", tmp_path / "exported again")
    names = sorted(path.name for path in (tmp_path / "exported").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "exported again").iterdir())
    assert filecmp.cmpfiles(tmp_path / "exported", tmp_path / "exported again", names, shallow=False)[0] == names


@pytest.mark.parametrize("name", slow_except(["umt5"], ["umt5", "mbart"]))
def test_a_conversion_is_verified_or_refused(tmp_path, name, capsys):
    _model(tmp_path / "source", name)
    if name == "umt5":  # as published: its logits are not scaled
        settings = tmp_path / "source/config.json"
        settings.write_text(json.dumps(json.loads(settings.read_text()) | {"tie_word_embeddings": False}))
    pretrained = importing.open_pretrained(tmp_path / "source", tmp_path / "work", LanguagePair(*_FAMILIES[name][3]))
    params = importing.read_params(pretrained)
    arguments = (tmp_path / "source", pretrained.config, pretrained.vocabularies)
    verify.verify(*arguments, params, tmp_path / "conversion.json")
    assert (
        "the same output for 100% of sources with greedy search, for 100% with beam search" in capsys.readouterr().err
    )
    found = json.loads((tmp_path / "conversion.json").read_text())
    sides = [f"encoder layer {i}" for i in range(3)] + [f"decoder layer {i}" for i in range(2)]
    assert list(found["layers"]) == sides
    assert found["compared"]["reference"].startswith(f"transformers {transformers.__version__}, torch ")
    assert (found["tolerance"], found["compared"]["converted"].split(", ", 1)[1]) == (
        1e-3,
        "float32 weights, in float32",
    )
    compared = found["layers"] | {"logits": found["logits"]}
    assert not {name: layer for name, layer in compared.items() if not layer["difference"] < 1e-4 * layer["largest"]}

    params["encoder"]["layers_1"]["feed_forward"]["up"]["kernel"] += 0.1
    with pytest.raises(
        InputError,
        match=r"differs from transformers:\n  encoder layer 1 differs by .*\n  encoder layer 2 .*(\n  .*)*\n  logits",
    ):
        verify.verify(*arguments, params, tmp_path / "conversion.json")


def test_a_decoder_deeper_than_the_encoder_is_verified(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(_FAMILIES, "deep", ("T5", files.byt5, _T5 | {"num_layers": 1}, ("", ""), {}))
    _model(tmp_path / "source", "deep")
    pretrained = importing.open_pretrained(tmp_path / "source", tmp_path / "work", LanguagePair("", ""))
    params = importing.read_params(pretrained)
    verify.verify(tmp_path / "source", pretrained.config, pretrained.vocabularies, params, tmp_path / "conversion.json")
    assert "verified with transformers" in capsys.readouterr().err


def _exported(workdir, target):
    target.mkdir()
    trained = exporting.load_trained(workdir, "best")
    exporting.write_pretrained(trained, exporting.choose_family(trained), target)
    return transformers.AutoModelForSeq2SeqLM.from_pretrained(target).eval()


def test_outputs_agree_if_they_are_the_same_up_to_the_end_token():
    """The reference's beam search repeats the end token after it where padding is 0."""
    special = SpecialIds(pad=0, end=1, begin=0, unknown=2)
    expected = torch.tensor([[0, 8, 1, 1], [0, 8, 9, 1], [0, 8, 1, 1]])
    reference = types.SimpleNamespace(generate=lambda *_: expected)
    found = np.array([[8, 1, 0], [8, 9, 1], [8, 9, 1]])
    assert verify._output_agreement(reference, None, {}, special, found, 4) == 2 / 3
