"""The command ``flaxformer-lite``, whose first argument names a module of this folder.

A command is a module with a docstring (its help), ``add_arguments(parser)`` and ``run(arguments) -> int | None`` (the
exit code; None: 0). It is imported when it is called, and imports large libraries only inside ``run``.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import importlib.metadata
import logging
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import NoReturn

from flaxformer_lite.cli import config_flags
from flaxformer_lite.errors import InputError
from flaxformer_lite.system import multihost
from flaxformer_lite.system.cache_dir import enable_compilation_cache
from flaxformer_lite.system.console import configure_logging

_COMMANDS = {
    "train": "train a model, or resume a run",
    "sweep": "train many variants of one config in parallel",
    "decode": "decode lines of text with a trained model",
    "evaluate": "evaluate a trained model on a split of its data",
    "score": "compute log-probabilities of given targets",
    "search-errors": "measure how often beam search misses the most probable target",
    "checkpoints": "list a run's checkpoints, show the best, compare two",
    "average": "average the parameters of a run's last checkpoints",
    "compare": "compare settings and metrics of runs, with significance tests",
    "plan": "predict memory, communication and time on many devices",
    "import": "import a published model (T5, BART, Marian, …) into a work directory",
    "export": "export a model for other libraries",
    "data": "show the data of a config: examples, ids, lengths, truncation",
    "vocab": "build the vocabularies of a config and save them",
    "configs": "list the run cards",
}
_HELP = """\
usage: flaxformer-lite COMMAND [--flag=value …]

Encoder-decoder models in JAX: train, resume, decode, evaluate, compare.

Commands:
{commands}

Examples:
  flaxformer-lite train --config=tiny --workdir=runs/tiny
  echo "abcde" | flaxformer-lite decode --workdir=runs/tiny
  flaxformer-lite evaluate --workdir=runs/tiny --split=test

flaxformer-lite COMMAND --help explains a command and its flags; flaxformer-lite --version prints the version.
""".format(commands="\n".join(f"  {name:<15}{text}" for name, text in _COMMANDS.items()))


class _Parser(argparse.ArgumentParser):
    """Raises ``InputError`` for wrong arguments."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message, remedy=f"see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code: 2 for bad input, 128 + signal where one ended it."""
    configure_logging()
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()  # here, so that a reader who has gone away is noticed inside the try
        return code
    except InputError as error:
        print(f"flaxformer-lite: error{multihost.process_label()}: {error}", file=sys.stderr)
        return multihost.exit_process(2)
    except KeyboardInterrupt:
        # Training saves a checkpoint at the first SIGINT once steps are made; this is before, or the second one.
        text = "interrupted; nothing was saved since the last checkpoint, and the same command starts from there"
        print(f"flaxformer-lite: {text}{multihost.process_label()}", file=sys.stderr)
        return multihost.exit_process(130)
    except BrokenPipeError:
        # `flaxformer-lite decode … | head` is no error. Python flushes standard output once more as it ends, which must
        # not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return multihost.exit_process(141)
    except Exception as error:
        if multihost.is_single_process():
            raise
        multihost.fail(error)


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_HELP, end="")
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"flaxformer-lite {importlib.metadata.version('flaxformer-lite')}")
        return 0
    # An import path module:name in a config may name a module of the current directory.
    sys.path.append(os.getcwd())
    name, *rest = argv
    if name not in _COMMANDS:
        remedy = _nearest(name, _COMMANDS) or "flaxformer-lite --help lists them"
        raise InputError(name, "there is no such command", remedy)
    command = importlib.import_module(f"flaxformer_lite.cli.{name.replace('-', '_')}")
    parser = _Parser(
        prog=f"flaxformer-lite {name}",
        description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # a flag that a later version adds must not change what an abbreviation means
    )
    command.add_arguments(parser)
    volume = parser.add_mutually_exclusive_group()
    volume.add_argument("--quiet", action="store_true", help="print warnings and errors only")
    volume.add_argument("--verbose", action="store_true", help="print details too")
    ordinary, overrides = config_flags.separate(rest)
    _check_flags(ordinary, parser)
    arguments = parser.parse_args(ordinary)
    configure_logging(logging.WARNING if arguments.quiet else logging.DEBUG if arguments.verbose else logging.INFO)
    if overrides and "config" not in arguments:
        raise InputError(overrides[0], f"{name} reads its config from the work directory", f"see {parser.prog} --help")
    arguments.overrides = overrides
    enable_compilation_cache()
    return command.run(arguments) or 0


def _check_flags(words: Sequence[str], parser: argparse.ArgumentParser) -> None:
    """Raises ``InputError`` for an unknown flag; argparse would first report required flags that are missing."""
    known = {"--help", *re.findall(r"--[\w-]+", parser.format_usage())}
    for word in words:
        flag = word.partition("=")[0]
        if flag.startswith("--") and flag not in known:
            remedy = _nearest(flag, known) or f"{parser.prog} --help lists them"
            raise InputError(flag, "there is no such flag", remedy)


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else ""
