"""Figures of docs/published_models.md: sizes of published models, differences from transformers, and lines of code.

Three tables. Number of parameters of each published size beside the published number, counted from shapes without
allocating anything. Differences from transformers for the smallest published size of each family with random weights:
the model is exported, opened by transformers, and compared layer by layer. Lines of code of both libraries. The last
two need transformers and PyTorch: pip install -e '.[hf]'.

Examples:
  python benchmarks/families.py --tables sizes                # 15 seconds
  python benchmarks/families.py --tables verify --family t5   # a minute for each family, up to 8 GB of memory
  python benchmarks/families.py --write                       # all tables, into docs/published_models.md: ten minutes
"""

from __future__ import annotations

import argparse
import ast
import functools
import importlib.util
import json
import sys
import tempfile
import tokenize
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs/published_models.md"
BEGIN, END = "<!-- made by python benchmarks/families.py -->\n", "<!-- end of what it made -->\n"
TABLES = ("sizes", "verify", "code")
MARIAN_VOCABULARY = 58_101  # of the model from English to German; other language pairs have other sizes

# Published numbers of parameters: exact where they are those of the published files, otherwise rounded.
# Those of BART and related families exclude logits biases, which are buffers there, and sinusoidal positions.
PUBLISHED = {
    ("vaswani", "base"): ("65 M", "Vaswani et al. 2017, table 3"),
    ("vaswani", "big"): ("213 M", "Vaswani et al. 2017, table 3"),
    ("t5", "small"): ("60,506,624", "files"),
    ("t5", "base"): ("222,903,552", "files"),
    ("t5", "large"): ("737,668,096", "files"),
    ("t5", "3b"): ("2,851,598,336", "files"),
    ("t5", "11b"): ("11,307,321,344", "files"),
    ("t5_1_1", "small"): ("76,961,152", "files"),
    ("t5_1_1", "base"): ("247,577,856", "files"),
    ("t5_1_1", "large"): ("783,150,080", "files"),
    ("t5_1_1", "xl"): ("2,849,757,184", "files"),
    ("t5_1_1", "xxl"): ("11,135,332,352", "files"),
    ("mt5", "small"): ("300 M", "Xue et al. 2021, table 1"),
    ("mt5", "base"): ("582,401,280", "files"),
    ("mt5", "large"): ("1.2 B", "Xue et al. 2021, table 1"),
    ("mt5", "xl"): ("3.7 B", "Xue et al. 2021, table 1"),
    ("mt5", "xxl"): ("13 B", "Xue et al. 2021, table 1"),
    ("byt5", "small"): ("299,637,760", "files"),
    ("byt5", "base"): ("582 M", "Xue et al. 2022, table 1"),
    ("byt5", "large"): ("1.23 B", "Xue et al. 2022, table 1"),
    ("byt5", "xl"): ("3.74 B", "Xue et al. 2022, table 1"),
    ("byt5", "xxl"): ("12.9 B", "Xue et al. 2022, table 1"),
    ("umt5", "small"): ("307 M", "model page"),
    ("umt5", "base"): ("", ""),
    ("umt5", "xl"): ("", ""),
    ("umt5", "xxl"): ("", ""),
    ("bart", "base"): ("139,420,416", "files"),
    ("bart", "large"): ("406,291,456", "files"),
    ("mbart", "large-cc25"): ("610 M", "fairseq's README"),
    ("mbart", "large-50"): ("610,879,488", "files"),
    ("marian", "base"): ("", ""),
    ("marian", "big"): ("", ""),
    ("pegasus", "large"): ("568 M", "Zhang et al. 2020, section 4"),
    ("m2m_100", "418m"): ("418 M", "its name"),
    ("m2m_100", "1.2b"): ("1.2 B", "its name"),
    ("nllb", "600m"): ("615,073,792", "files"),
    ("nllb", "1.3b"): ("1.3 B", "its name"),
    ("nllb", "3.3b"): ("3.3 B", "its name"),
    ("t5gemma", "s-s"): ("", ""),
    ("t5gemma", "b-b"): ("", ""),
    ("t5gemma", "l-l"): ("", ""),
    ("t5gemma", "ml-ml"): ("", ""),
    ("t5gemma", "xl-xl"): ("", ""),
    ("t5gemma", "2b-2b"): ("", ""),
    ("t5gemma", "9b-2b"): ("", ""),
    ("t5gemma", "9b-9b"): ("", ""),
}
# The model_type of a family's config.json; "": there is none.
TYPES = {family: family for family, _ in PUBLISHED} | {"t5_1_1": "t5", "byt5": "t5", "nllb": "m2m_100", "vaswani": ""}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES, help="tables to make (default: all)")
    kinds = [family for family, kind in TYPES.items() if kind]
    parser.add_argument("--family", nargs="+", choices=kinds, default=kinds, help="families to compare (default: all)")
    parser.add_argument("--write", action="store_true", help="write all tables into docs/published_models.md")
    arguments = parser.parse_args()
    whole = (*arguments.tables, *arguments.family) == (*TABLES, *kinds)
    if arguments.write and not whole:
        parser.error("--write takes no other flags, because the document has all tables of all families")
    missing = [name for name in ("torch", "transformers") if not importlib.util.find_spec(name)]
    if missing and {*arguments.tables} - {"sizes"}:
        parser.error(f"{' and '.join(missing)} not installed: pip install -e '.[hf]'; --tables sizes needs neither")
    make = {"sizes": sizes_table, "verify": lambda: verify_table(arguments.family), "code": code_table}
    text = "\n".join(make[name]() for name in arguments.tables)
    if arguments.write:
        before, rest = DOCUMENT.read_text("utf-8").split(BEGIN)
        DOCUMENT.write_text(before + BEGIN + text + END + rest.split(END)[1], "utf-8")
    else:
        print(text, end="")
    return 0


