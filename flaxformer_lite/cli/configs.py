"""List the run cards: configs of this package, each of one experiment.

`--config=NAME` selects one; its file states the expected result, the time and the exact command. A config file of your
own may start from one: `from flaxformer_lite.run_cards import tiny`.
"""

from __future__ import annotations

import argparse

from flaxformer_lite.config import python_files
from flaxformer_lite.system.console import table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds no flags."""


def run(arguments: argparse.Namespace) -> None:
    """Prints name and purpose of each run card."""
    del arguments
    print(*table(("name", "what it is"), list(python_files.run_cards()), left=(0, 1)), sep="\n")
    print(f"\nTheir files are in {python_files.RUN_CARDS}")
