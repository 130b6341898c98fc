"""Python files that the user names by a flag, such as configs: they are run, and what they raise is named."""

from __future__ import annotations

import contextlib
import difflib
import runpy
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flaxformer_lite.errors import InputError

_REPOSITORY = Path(__file__).resolve().parents[2]


def function(path: Path, flag: str, name: str, example: str) -> Callable[[], Any]:
    """Runs a file and gives a function of it.

    Args:
      path: the file.
      flag: the flag that named it, for error messages.
      name: of the function.
      example: a file of this project that has such a function, for error messages.

    Raises:
      InputError: there is no such file or function, or the file raises.
    """
    check_exists(path, flag)
    path = path.resolve()
    # A config file may import its neighbors (`from configs import …`) and, wherever it lies itself, this project's
    # configs: folders without __init__.py are namespace packages, which Python merges over all of sys.path.
    for folder in (path.parents[1], _REPOSITORY):
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    with faults_named(path):
        names = runpy.run_path(str(path))
    if not callable(names.get(name)):
        raise InputError(f"{path} has no function {name}(); {example} shows what such a file looks like")
    return names[name]


def shipped_config(name: str) -> Any:
    """The ConfigDict of a file in ``configs/``, such as ``base``."""
    return function(
        _REPOSITORY / "configs" / f"{name}.py", "--config", "get_config", "flaxformer_lite/config/defaults.py"
    )()


def check_exists(path: Path, flag: str) -> None:
    """Raises ``InputError``, with the nearest file that there is, where there is no such file."""
    if not path.is_file():
        raise InputError(f"{flag}={path}: there is no such file{_nearest_file(path)}")


@contextlib.contextmanager
def faults_named(path: Path) -> Iterator[None]:
    """Names file and line of whatever a file raises: it is the user's code, so the fault is in the file."""
    path = path.resolve()
    try:
        yield
    except Exception as error:
        what = error.msg if isinstance(error, SyntaxError) else error
        kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        line = _line(error, path)
        raise InputError(f"{path}{f', line {line}' if line else ''}: {kind}{what}") from error


def _line(error: Exception, path: Path) -> int | None:
    """The line of the file in which the error arose; None: it is about what the file gave."""
    if isinstance(error, SyntaxError):
        return error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno for frame in reversed(frames) if frame.filename == str(path)), None)


def _nearest_file(path: Path) -> str:
    neighbors = [str(other) for other in path.parent.glob("*.py")]
    near = difflib.get_close_matches(str(path), neighbors, n=1)
    return f"; did you mean {near[0]}?" if near else ""
