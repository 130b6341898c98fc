"""Size of the code: modules at the top level, lines by kind, median and largest files and functions.

    python benchmarks/code_size.py [FOLDER]

Counts the files that git tracks under flaxformer_lite/ and run cards; another checkout's root may be given.
"""

from __future__ import annotations

import ast
import io
import statistics
import subprocess
import sys
import tokenize
from pathlib import Path


def main() -> None:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    listed = subprocess.run(["git", "-C", root, "ls-files", "*.py"], capture_output=True, text=True, check=True)
    everything = [root / name for name in listed.stdout.split()]
    package = [path for path in everything if path.is_relative_to(root / "flaxformer_lite")]
    print(f"modules at the top level   {len([p for p in package if p.parent.name == 'flaxformer_lite'])}")
    print(f"modules                    {len(package)}")
    for name, folder in (("package", "flaxformer_lite"), ("run cards", "configs"), ("tests", "tests")):
        files = [path for path in everything if path.is_relative_to(root / folder)]
        counts = [_lines(path.read_text("utf-8")) for path in files]
        total, code, docstrings, comments = (sum(column) for column in zip(*counts, strict=True))
        print(f"lines, {name:<19} {total:,} in all: {code:,} code, {docstrings:,} docstrings, {comments:,} comments")
    sizes = {str(path.relative_to(root)): len(path.read_text("utf-8").splitlines()) for path in package}
    functions = {f"{path}:{name}": lines for path in package for name, lines in _functions(path)}
    _report("file", {name: lines for name, lines in sizes.items() if lines > 1})
    _report("function", functions)


def _lines(text: str) -> tuple[int, int, int, int]:
    """Lines in all, of code, of docstrings and of comments alone; blank lines count in the first only."""
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            first = node.body[0]
            docstrings.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    code: set[int] = set()
    comments: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comments.add(token.start[0])
        elif token.type not in (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER):
            code.update(range(token.start[0], token.end[0] + 1))
    return len(text.splitlines()), len(code - docstrings), len(docstrings), len(comments - code - docstrings)


def _functions(path: Path) -> list[tuple[str, int]]:
    nodes = ast.walk(ast.parse(path.read_text("utf-8")))
    found = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [(node.name, (node.end_lineno or node.lineno) - node.lineno + 1) for node in found]


def _report(kind: str, sizes: dict[str, int]) -> None:
    largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
    print(f"{kind}s: {len(sizes):,}, median {statistics.median(sizes.values()):.0f} lines, largest:")
    for name in largest:
        print(f"    {sizes[name]:>4}  {name.rpartition('flaxformer_lite/')[2]}")


if __name__ == "__main__":
    main()
