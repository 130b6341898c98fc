r"""Make a work folder of a published model, which then decodes, scores and trains further like any other.

Reads a folder as Hugging Face's libraries keep them: config.json, model.safetensors (or several with an index) and the
tokenizer's files; neither PyTorch nor transformers is needed. Download it first, such as by `hf download MODEL
--local-dir FOLDER`. Families: T5, mT5, ByT5, UMT5, BART, mBART, Marian (OPUS-MT), Pegasus, M2M-100, NLLB, T5Gemma.

Examples:
  flaxformer-lite import --source=downloads/opus-mt-en-de --workdir=runs/en-de
  flaxformer-lite import --source=downloads/nllb --workdir=runs/nllb --source_lang=eng_Latn --target_lang=fra_Latn
  echo "Hello world" | flaxformer-lite decode --workdir=runs/en-de

To train it on text of your own, into a folder of its own:
  flaxformer-lite train --config=runs/en-de/config.json --config.train.init_from=runs/en-de --workdir=runs/mine \
    --config.data.text.train=train.en,train.de --config.data.text.validation=dev.en,dev.de
"""

from __future__ import annotations

import argparse
import logging
import math
from pathlib import Path

from flaxformer_lite.system import malloc

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of ``import``."""
    parser.add_argument("--source", metavar="FOLDER", required=True, help="where the published model lies")
    parser.add_argument("--workdir", metavar="FOLDER", required=True, help="the work folder to make")
    parser.add_argument(
        "--source_lang",
        metavar="CODE",
        default="",
        help="language of the sources (mBART, M2M-100, NLLB), such as en_XX",
    )
    parser.add_argument("--target_lang", metavar="CODE", default="", help="language of the targets")
    parser.add_argument(
        "--proof",
        choices=["yes", "no"],
        default="yes",
        help="compare with transformers, where it is installed (extra `hf`), layer by layer (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Imports."""
    malloc.use_single_arena()
    malloc.return_large_arrays()
    from flaxformer_lite.interop import importing  # here, because jax takes seconds to import
    from flaxformer_lite.interop.made import check_free, made_whole
    from flaxformer_lite.interop.proof import prove
    from flaxformer_lite.interop.vocabularies import Languages

    workdir = Path(arguments.workdir)
    check_free(workdir)
    read = importing.understand(
        Path(arguments.source), workdir, Languages(arguments.source_lang, arguments.target_lang)
    )
    params = importing.read_params(read)
    with made_whole(workdir) as folder:
        importing.write_workdir(read, params, folder)
        if arguments.proof == "yes":
            prove(read.folder.path, read.config, read.vocabularies, params, folder / "conversion.json")
    count = sum(math.prod(pair.shape) for pair, _ in read.found)
    if hint := importing.unheeded(read):
        logger.info(hint)
    logger.info(f"{count:,} parameters in {read.config.precision.param_dtype}; all in {workdir}")
