"""The command ``flaxformer-lite``: the word after it names the module of this folder that does the work.

A command is a module with a docstring (its help), ``add_arguments(parser)`` and ``run(arguments) -> int | None`` (the
exit code; None: 0). It is imported when it is called, and imports what is heavy only inside ``run``.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
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
    "train": "train a model, or go on where a run stopped",
    "sweep": "train many variants of one config, several at once",
    "decode": "read lines of text, write what a trained model makes of them",
    "evaluate": "measure a trained model on a split of its data",
    "score": "say how likely given targets are",
    "search-errors": "say how often beam search misses the likeliest target",
    "checkpoints": "list a run's checkpoints, name the best, say what moved between two",
    "average": "average the parameters of a run's last checkpoints",
    "compare": "say what differs between runs, which is best, and whether that is chance",
    "plan": "say what a run will need on many devices, before any is booked",
    "import": "make a work folder of a published model (T5, BART, Marian, …)",
    "export": "write a model as other libraries open it",
    "data": "show what a model will see: examples, ids, lengths, what is cut",
}
_HELP = """\
usage: flaxformer-lite COMMAND [--flag=value …]

Encoder-decoder models in JAX: train them, go on where a run stopped, use them.

Commands:
{commands}

Examples:
  flaxformer-lite train --config=configs/tiny.py --workdir=runs/tiny
  echo "abcde" | flaxformer-lite decode --workdir=runs/tiny
  flaxformer-lite evaluate --workdir=runs/tiny --split=test

flaxformer-lite COMMAND --help explains a command and its flags.
""".format(commands="\n".join(f"  {name:<15}{text}" for name, text in _COMMANDS.items()))


class _Parser(argparse.ArgumentParser):
    """Answers mistakes like every other bad input, in one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


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
        return multihost.exit_process(130)
    except BrokenPipeError:
        # `flaxformer-lite decode … | head` is no error. Python flushes standard output once more as it ends; let that
        # go nowhere.
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
    name, *rest = argv
    if name not in _COMMANDS:
        raise InputError(
            f"{name}: there is no such command{_nearest(name, _COMMANDS)} (flaxformer-lite --help lists them)"
        )
    command = importlib.import_module(f"flaxformer_lite.cli.{name.replace('-', '_')}")
    parser = _Parser(
        prog=f"flaxformer-lite {name}",
        description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # a flag that a later version adds must not change what an abbreviation means
    )
    command.add_arguments(parser)
    ordinary, overrides = config_flags.separate(rest)
    _check_flags(ordinary, parser)
    arguments = parser.parse_args(ordinary)
    if overrides and "config" not in arguments:
        raise InputError(f"{overrides[0]}: {name} reads its settings from the work folder; see {parser.prog} --help")
    arguments.overrides = overrides
    enable_compilation_cache()
    return command.run(arguments) or 0


def _check_flags(words: Sequence[str], parser: argparse.ArgumentParser) -> None:
    """Names an unknown flag and the nearest known one (argparse would first complain of what that flag leaves out)."""
    known = {"--help", *re.findall(r"--[\w-]+", parser.format_usage())}
    for word in words:
        flag = word.partition("=")[0]
        if flag.startswith("--") and flag not in known:
            raise InputError(f"{flag}: there is no such flag{_nearest(flag, known)} ({parser.prog} --help lists them)")


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""
