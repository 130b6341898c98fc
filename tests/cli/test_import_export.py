"""The commands `import` and `export`: all problems are listed, and no partial directory is left."""

import json

import ml_dtypes
import numpy as np
import pytest

from flaxformer_lite.cli.main import main
from flaxformer_lite.interop import safetensors_io
from flaxformer_lite.interop.families.name_map import match_params
from flaxformer_lite.interop.importing import names_and_shapes
from flaxformer_lite.interop.pretrained_dir import PretrainedDir
from tests.interop import tokenizer_files as files

_CONFIG = {
    **{"model_type": "t5", "d_model": 12, "d_kv": 5, "d_ff": 14, "num_layers": 2, "num_decoder_layers": 1},
    **{"num_heads": 3, "relative_attention_num_buckets": 8, "feed_forward_proj": "gated-gelu"},
}


def _pretrained(folder, config=None, drop=(), add=None, dtype=np.float32):
    """A T5 with random weights, made without compilation, torch and transformers."""
    config = _CONFIG | files.t5(folder) | (config or {})
    files.write(folder, {"config.json": config})
    rng = np.random.default_rng(0)
    names, shapes = names_and_shapes("t5", PretrainedDir(folder).config, "all")
    arrays = {
        match.tensor: 0.4 * rng.standard_normal(match.layout.tensor_shape(match.shape))
        for match in match_params(names, shapes)
    } | (add or {})
    arrays = {name: array.astype(dtype) for name, array in sorted(arrays.items()) if name not in drop}
    tensors = {name: safetensors_io.TensorInfo(folder, array.shape, array.dtype) for name, array in arrays.items()}
    safetensors_io.write_safetensors(folder, tensors, arrays.__getitem__)
    return arrays


def _fails(capsys, *words):
    capsys.readouterr()
    assert main(list(words)) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_weights_survive_import_and_export_bit_by_bit(tmp_path, dtype):
    arrays = _pretrained(tmp_path / "source", dtype=dtype)
    no_verify = "--verify=no"
    assert main(["import", f"--source={tmp_path}/source", f"--workdir={tmp_path}/work", no_verify]) == 0
    assert main(["export", f"--workdir={tmp_path}/work", f"--target={tmp_path}/out", no_verify]) == 0
    reader = safetensors_io.TensorReader(PretrainedDir(tmp_path / "out"))
    assert reader.tensors.keys() == arrays.keys()
    for name, array in arrays.items():
        assert reader.read(name).tobytes() == array.tobytes(), name
    assert (tmp_path / "out/model.safetensors").read_bytes() == (tmp_path / "source/model.safetensors").read_bytes()


def test_an_imported_model_is_fine_tuned_and_exported(tmp_path):
    _pretrained(tmp_path / "source")
    assert main(["import", f"--source={tmp_path}/source", f"--workdir={tmp_path}/work", "--verify=no"]) == 0
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
    assert main(["export", f"--workdir={tmp_path}/mine", f"--target={tmp_path}/out", "--verify=no"]) == 0
    kept = {path.name for path in (tmp_path / "source").iterdir()} | {"generation_config.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == kept
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config == config | _CONFIG
    before, after = (safetensors_io.TensorReader(PretrainedDir(tmp_path / name)) for name in ("source", "out"))
    moved = [np.abs(before.read(name) - after.read(name)).max() for name in before.tensors]
    assert 0 < max(moved) < 1e-2, "it was trained, starting from the imported weights"


def test_sharded_files_are_read_and_written(tmp_path, monkeypatch):
    monkeypatch.setattr(safetensors_io, "_SHARD_BYTES", 6_000)
    arrays = _pretrained(tmp_path / "source")
    assert len(list((tmp_path / "source").glob("*.safetensors"))) > 2
    index = json.loads((tmp_path / "source/model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(array.nbytes for array in arrays.values())
    reader = safetensors_io.TensorReader(PretrainedDir(tmp_path / "source"))
    assert all(np.array_equal(reader.read(name), array) for name, array in arrays.items())
    assert reader.tensors.keys() == arrays.keys()
    next((tmp_path / "source").glob("*-00002-*")).unlink()
    with pytest.raises(Exception, match=r"lists files that are missing: model-00002-of-"):
        safetensors_io.TensorReader(PretrainedDir(tmp_path / "source"))


def test_all_tensors_that_do_not_fit_are_listed(tmp_path, capsys):
    name = "encoder.block.0.layer.0.SelfAttention.q.weight"
    wrong = {"encoder.final_layer_norm.weight": np.ones(5), "surprise.weight": np.ones((2, 3))}
    wrong["lm_head.weight"] = np.ones((7, 12))
    _pretrained(tmp_path / "source", drop=[name], add=wrong)
    message = _fails(capsys, "import", f"--source={tmp_path}/source", f"--workdir={tmp_path}/work")
    assert f"{name} is missing: [15, 12]" in message
    assert "encoder.final_layer_norm.weight has shape [5], expected [12] from config.json" in message
    assert "surprise.weight [2, 3] is not part of this model" in message
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "bert"}, "model_type='bert'; supported are bart, m2m_100"),
        ({"encoder_layerscale": 0.5, "wild": [1]}, "encoder_layerscale=0.5, wild=[1]"),
        (
            {"feed_forward_proj": "gated-cubic"},
            "feed_forward_proj='gated-cubic' with dense_act_fn='cubic' is not supported",
        ),
        (
            {"num_beams": 3, "typical_p": 0.5, "suppress_tokens": [1]},
            "typical_p=0.5, suppress_tokens with the end token 1",
        ),
        ({"num_beams": 3, "early_stopping": "soon"}, "early_stopping='soon'"),
        ({"model_type": None}, "config.json has no model_type; supported are bart"),
        (
            {"d_model": "12", "num_heads": None},
            "values of a wrong type: d_model='12' (such as 512), num_heads=None",
        ),
        ({"num_beams": "four", "bad_words_ids": [[9999]]}, "invalid values: num_beams='four', token ids [9999]"),
        ({"bad_words_ids": 3}, "invalid values: token ids 3"),
        ({"eos_token_id": [1, 9999]}, "the special token ids reach 9999"),
        ({"is_encoder_decoder": False}, "has is_encoder_decoder=False, so it is not an encoder-decoder"),
    ],
)
def test_unsupported_settings_are_named(tmp_path, capsys, config, message):
    _pretrained(tmp_path / "source")
    values = json.loads((tmp_path / "source/config.json").read_text()) | config
    files.write(tmp_path / "source", {"config.json": values})
    assert message in _fails(capsys, "import", f"--source={tmp_path}/source", f"--workdir={tmp_path}/work")


