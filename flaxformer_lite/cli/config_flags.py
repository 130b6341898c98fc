"""The flag ``--config`` and the overrides that follow it on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``--config`` to a command, which may then be followed by overrides (``main`` collects them)."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="a Python file whose get_config() returns every setting, such as configs/tiny.py, or the config.json of a "
        "work folder",
    )
    parser.add_argument_group(
        "settings",
        "--config.GROUP.KEY=VALUE changes one of them, such as --config.model.encoder.num_layers=2;\n"
        "flaxformer_lite/config/defaults.py lists and explains them all",
    )


def separate(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Parts a command line into its ordinary arguments and the overrides, each as one ``--config.key=value``.

    >>> separate(["--config", "x.py", "--config.seed", "3", "--workdir=w"])
    (['--config', 'x.py', '--workdir=w'], ['--config.seed=3'])
    """
    ordinary, overrides = [], []
    words = iter(argv)
    for word in words:
        if not word.startswith(("--config.", "--noconfig.")):
            ordinary.append(word)
        elif "=" in word or word.startswith("--no"):
            overrides.append(word)
        else:
            overrides.append(f"{word}={next(words, '')}")
    return ordinary, overrides
