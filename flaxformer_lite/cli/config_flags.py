"""The flag ``--config`` and the overrides that follow it on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from flaxformer_lite.config import loading
from flaxformer_lite.config.dataclasses import Config
from flaxformer_lite.errors import InputError, require


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``--config`` to a command; ``main`` collects the overrides."""
    parser.add_argument(
        "--config",
        metavar="NAME|FILE",
        help="a run card, such as tiny (flaxformer-lite configs lists them); a Python file whose get_config() returns "
        "every key, such as configs/tiny.py; or the config.json of a work directory",
    )
    parser.add_argument_group(
        "overrides",
        "--config.GROUP.KEY=VALUE changes a key, such as --config.model.encoder.num_layers=2;\n"
        "flaxformer_lite/config/defaults.py lists and explains all keys",
    )


def separate(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separates a command line into ordinary arguments and overrides, each as one ``--config.key=value``.

    >>> separate(["--config", "x.py", "--config.seed", "3", "--workdir=w"])
    (['--config', 'x.py', '--workdir=w'], ['--config.seed=3'])
    """
    ordinary, changes = [], []
    words = iter(argv)
    for word in words:
        if not word.startswith(("--config.", "--noconfig.")):
            ordinary.append(word)
        elif "=" in word or word.startswith("--no"):
            changes.append(word)
        else:
            changes.append(f"{word}={next(words, '')}")
    return ordinary, changes


def load(arguments: argparse.Namespace) -> Config:
    """The checked config that the flags give; errors are those of ``loading.load``."""
    return loading.resolve(read(arguments))


def read(arguments: argparse.Namespace) -> Any:
    """The ConfigDict that the flags give, not yet checked; errors are those of ``loading.load``."""
    require(bool(arguments.config), "--config", "is missing", "name a run card or a config file, such as --config=tiny")
    try:
        return loading.read(arguments.config, arguments.overrides)
    except InputError as error:
        raise error.with_subject(f"--config={error.subject}") if error.subject == arguments.config else error from None