def test_pickled_and_half_precision_and_damaged_weights_are_refused(tmp_path, capsys, monkeypatch):
    command = ("import", f"--source={tmp_path}/source", f"--workdir={tmp_path}/work")
    _pretrained(tmp_path / "source", dtype=np.float16)
    assert "exceed 65504, the largest number of float16" in _fails(capsys, *command)
    file = tmp_path / "source/model.safetensors"
    file.write_bytes(file.read_bytes()[:200])
    assert "model.safetensors: cannot be read" in _fails(capsys, *command)
    file.rename(tmp_path / "source/pytorch_model.bin")
    message = _fails(capsys, *command)
    assert "the weights are pickled (pytorch_model.bin), and reading a pickle executes the code in it" in message
    assert "save_pretrained" in message
    (tmp_path / "source/pytorch_model.bin").unlink()
    assert "there are no weights" in _fails(capsys, *command)
    (tmp_path / "source/model.safetensors.index.json").write_text('{"weight_map": 3}')
    assert "index.json: has no weight_map from tensors to files" in _fails(capsys, *command)
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "this directory cannot be read" in _fails(capsys, *command)
    monkeypatch.undo()
    (tmp_path / "source/config.json").unlink()
    assert "there is no config.json; name the directory of a pretrained model" in _fails(capsys, *command)


def test_existing_directories_are_not_changed(tmp_path, capsys):
    (tmp_path / "work").mkdir()
    (tmp_path / "work/mine.txt").write_text("mine")
    message = _fails(capsys, "import", f"--source={tmp_path}/nowhere", f"--workdir={tmp_path}/work")
    assert f"error: --workdir={tmp_path}/work: exists already; choose a new directory" in message
    command = ("import", f"--workdir={tmp_path}/new")
    assert f"error: --source={tmp_path}/nowhere: there is no such directory" in _fails(
        capsys, *command, f"--source={tmp_path}/nowhere"
    )
    assert "mine.txt: is a file; name the directory" in _fails(capsys, *command, f"--source={tmp_path}/work/mine.txt")


def test_a_model_of_no_family_is_refused(tmp_path, capsys):
    from tests.micro_config import micro
    from tests.work_dirs import make_folder

    make_folder(tmp_path / "work", micro({"model.encoder.norm.placement": "sandwich"}))
    message = _fails(capsys, "export", f"--workdir={tmp_path}/work", f"--target={tmp_path}/out")
    assert "no published family has such a model; the nearest is" in message
    assert "config.model.encoder.norm.placement='sandwich'" in message
    pair = f"--workdir={tmp_path}/work,{tmp_path}/work"
    assert "an ensemble cannot be exported" in _fails(capsys, "export", pair, f"--target={tmp_path}/out")
    make_folder(tmp_path / "rnn", micro({"model.decoder.kind": "rnn"}))
    message = _fails(capsys, "export", f"--workdir={tmp_path}/rnn", f"--target={tmp_path}/out")
    assert "error: config.model.decoder.kind='rnn': in all published families both stacks are Transformers" in message
    assert not (tmp_path / "out").exists()


def test_work_directories_and_pretrained_ones_are_distinguished(tmp_path, capsys):
    files.write(tmp_path / "published", {"config.json": _CONFIG})
    there = f"{tmp_path}/published"
    for command in (
        ("export", f"--workdir={there}", f"--target={tmp_path}/out"),
        ("train", f"--config={there}/config.json", f"--workdir={tmp_path}/work"),
    ):
        message = _fails(capsys, *command)
        assert "published/config.json: belongs to a published model; import it into a work directory first" in message
    files.write(tmp_path / "published", {"config.json": {"train": {}, "model": {}}})
    assert "is a work directory already" in _fails(capsys, "import", f"--source={there}", f"--workdir={tmp_path}/work")
