"""Provenance of a run, and runs that are reproduced from its work directory."""

import json
import subprocess

import jax
import pytest

from flaxformer_lite.checkpoints import run_provenance
from flaxformer_lite.checkpoints.work_dir import WorkDir
from flaxformer_lite.cli.main import main
from flaxformer_lite.data.dataset import load_training
from flaxformer_lite.errors import InputError
from tests.micro_config import micro, use_devices
from tests.training_runs import UPDATE, Runs, assert_equal_records


@pytest.fixture
def runs(tmp_path, monkeypatch):
    use_devices(monkeypatch, 1)
    return Runs(tmp_path, monkeypatch)


def record(folder):
    return json.loads((folder / "provenance.json").read_text())


def text_config(folder, training, validation="ef\tfe\ng\tgabce\n", **changes):
    (folder / "train.tsv").write_text(training)
    (folder / "validation.tsv").write_text(validation)
    files = {"data.text.train": (f"{folder}/train.tsv",), "data.text.validation": (f"{folder}/validation.tsv",)}
    return micro({"data.task": "text", **files, **changes})


TRAINING = "".join(f"{a}{b}\t{b}{a}\n" for a in "abcdefg" for b in "cdefg")


def test_a_reproduced_run_is_the_same_to_the_last_bit(runs, capsys):
    assert runs.start("one") == 0
    assert main(["train", f"--reproduce={runs.folder}/one", f"--workdir={runs.folder}/two"]) == 0
    assert "differs from" not in capsys.readouterr().err
    assert_equal_records(runs.record("two"), runs.record("one"))
    assert WorkDir(runs.folder / "two").config() == micro()
    assert record(runs.folder / "two")["data"] == record(runs.folder / "one")["data"]


def test_every_start_is_recorded_and_changes_between_them_are_reported(runs, monkeypatch, capsys):
    runs.kill_at("run", UPDATE, 9)
    monkeypatch.setattr(run_provenance.metadata, "version", lambda name: "0.0.1" if name == "optax" else "9.9")
    assert runs.start("run") == 0
    stderr = capsys.readouterr().err
    assert "packages.optax: " in stderr
    assert "→ '0.0.1'" in stderr
    first, second = record(runs.folder / "run")["starts"]
    assert (first["step"], second["step"]) == (0, 8)
    assert first["devices"] == {"kind": jax.devices()[0].device_kind, "count": 1, "processes": 1}
    assert first["command"]
    assert {"jax", "numpy", "flax"} <= first["packages"].keys()
    assert set(first) == {*second} == {*run_provenance.describe_start(micro()), "step", "config_changes"}


def test_the_distribution_of_an_extension_is_recorded():
    start = run_provenance.describe_start(micro({"optim.optimizer": "optax:sgd"}))
    assert start["extensions"] == {"optax:sgd": f"optax {run_provenance.metadata.version('optax')}"}
    assert run_provenance.describe_start(micro())["extensions"] == {}


def test_a_difference_is_reported_once_for_all_starts_that_have_it():
    now = run_provenance.describe_start(micro())
    other = now | {"time": "then", "python": "2.7.18", "host": "elsewhere"}
    (line,) = run_provenance.differences([other, other | {"time": "later"}, now], now)
    assert line == f"then (then → now): python: '2.7.18' → '{now['python']}'"


def test_different_data_have_different_fingerprints(tmp_path):
    def of(*given, **changes):
        config = text_config(tmp_path, *given, **{"data.max_target_length": 3}, **changes)
        return run_provenance.fingerprint(load_training(config.data, 0))

    found = of(TRAINING)
    assert found["training"]["examples"] == 35
    assert found["training"]["source_tokens"] == 3 * 35
    others = [
        of(TRAINING.replace("ac\tca", "ac\tac")),  # as many tokens, the same vocabulary
        of("\n".join(reversed(TRAINING.splitlines()))),
        of(TRAINING, "ef\tfe\na\tgabce\n"),
        of(TRAINING, "ef\tfe\ng\tgabcd\n"),  # cut off for the loss; decodes are measured against it
        of(TRAINING, **{"data.target_vocabulary.kind": "byte"}),
    ]
    for other in others:
        assert other != found
    assert found["vocabularies"] == others[0]["vocabularies"]
    assert of(TRAINING) == found
    assert found["training"] == others[2]["training"] == others[3]["training"]
    assert found["validation"]["hash"] == others[3]["validation"]["hash"]
    assert found["vocabularies"]["source"] == others[4]["vocabularies"]["source"]


