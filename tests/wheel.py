"""A virtual environment with the built wheel of this project."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path


def install_wheel(repository: Path, folder: Path) -> dict[str, str]:
    """Builds the wheel and installs it into ``folder/venv``, with the dependencies of the running interpreter.

    Returns:
      Environment variables in which that environment is active and no checkout is importable.
    """
    source = folder / "source"  # a copy, since builds leave files behind
    source.mkdir()
    for name in ("flaxformer_lite", "configs"):
        shutil.copytree(repository / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / name, source)
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", folder / "wheels", source], check=True)
    (wheel,) = (folder / "wheels").glob("*.whl")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    subprocess.run([*pip, "--python", python, "install", "--quiet", "--no-deps", wheel], check=True)
    # Packages of this interpreter, except this checkout, come after the wheel. Their own .pth files are not read.
    paths = [path for path in sys.path if path.endswith("site-packages")] or [sysconfig.get_path("purelib")]
    (site / "dependencies.pth").write_text("".join(f"{path}\n" for path in paths), "utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_", "PYTHONPATH"))}
    return kept | {
        "PATH": f"{folder / 'venv' / 'bin'}:{os.environ['PATH']}",
        "VIRTUAL_ENV": str(folder / "venv"),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
    }
