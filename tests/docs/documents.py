"""Code blocks of the Markdown documents, and the marker above each of them that selects how it is tested.

A marker is an HTML comment on the line above the block. The form of each:

    <!-- test: quick -->           runs in the quick suite and in the slow one
    <!-- test: slow -->            runs in the slow suite; the quick suite parses its commands
    <!-- test: parse -->           cannot run here (accelerators, clusters, downloads): its commands are parsed
    <!-- test: file mine.py -->    is written to a file, which later blocks of the document use
    <!-- test: none -->            is no command (Python fragments only)

`with FLAGS` behind quick or slow appends flags to the commands of the block that read a config, so that a test trains
for few steps. `$small` among them stands for the flags of the document's line `<!-- small: FLAGS -->`.
"""

import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

_FENCE = re.compile(
    r"^(?P<marker><!-- test: [^\n]* -->\n)?```(?P<language>bash|python)\n(?P<code>.*?)^```$", re.M | re.S
)
_MARKER = re.compile(r"<!-- test: (?P<mode>quick|slow|parse|none|file (?P<file>\S+))(?: with (?P<flags>.+))? -->")
_SMALL = re.compile(r"^<!-- small: (.+?) -->$", re.M | re.S)


class Block(NamedTuple):
    """One fenced block of a document."""

    place: str  # document:line
    language: str
    mode: str  # quick, slow, parse, file or none
    file: str
    flags: str
    code: str


def documents(repository: Path) -> list[Path]:
    """All documents whose blocks are tested."""
    return [repository / "README.md", repository / "CONTRIBUTING.md", *sorted((repository / "docs").glob("*.md"))]


def blocks(document: Path) -> Iterator[Block]:
    """The bash and Python blocks of a document.

    Raises:
      ValueError: a block has no marker, or an invalid one.
    """
    text = document.read_text("utf-8")
    small = _SMALL.search(text)
    for found in _FENCE.finditer(text):
        place = f"{document.name}:{text.count(chr(10), 0, found.start('language')) + 1}"
        marker = _MARKER.fullmatch((found["marker"] or "").strip())
        if not marker:
            raise ValueError(f"{place}: the line above the block must be a marker; see tests/docs/documents.py")
        flags = marker["flags"] or ""
        if "$small" in flags:
            if not small:
                raise ValueError(f"{place}: the document has no line <!-- small: FLAGS -->")
            flags = flags.replace("$small", " ".join(small[1].split()))
        mode = marker["mode"].partition(" ")[0]
        if mode == "none" and found["language"] == "bash":
            raise ValueError(f"{place}: commands must be parsed at least")
        yield Block(place, found["language"], mode, marker["file"] or "", flags, found["code"])


def script(chosen: Sequence[Block], python: str = "python") -> str:
    """A bash script that runs blocks in their order and names each on standard error before it starts."""
    lines = [
        # A function, because it also wraps the command that an environment of the document installs.
        'flaxformer-lite() { case "$1" in',
        '  train | sweep | plan | data | vocab) command flaxformer-lite "$@" $flags ;;',
        '  *) command flaxformer-lite "$@" ;;',
        "esac; }",
        "export -f flaxformer-lite",
    ]
    for block in chosen:
        lines += [f"echo '== {block.place}' >&2", f"export flags='{block.flags}'"]
        if block.mode == "file":
            lines += [f"mkdir -p \"$(dirname '{block.file}')\"", f"cat > '{block.file}' <<'END_OF_FILE'"]
            lines += [block.code + "END_OF_FILE"]
        elif block.language == "python":
            lines += [f"{python} - <<'END_OF_PYTHON'\n{block.code}END_OF_PYTHON"]
        else:
            lines += [block.code]
    return "\n".join(lines)


def run_bash(text: str, folder: Path, environment: dict[str, str]) -> None:
    """Runs a script; fails with the end of its output."""
    result = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", text],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, f"{result.stdout[-3000:]}\n{result.stderr[-5000:]}"
