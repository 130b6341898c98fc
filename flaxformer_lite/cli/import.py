r"""Import a pretrained model into a work directory that decodes, scores and trains further like any other.

The source is a directory in the format of the Hugging Face libraries: config.json, model.safetensors (or several with
an index) and the tokenizer's files. Neither PyTorch nor transformers is needed. Download it first, for example with
`hf download MODEL --local-dir DIR`. Families: T5, mT5, ByT5, UMT5, BART, mBART, Marian (OPUS-MT), Pegasus, M2M-100,
NLLB, T5Gemma.

Examples:
  flaxformer-lite import --source=downloads/opus-mt-en-de --workdir=runs/en-de
  flaxformer-lite import --source=downloads/nllb --workdir=runs/nllb --source_lang=eng_Latn --target_lang=fra_Latn
  echo "Hello world" | flaxformer-lite decode --workdir=runs/en-de

To fine-tune it on your own text in another work directory:
  flaxformer-lite train --config=runs/en-de/config.json --config.train.init_from=runs/en-de --workdir=runs/mine \
    --config.data.text.train=train.en,train.de --config.data.text.validation=dev.en,dev.de
"""

from __future__ import annotations

import argparse
import logging
import math
from pathlib import Path

from flaxformer_lite.cli.flag_errors import name_flags
from flaxformer_lite.system import malloc

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of ``import``."""
    parser.add_argument("--source", metavar="DIR", required=True, help="directory of the pretrained model")
    parser.add_argument("--workdir", metavar="DIR", required=True, help="work directory to create")
    parser.add_argument(
        "--source_lang",
        metavar="CODE",
        default="",
        help="language of the sources (mBART, M2M-100, NLLB), such as en_XX",
    )
    parser.add_argument("--target_lang", metavar="CODE", default="", help="language of the targets")
    add_verify(parser)


def add_verify(parser: argparse.ArgumentParser) -> None:
    """Adds ``--verify``, which ``export`` has too."""
    parser.add_argument(
        "--verify",
        choices=["yes", "no"],
        default="yes",
        help="compare each layer with transformers, if it is installed (extra `hf`; default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Imports a model."""
    with name_flags(arguments, "source", "workdir", "source_lang", "target_lang"):
        _run(arguments)


def _run(arguments: argparse.Namespace) -> None:
    malloc.use_single_arena()
    malloc.return_large_arrays()
    from flaxformer_lite.interop import importing  # here, because jax takes seconds to import
    from flaxformer_lite.interop.tokenizer_import import LanguagePair
    from flaxformer_lite.interop.verify import verify
    from flaxformer_lite.system.atomic import atomic_dir, require_free

    workdir = Path(arguments.workdir)
    require_free(workdir)
    languages = LanguagePair(arguments.source_lang, arguments.target_lang)
    model = importing.open_pretrained(Path(arguments.source), workdir, languages)
    params = importing.read_params(model)
    with atomic_dir(workdir) as path:
        importing.write_workdir(model, params, path)
        if arguments.verify == "yes":
            verify(model.directory.path, model.config, model.vocabularies, params, path / "conversion.json")
    importing.log_task_settings(model)
    count = sum(math.prod(match.shape) for match, _ in model.matches)
    logger.info(f"imported {count:,} parameters in {model.config.precision.param_dtype} into {workdir}")