def model_of(family: str, size: str) -> Any:
    """The model with scanned layers, which is traced quickly."""
    from flaxformer_lite.models.encoder_decoder import make_model

    config, entries = config_of(family, size, {"scan_layers": True})
    return make_model(config, entries, entries)


def config_of(family: str, size: str, changes: dict[str, Any]) -> tuple[Any, int]:
    """The config of a published size, and the size of its vocabulary."""
    from flaxformer_lite.config import defaults, parsing
    from flaxformer_lite.models import presets

    published = getattr(presets, family)(size)
    values = defaults.get_config()
    model = {f"model.{key}": value for key, value in {**published.model, **changes}.items()}
    values.update_from_flattened_dict({"data.share_vocabulary": True, **model})
    return parsing.from_dict(values.to_dict()), published.vocabulary or MARIAN_VOCABULARY


@functools.cache
def count(family: str, size: str) -> int:
    """Number of parameters, without a logits bias that the reference does not count."""
    import jax

    from flaxformer_lite.train_step.state import param_shapes

    model = model_of(family, size)
    tied = model.config.share_embeddings in ("all", "target")
    uncounted = model.target_size if tied and model.config.lm_head.bias == "always" else 0
    return sum(x.size for x in jax.tree.leaves(param_shapes(model))) - uncounted


def sizes_table() -> str:
    rows = []
    for (family, size), (published, source) in PUBLISHED.items():
        config, entries = config_of(family, size, {})
        c = config.model
        sides = ((getattr(c.encoder, key), getattr(c.decoder, key)) for key in ("num_layers", "width", "num_heads"))
        layers, width, heads = (f"{one:,}" if one == other else f"{one:,} / {other:,}" for one, other in sides)
        row = (family, size, layers, width, heads, f"{entries:,}", f"{count(family, size):,}")
        rows.append((*row, published or "—", source or "—"))
    head = ("family", "size", "layers", "width", "heads", "vocabulary", "parameters", "published", "where")
    return f"### Sizes\n\n{table(head, rows)}"


def verify_table(names: Sequence[str]) -> str:
    rows, compared = [], {}
    for family in names:
        size = next(size for name, size in PUBLISHED if name == family)
        print(f"comparing {family} {size} …", file=sys.stderr)
        with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as fresh:  # frees its memory
            report = fresh.submit(compare, family, size).result()
        worst = max(difference / max(largest, 1) for difference, largest in report.layers.values())
        (difference, largest), compared = report.logits, report.compared
        figures = (f"{len(report.layers)}", f"{worst:.1e}", f"{difference:.1e}", f"{largest:.3g}")
        rows.append((family, size, *figures, f"{report.greedy:.0%}", f"{report.beam:.0%}"))
    head = ("family", "size", "layers", "layers differ", "logits differ", "largest logit", "greedy", "beam 4")
    sides = " with ".join(reversed(compared.values()))
    return f"### Differences\n\n{sides}, on a CPU.\n\n{table(head, rows)}"


