"""Help texts of config keys: the comments beside their values in ``config.defaults``."""

from __future__ import annotations

import functools
import re
import tokenize
from pathlib import Path

_CHOICES = re.compile(r"\S+( \([^)]*\))?( \| \S+( \([^)]*\))?)+: ")  # such as "google | hf: "


@functools.cache
def key_comments(group: str) -> dict[str, str]:
    """The comment of each key of a group, without the choices that it begins with: ``{"beam_size": "number of …"}``.

    A comment may continue on comment lines after the key. ``group`` is its name in ``defaults.py``.
    """
    comments: dict[str, str] = {}
    key, line = "", ""
    with Path(__file__).with_name("defaults.py").open("rb") as file:
        tokens = list(tokenize.tokenize(file.readline))
    for token in tokens:
        if token.type == tokenize.COMMENT and key:
            text = token.string.lstrip("# ")
            comments[key] = f"{comments[key]} {text}" if key in comments else text
        elif token.type in (tokenize.NEWLINE, tokenize.NL):
            continue
        elif token.line != line:
            line = token.line
            match = re.match(rf"\s*{group}\.(\w+) = ", line)
            key = match[1] if match else ""
    return {key: _CHOICES.sub("", comment, count=1) for key, comment in comments.items()}
