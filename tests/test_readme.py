"""Commands of the documents, as they stand there: README's in a copy of the checkout on which nothing is installed."""

import os
import re
import shutil
import subprocess
import sys

import pytest

_TESTED = re.compile(r"<!-- test -->\s*```(?:bash|sh)\n(.*?)```", re.DOTALL)
_PYTHON = re.compile(r"<!-- test -->\s*```python\n(.*?)```", re.DOTALL)


@pytest.mark.slow
def test_commands_of_the_readme(repository, tmp_path):
    blocks = _TESTED.findall((repository / "README.md").read_text("utf-8"))
    assert blocks, "README.md has no ```bash block behind a line <!-- test -->"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=repository, capture_output=True, text=True, check=True)
    for name in filter(None, tracked.stdout.split("\0")):
        target = tmp_path / "copy" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(repository / name, target)
    # The tests' own interpreter, device settings and path must not leak into what a newcomer types.
    ours = ("VIRTUAL_ENV", "PYTHONPATH", "XLA_FLAGS", "JAX_PLATFORMS")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    environment["PYTEST_ADDOPTS"] = "-m 'not slow'"  # the README runs pytest, which must not run the README
    result = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", "\n".join(blocks)],
        cwd=tmp_path / "copy",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, f"{result.stdout[-3000:]}\n{result.stderr[-3000:]}"


@pytest.mark.slow
def test_commands_of_published_models(repository, tmp_path):
    """In an empty folder beside the configs, with what is installed here."""
    pytest.importorskip("ctranslate2", reason="the document serves with it: pip install -e '.[ctranslate2]'")
    pytest.importorskip("tokenizers", reason="the document reads with it: pip install -e '.[tokenizers]'")
    text = (repository / "docs/families.md").read_text("utf-8")
    python = _PYTHON.sub(lambda found: f"<!-- test -->\n```bash\npython - <<'PYTHON'\n{found[1]}PYTHON\n```", text)
    blocks = _TESTED.findall(python)
    assert len(blocks) == 4
    (tmp_path / "configs").symlink_to(repository / "configs")
    commands = tmp_path / "bin"
    commands.mkdir()
    ours = '-c "import sys; from flaxformer_lite.cli.main import main; sys.exit(main())" "$@"'
    for name, words in (("python", '"$@"'), ("flaxformer-lite", ours)):
        (commands / name).write_text(f"#!/bin/sh\nexec {sys.executable} {words}\n")
        (commands / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{commands}:{os.environ['PATH']}", "PYTHONPATH": str(repository)}
    command = ["bash", "-e", "-o", "pipefail", "-c", "\n".join(blocks)]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
