"""Python files and run cards that define configs and sweeps; errors in them are reported with file and line."""

from __future__ import annotations

import ast
import contextlib
import difflib
import importlib
import re
import runpy
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flaxformer_lite.errors import InputError, require

_PACKAGE = Path(__file__).resolve().parents[1]
RUN_CARDS = _PACKAGE / "run_cards"  # in a checkout a link to configs/
_NEW_IMPORTS = (
    "import the defaults with `from flaxformer_lite.config import defaults` and run cards with `from "
    "flaxformer_lite.run_cards import tiny`"
)


def find(name: str) -> Path:
    """The file that a path, or the name of a run card such as ``tiny``, names.

    Raises:
      InputError: there is no such file or run card; the message has the nearest one.
    """
    path = Path(name)
    if path.is_file():
        return path
    if re.fullmatch(r"\w+", name):
        cards = [card for card, _ in run_cards()]
        near = difflib.get_close_matches(name, cards, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"the run cards are {', '.join(cards)}"
        require(name in cards, name, "there is no such file or run card", remedy)
        return RUN_CARDS / f"{name}.py"
    near = difflib.get_close_matches(name, [str(other) for other in path.parent.glob("*.py")], n=1)
    raise InputError(name, "there is no such file", f"did you mean {near[0]}?" if near else "")


def run_cards() -> Iterator[tuple[str, str]]:
    """Name and first docstring line of each run card of the package."""
    for path in sorted(RUN_CARDS.glob("*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        yield path.stem, docstring.partition("\n")[0]


def run_card(name: str) -> Any:
    """The ConfigDict of a run card of the package."""
    return importlib.import_module(f"flaxformer_lite.run_cards.{name}").get_config()


def function(path: Path, name: str, example: str) -> Callable[[], Any]:
    """Runs a file and returns its function ``name``; ``example`` is a file of this project that has one.

    Raises:
      InputError: there is no such file or function, or the file raises.
    """
    path = find(str(path)).resolve()
    # A config file may import its neighbors, also as `from configs import …`. Their folders come before this
    # project's checkout, which has a configs/ too.
    checkout = str(_PACKAGE.parent)
    for folder in (str(path.parents[1]), str(path.parent)):
        if folder not in sys.path:
            sys.path.insert(sys.path.index(checkout) if checkout in sys.path else len(sys.path), folder)
    with errors_located(path):
        names = runpy.run_path(str(path))
    require(callable(names.get(name)), str(path), f"has no function {name}()", f"{example} shows what it looks like")
    return names[name]


@contextlib.contextmanager
def errors_located(path: Path) -> Iterator[None]:
    """Reports whatever a user's file raises as an ``InputError`` with file and line, ``SystemExit`` included."""
    path = path.resolve()
    try:
        yield
    except InputError as error:
        raise InputError(f"{_place(error, path)}: {error.subject}", error.reason, error.remedy) from error
    except SystemExit as error:
        reason = f"ends the program (SystemExit: {error.code})"
        raise InputError(_place(error, path), reason, "remove that call") from error
    except Exception as error:
        message = error.msg if isinstance(error, SyntaxError) else error
        former = isinstance(error, ImportError) and str(error.name).partition(".")[0] == "configs"
        reason = f"{type(error).__name__}: {message}"
        raise InputError(_place(error, path), reason, _NEW_IMPORTS if former else "") from error


def _place(error: BaseException, path: Path) -> str:
    """The file, with the line at which the error arose unless it concerns what the file returned."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == str(path):
            line = frame.lineno
    return f"{path}, line {line}" if line else str(path)
