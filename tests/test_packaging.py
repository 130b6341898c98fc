"""The content of an installed wheel, and training in a directory with a user's own ``configs/``."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from flaxformer_lite.run_cards import tiny
from tests.wheel import install_wheel

_CONFIG = """
from configs.shared import STEPS
from flaxformer_lite.run_cards import tiny


def get_config():
    config = tiny.get_config()
    config.data.reverse.examples = 200
    config.train.steps = STEPS
    config.train.eval_every = 2
    config.optim.warmup_steps = 1
    config.eval.max_examples = 8
    return config
"""


def test_run_cards_are_importable_in_a_checkout(repository):
    assert Path(tiny.__file__).resolve() == repository / "configs" / "tiny.py"


def test_run_cards_are_importable_without_an_installation(repository):
    code = f"import sys; sys.path[:0] = [{str(repository)!r}]; from flaxformer_lite.run_cards import text, tiny"
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")


@pytest.mark.slow
def test_an_installed_wheel_trains_a_config_of_the_users_own(repository, tmp_path):
    environment = install_wheel(repository, tmp_path)
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"flaxformer_lite"}
    wanted = {"run_cards/tiny.py", "run_cards/sweeps/lr.py", "config/defaults.py", "py.typed", "compare/web/page.html"}
    assert {f"flaxformer_lite/{name}" for name in wanted} <= set(names)

    user = tmp_path / "user"
    (user / "configs").mkdir(parents=True)
    (user / "configs" / "__init__.py").write_text("")
    (user / "configs" / "shared.py").write_text("STEPS = 4\n")
    (user / "configs" / "mine.py").write_text(_CONFIG)

    def run(*command):
        return subprocess.run(
            command, cwd=user, env=environment, input="abc\n", capture_output=True, text=True, check=True
        ).stdout

    where = run("python", "-c", "import flaxformer_lite; print(flaxformer_lite.__file__, flaxformer_lite.__version__)")
    assert where.startswith(str(tmp_path / "venv"))
    assert "0.1.0" in where
    assert "  tiny " in run("flaxformer-lite", "configs")
    run("flaxformer-lite", "train", "--config=configs/mine.py", "--workdir=runs/mine")
    assert (user / "runs" / "mine" / "finished.json").is_file()
    assert run("flaxformer-lite", "decode", "--workdir=runs/mine").count("\n") == 1
    smoke = ["--config.train.steps=4", "--config.optim.warmup_steps=1", "--config.data.reverse.examples=200"]
    run("flaxformer-lite", "plan", "--config=tiny", "--devices=2", "--chip=h100")
    run("flaxformer-lite", "data", "--config=tiny", *smoke)
