"""A trained run whose work directory is moved and used elsewhere, by the command and from Python."""

import json
import os
import re
import shutil
import subprocess
import sys

import jax
import pytest

import flaxformer_lite
from flaxformer_lite.cli.main import main
from tests.micro_config import flags, use_devices

LINES = ["abc", "", "jihg", "ab", " "]


@pytest.fixture(scope="module")
def trained(repository, tmp_path_factory):
    """The work directory of a small run, whose best checkpoint is not its latest."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    changes = {"train.keep_latest": 2, "eval.best_metric": "token_accuracy", "decode.max_length_offset": 2}
    with pytest.MonkeyPatch.context() as patch:
        use_devices(patch, 1)
        patch.chdir(repository)
        assert main(["train", *flags(changes), f"--workdir={folder}"]) == 0
    return folder


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    """A copy of the directory, outside of the repository."""
    use_devices(monkeypatch, 1)
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(trained, tmp_path / "elsewhere")


def steps_of(run):
    return sorted(int(path.name) for path in (run / "checkpoints").iterdir())


def test_from_python(run):
    model = flaxformer_lite.load(run)
    found = model.decode(LINES)
    assert [bool(text) for text in found[1::3]] == [False, False]
    assert jax.tree.leaves(model.params)[0].shape
    config = json.loads((run / "config.json").read_text())
    assert model.params["target_embedding"]["table"].shape[1] == config["model"]["decoder"]["width"]
    history = json.loads((run / "checkpoints" / "12" / "run" / "metadata").read_text())["history"]
    best = max(history, key=lambda evaluation: evaluation[1])[0]
    assert model.step == best
    assert flaxformer_lite.load(str(run), step="latest").step == 12
    assert {flaxformer_lite.load(run, step=step).step for step in steps_of(run)} == set(steps_of(run))


def test_the_command_needs_the_work_directory_only(run, tmp_path):
    """Only the package is available, and standard error has only the package's own lines."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "flaxformer_lite").symlink_to(os.path.dirname(flaxformer_lite.__file__))
    environment = os.environ | {
        "PYTHONPATH": str(tmp_path / "site"),
        "XLA_FLAGS": os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1"),
    }
    command = "import sys; from flaxformer_lite.cli.main import main; sys.exit(main())"
    ended = subprocess.run(
        [sys.executable, "-c", command, "decode", "--workdir=elsewhere", "--step=latest"],
        cwd=tmp_path,
        env=environment,
        input="\n".join(LINES).encode(),
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr.decode()
    assert ended.stdout.decode().splitlines() == flaxformer_lite.load(run, "latest").decode(LINES)
    stderr = ended.stderr.decode().splitlines()
    assert [re.sub(r"[\d.]+ s$", "… s", line) for line in stderr] == [
        "line 5: not in the source vocabulary: ' '",
        "compiling the greedy search for 8×8 …",
        "compiled in … s",
    ]


def test_n_best_scores_files_and_steps(run, capfd):
    (run / "words").write_text("abc\n\nde")
    arguments = [f"--workdir={run}", f"--input={run / 'words'}", f"--output={run / 'out'}"]
    assert main(["decode", *arguments, "--n_best=2", "--beam_size=3", "--scores", f"--step={steps_of(run)[0]}"]) == 0
    rows = [line.split("\t") for line in (run / "out").read_text().splitlines()]
    assert len(rows) == 6
    assert float(rows[0][0]) >= float(rows[1][0])
    assert rows[2] == ["0.0000", ""]
    assert capfd.readouterr().out == ""


def test_evaluate_gives_the_metrics_of_training(run, capfd):
    assert main(["evaluate", f"--workdir={run}", "--step=12", "--max_examples=8", "--json"]) == 0
    captured = capfd.readouterr()
    found = json.loads(captured.out)
    assert (found["step"], found["split"]) == (12, "validation")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    at_the_end = lines[-1]
    assert found["metrics"]["exact_match"] == at_the_end["eval/exact_match"]
    assert found["metrics"].keys() == {"loss", "token_accuracy", "exact_match"}
    assert all("compil" in line for line in captured.err.splitlines())


def test_a_damaged_best_checkpoint_is_skipped_with_a_message(run, capfd):
    best = flaxformer_lite.load(run).step
    os.truncate(run / "checkpoints" / str(best) / "params" / "manifest.ocdbt", 20)
    (run / "words").write_text("abc\n")
    assert main(["decode", f"--workdir={run}", f"--input={run / 'words'}"]) == 0
    out, stderr = capfd.readouterr()
    assert out.count("\n") == 1
    assert re.match(rf"checkpoint {run}/checkpoints/{best} is damaged \(.*\) and skipped\ncompiling the greedy", stderr)
    assert stderr.count("\n") == 3
