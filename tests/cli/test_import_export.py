"""`import` and `export` from the command line: what is wrong is named, all of it, and nothing half-made is left."""

import json

import ml_dtypes
import numpy as np
import pytest

from flaxformer_lite.cli.main import main
from flaxformer_lite.interop import weights
from flaxformer_lite.interop.families.tensors import pairs
from flaxformer_lite.interop.folder import Folder
from flaxformer_lite.interop.importing import model_shapes
from tests.interop import tokenizer_files as files

_CONFIG = {
    **{"model_type": "t5", "d_model": 12, "d_kv": 5, "d_ff": 14, "num_layers": 2, "num_decoder_layers": 1},
    **{"num_heads": 3, "relative_attention_num_buckets": 8, "feed_forward_proj": "gated-gelu"},
}


def _published(folder, config=None, drop=(), add=None, dtype=np.float32):
    """A T5 of random numbers; nothing is compiled, and neither torch nor transformers is asked."""
    config = _CONFIG | files.t5(folder) | (config or {})
    files.write(folder, {"config.json": config})
    rng = np.random.default_rng(0)
    names, shapes = model_shapes("t5", Folder(folder).config, "all")
    arrays = {
        pair.theirs: 0.4 * rng.standard_normal(pair.layout.shape(pair.shape)) for pair in pairs(names, shapes)
    } | (add or {})
    arrays = {name: array.astype(dtype) for name, array in sorted(arrays.items()) if name not in drop}
    tensors = {name: weights.Tensor(folder, array.shape, array.dtype) for name, array in arrays.items()}
    weights.write(folder, tensors, arrays.__getitem__)
    return arrays


def _fails(capsys, *words):
    capsys.readouterr()
    assert main(list(words)) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_weights_come_in_and_go_out_bit_by_bit(tmp_path, dtype):
    arrays = _published(tmp_path / "source", dtype=dtype)
    quiet = "--proof=no"
    assert main(["import", f"--source={tmp_path}/source", f"--workdir={tmp_path}/work", quiet]) == 0
    assert main(["export", f"--workdir={tmp_path}/work", f"--target={tmp_path}/out", quiet]) == 0
    read = weights.Weights(Folder(tmp_path / "out"))
    assert read.tensors.keys() == arrays.keys()
    for name, array in arrays.items():
        assert read.read(name).tobytes() == array.tobytes(), name
    assert (tmp_path / "out/model.safetensors").read_bytes() == (tmp_path / "source/model.safetensors").read_bytes()


def test_an_imported_model_is_trained_further_and_exported(tmp_path):
    _published(tmp_path / "source")
    assert main(["import", f"--source={tmp_path}/source", f"--workdir={tmp_path}/work", "--proof=no"]) == 0
    text = tmp_path / "text.tsv"
    text.write_text("the cat\tHello world\nHello\tthe cat sat\n" * 8)
    settings = {
        **{"train.init_from": f"{tmp_path}/work", "train.steps": 2, "train.eval_every": 2, "optim.warmup_steps": 1},
        **{"train.batch_size": 8, "data.max_source_length": 8, "data.max_target_length": 8, "eval.max_examples": 2},
        **{f"data.text.{split}": text for split in ("train", "validation")},
        **{"decode.max_length_ratio": 0.0, "decode.max_length_offset": 4},
    }
    flags = [f"--config.{key}={value}" for key, value in settings.items()]
    assert main(["train", f"--config={tmp_path}/work/config.json", *flags, f"--workdir={tmp_path}/mine"]) == 0
    assert main(["export", f"--workdir={tmp_path}/mine", f"--target={tmp_path}/out", "--proof=no"]) == 0
    kept = {path.name for path in (tmp_path / "source").iterdir()} | {"generation_config.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == kept
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config == config | _CONFIG
    before, after = (weights.Weights(Folder(tmp_path / name)) for name in ("source", "out"))
    moved = [np.abs(before.read(name) - after.read(name)).max() for name in before.tensors]
    assert 0 < max(moved) < 1e-2, "it learned, from where it was"


def test_sharded_files_are_read_and_written(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "_SHARD_BYTES", 6_000)
    arrays = _published(tmp_path / "source")
    assert len(list((tmp_path / "source").glob("*.safetensors"))) > 2
    index = json.loads((tmp_path / "source/model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(array.nbytes for array in arrays.values())
    read = weights.Weights(Folder(tmp_path / "source"))
    assert all(np.array_equal(read.read(name), array) for name, array in arrays.items())
    assert read.tensors.keys() == arrays.keys()
    next((tmp_path / "source").glob("*-00002-*")).unlink()
    with pytest.raises(Exception, match=r"names files that are not there: model-00002-of-"):
        weights.Weights(Folder(tmp_path / "source"))


def test_all_tensors_that_do_not_fit_are_listed(tmp_path, capsys):
    name = "encoder.block.0.layer.0.SelfAttention.q.weight"
    wrong = {"encoder.final_layer_norm.weight": np.ones(5), "surprise.weight": np.ones((2, 3))}
    wrong["lm_head.weight"] = np.ones((7, 12))
    _published(tmp_path / "source", drop=[name], add=wrong)
    said = _fails(capsys, "import", f"--source={tmp_path}/source", f"--workdir={tmp_path}/work")
    assert f"{name} is missing: [15, 12]" in said
    assert "encoder.final_layer_norm.weight has shape [5], config.json makes it [12]" in said
    assert "surprise.weight [2, 3] is no part of this model" in said
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "bert"}, "model_type='bert'; supported are bart, m2m_100"),
        ({"encoder_layerscale": 0.5, "wild": [1]}, "encoder_layerscale=0.5, wild=[1]"),
        (
            {"feed_forward_proj": "gated-cubic"},
            "feed_forward_proj='gated-cubic' with dense_act_fn='cubic' is not supported",
        ),
        (
            {"num_beams": 3, "typical_p": 0.5, "suppress_tokens": [1]},
            "typical_p=0.5, suppress_tokens with 1, which ends",
        ),
        ({"num_beams": 3, "early_stopping": "soon"}, "early_stopping='soon'"),
        ({"model_type": None}, "config.json has no model_type; supported are bart"),
        (
            {"d_model": "12", "num_heads": None},
            "another type than they should be: d_model='12' (such as 512), num_heads=None",
        ),
        ({"num_beams": "four", "bad_words_ids": [[9999]]}, "what cannot be: num_beams='four', [9999] as tokens"),
        ({"bad_words_ids": 3}, "what cannot be: 3 as tokens"),
        ({"eos_token_id": [1, 9999]}, "its special ones reach to 9999"),
        ({"is_encoder_decoder": False}, "says is_encoder_decoder=False: this is half a model"),
    ],
)
def test_settings_that_are_not_supported_are_named(tmp_path, capsys, config, said):
    _published(tmp_path / "source")
    values = json.loads((tmp_path / "source/config.json").read_text()) | config
    files.write(tmp_path / "source", {"config.json": values})
    assert said in _fails(capsys, "import", f"--source={tmp_path}/source", f"--workdir={tmp_path}/work")