def compare(family: str, size: str) -> Any:
    """Exports a model with random weights and compares it with the reference."""
    import jax
    from flax.traverse_util import flatten_dict

    from flaxformer_lite.checkpoints.work_dir import WorkDir
    from flaxformer_lite.data.vocabularies.pretrained import ByT5Vocabulary, TokenTemplate
    from flaxformer_lite.interop import exporting, verify
    from flaxformer_lite.models import presets
    from flaxformer_lite.models.transformer.scan import unstack_layers
    from flaxformer_lite.train_step.state import init_params
    from flaxformer_lite.types import SpecialIds

    config, entries = config_of(family, size, {"scan_layers": False})
    pad, end, start = getattr(presets, family)(size).special
    template = TokenTemplate(SpecialIds(pad=pad, end=end, begin=start, unknown=3), (), (end,), ())
    vocabulary = ByT5Vocabulary(4, entries, template, ())  # only its size and special ids are used
    scanned = model_of(family, size)
    params = unstack_layers(jax.jit(lambda: unboxed(init_params(scanned, 0)))())
    params = jax.tree.map(perturb, params)
    with tempfile.TemporaryDirectory() as folder:
        work, target = WorkDir(Path(folder, "work")), Path(folder, "target")
        trained = exporting.TrainedModel(work, config, (vocabulary, vocabulary), 0, flatten_dict(params, sep="/"))
        target.mkdir()
        special = exporting.special_tokens_of(trained)
        settings = exporting.make_config_json(trained, TYPES[family], special)
        (target / "config.json").write_text(json.dumps(settings))
        exporting.write_weights(trained, TYPES[family], target)
        return verify.compare_with_transformers(target, config, trained.vocabularies, params)


def unboxed(params: Any) -> Any:
    import flax.linen as nn

    return nn.meta.unbox(params)


def perturb(leaf: Any) -> Any:
    """Adds noise to constant parameters such as norms and biases, whose conversion would not be tested otherwise."""
    import numpy as np

    if np.ptp(leaf):
        return leaf
    return leaf + 0.1 * np.random.default_rng(leaf.size).standard_normal(leaf.shape, np.float32)


def code_table() -> str:
    own, reference = ROOT / "flaxformer_lite", package("transformers") / "models"
    models = [path for path in own.glob("models/**/*.py") if path.parent.name != "rnn" and path.stem != "ensemble"]
    interop = [*own.glob("interop/**/*.py")]
    kinds = [kind for kind in dict.fromkeys(TYPES.values()) if kind]
    modeling = {kind: reference / kind / f"modeling_{kind}.py" for kind in kinds}
    settings = [reference / kind / f"configuration_{kind}.py" for kind in kinds]
    rows = [
        ("flaxformer_lite: models/ without rnn/, with presets", *measured(models)),
        (
            "flaxformer_lite: interop/ (configs, tensors, tokenizers, generation, verification, CTranslate2)",
            *measured(interop),
        ),
        ("**flaxformer_lite**", *measured([*models, *interop])),
        *((f"transformers: {path.name}", *measured([path])) for path in modeling.values()),
        ("transformers: their configuration_*.py", *measured(settings)),
        ("**transformers**", *measured([*modeling.values(), *settings])),
    ]
    return f"### Code\n\n{table(('what', 'files', 'lines of code', 'all lines'), rows)}"


def package(name: str) -> Path:
    """The directory of an installed package."""
    found = importlib.util.find_spec(name)
    assert found
    return Path(str(found.origin)).parent


def measured(paths: Iterable[Path]) -> tuple[str, ...]:
    """Number of files, lines of code and all lines, as text."""
    each = [(1, code_lines(path), path.read_text("utf-8").count("\n")) for path in paths]
    return tuple(f"{sum(numbers):,}" for numbers in zip(*each, strict=True))


def code_lines(path: Path) -> int:
    """Number of lines without blank lines, comments and docstrings."""
    with path.open("rb") as file:
        aside = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING)
        tokens = [token for token in tokenize.tokenize(file.readline) if token.type not in aside]
    lines = {line for token in tokens if token.string for line in range(token.start[0], token.end[0] + 1)}
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            lines -= {*range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)}
    return len(lines)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = (head, ["---"] * len(head), *rows)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
