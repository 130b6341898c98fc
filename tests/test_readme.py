"""README's commands, as they stand there, in a copy of the checkout on which nothing has been installed."""

import os
import re
import shutil
import subprocess

import pytest

_TESTED = re.compile(r"<!-- test -->\s*```(?:bash|sh)\n(.*?)```", re.DOTALL)


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