def test_pickled_and_half_precision_and_damaged_weights_are_refused(tmp_path, capsys, monkeypatch):
    command = ("import", f"--source={tmp_path}/source", f"--workdir={tmp_path}/work")
    _published(tmp_path / "source", dtype=np.float16)
    assert "exceeds the 65504 that float16 reaches to" in _fails(capsys, *command)
    file = tmp_path / "source/model.safetensors"
    file.write_bytes(file.read_bytes()[:200])
    assert "model.safetensors: cannot be read" in _fails(capsys, *command)
    file.rename(tmp_path / "source/pytorch_model.bin")
    said = _fails(capsys, *command)
    assert "pickled: reading them runs whatever code" in said
    assert "save_pretrained" in said
    (tmp_path / "source/pytorch_model.bin").unlink()
    assert "there are no weights" in _fails(capsys, *command)
    (tmp_path / "source/model.safetensors.index.json").write_text('{"weight_map": 3}')
    assert "index.json: has no weight_map, which says" in _fails(capsys, *command)
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "this folder is not yours to read" in _fails(capsys, *command)
    monkeypatch.undo()
    (tmp_path / "source/config.json").unlink()
    assert "there is no config.json; is it the folder of a published model?" in _fails(capsys, *command)


def test_what_is_there_stays_as_it_is(tmp_path, capsys):
    (tmp_path / "work").mkdir()
    (tmp_path / "work/mine.txt").write_text("mine")
    said = _fails(capsys, "import", f"--source={tmp_path}/nowhere", f"--workdir={tmp_path}/work")
    assert "work is there already; name a new folder" in said
    command = ("import", f"--workdir={tmp_path}/new")
    assert "nowhere: there is no such folder" in _fails(capsys, *command, f"--source={tmp_path}/nowhere")
    assert "mine.txt: this is a file; name the folder" in _fails(capsys, *command, f"--source={tmp_path}/work/mine.txt")


def test_a_model_that_no_family_says_is_refused(tmp_path, capsys):
    from tests.folders import make_folder
    from tests.micro import micro

    make_folder(tmp_path / "work", micro({"model.norm": "around"}))
    said = _fails(capsys, "export", f"--workdir={tmp_path}/work", f"--target={tmp_path}/out")
    assert "no published family has such a model; the nearest is" in said
    assert "config.model.norm='around'" in said
    pair = f"--workdir={tmp_path}/work,{tmp_path}/work"
    assert "an ensemble is no model of a published family" in _fails(capsys, "export", pair, f"--target={tmp_path}/out")
    make_folder(tmp_path / "rnn", micro({"model.decoder": "rnn"}))
    said = _fails(capsys, "export", f"--workdir={tmp_path}/rnn", f"--target={tmp_path}/out")
    assert "error: config.model.decoder='rnn': published families are Transformers" in said
    assert not (tmp_path / "out").exists()


def test_a_work_folder_and_a_published_one_are_told_apart(tmp_path, capsys):
    files.write(tmp_path / "published", {"config.json": _CONFIG})
    there = f"{tmp_path}/published"
    said = _fails(capsys, "export", f"--workdir={there}", f"--target={tmp_path}/out")
    assert f"make a work folder of it: flaxformer-lite import --source={there} --workdir=FOLDER" in said
    said = _fails(capsys, "train", f"--config={there}/config.json", f"--workdir={tmp_path}/work")
    assert "is of a published model; make a work folder of it" in said
    files.write(tmp_path / "published", {"config.json": {"train": {}, "model": {}}})
    assert "is a work folder already" in _fails(capsys, "import", f"--source={there}", f"--workdir={tmp_path}/work")