def test_other_data_are_refused_when_a_run_is_resumed_or_reproduced(runs, tmp_path):
    config = text_config(tmp_path, TRAINING)
    runs.kill_at("run", UPDATE, 5, config)
    before = record(runs.folder / "run")
    text_config(tmp_path, TRAINING.replace("ac\tca", "ac\tac"))
    message = (
        r"(?s)/run: the data differ from those of this run \(there → here\).*training\.hash: .*restore them, or choose"
    )
    with pytest.raises(InputError, match=message):
        runs.start("run", config)
    assert record(runs.folder / "run") == before
    (runs.folder / "run" / "provenance.json").unlink()  # the remedy of the message
    assert runs.start("run", config) == 0


def test_a_reproduction_refuses_other_data_and_works_when_they_are_restored(runs, tmp_path, capsys):
    config = text_config(tmp_path, TRAINING)
    assert runs.start("one", config) == 0
    command = ["train", f"--reproduce={runs.folder}/one", f"--workdir={runs.folder}/two"]
    text_config(tmp_path, TRAINING + "zz\tzz\n")
    assert main(command) == 2
    stderr = capsys.readouterr().err
    assert f"{runs.folder}/one: the data differ from those of this run" in stderr
    assert "training.examples: 35 → 36" in stderr
    text_config(tmp_path, TRAINING)
    assert main(command) == 0
    assert_equal_records(runs.record("two"), runs.record("one"))


def test_only_the_devices_and_layout_may_differ(runs, capsys):
    assert runs.start("one") == 0
    command = ["train", f"--reproduce={runs.folder}/one", f"--workdir={runs.folder}/two"]
    assert main([*command, "--config=configs/tiny.py"]) == 2
    assert "--config=configs/tiny.py: --reproduce uses the settings of" in capsys.readouterr().err
    assert main([*command, "--config.model.encoder.width=32"]) == 2
    assert "--config.model.encoder.width=32: --reproduce takes this setting from" in capsys.readouterr().err
    assert main([*command, "--config.mesh.fsdp=many"]) == 2
    assert "mesh.fsdp" in capsys.readouterr().err
    assert main([*command, "--config.train.max_compiles=7"]) == 0
    assert "(then → now): train.max_compiles: 0 → 7" in capsys.readouterr().err
    assert_equal_records(runs.record("two"), runs.record("one"))


@pytest.mark.parametrize("content", ["", "[]", '{"starts": [1]}', '{"starts": 3}', '{"data": []}'])
def test_a_damaged_record_is_named(content, tmp_path):
    (tmp_path / "provenance.json").write_text(content)
    with pytest.raises(InputError, match=r"provenance\.json: .*restore it from a copy"):
        WorkDir(tmp_path).starts()


def test_a_run_is_not_reproduced_into_itself(tmp_path, capsys):
    WorkDir(tmp_path).claim(micro())
    assert main(["train", f"--reproduce={tmp_path}", f"--workdir={tmp_path}/."]) == 2
    assert "is the run to reproduce; name another directory" in capsys.readouterr().err


def test_a_directory_without_a_run_cannot_be_reproduced(tmp_path, capsys):
    assert main(["train", f"--reproduce={tmp_path}/no", f"--workdir={tmp_path}/two"]) == 2
    assert f"{tmp_path}/no/config.json: there is no such file" in capsys.readouterr().err
    assert not (tmp_path / "two").exists()


def git(folder, *words):
    author = ("-c", "user.name=x", "-c", "user.email=x@example.com")
    subprocess.run(["git", "-C", folder, *author, *words], check=True, capture_output=True)


def test_the_commit_is_that_of_the_code_and_not_of_a_surrounding_repository(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "__init__.py").write_text("")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "nothing")
    assert run_provenance.describe_code(tmp_path / "inside") == {}
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "code")
    git(tmp_path, "tag", "v1-rc")
    found = run_provenance.describe_code(tmp_path / "inside")
    assert len(found["commit"]) == 40
    assert found["clean"] is True
    (tmp_path / "inside" / "__init__.py").write_text("changed = True\n")
    assert run_provenance.describe_code(tmp_path / "inside") == found | {"clean": False}


def test_without_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run_provenance.describe_code(tmp_path) == {}
