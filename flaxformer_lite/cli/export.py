"""Write a trained or imported model as other libraries open it.

--format=huggingface writes config.json, generation_config.json, model.safetensors (several with an index above 5 GB)
and the tokenizer's files: AutoModelForSeq2SeqLM.from_pretrained(FOLDER) of transformers opens them.
--format=ctranslate2 writes what ctranslate2.Translator opens (extra `ctranslate2`); what callers add to tokens, such as
languages, stands in its config.json: docs/families.md has an example.

Examples:
  flaxformer-lite export --workdir=runs/mine --target=exported
  flaxformer-lite export --workdir=runs/mine --target=served --format=ctranslate2
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from flaxformer_lite.cli import decode_flags
from flaxformer_lite.errors import InputError
from flaxformer_lite.system import malloc

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of ``export``."""
    parser.add_argument("--workdir", metavar="FOLDER", required=True, help="the work folder of one run")
    decode_flags.add_step(parser)
    parser.add_argument("--target", metavar="FOLDER", required=True, help="the folder to make")
    parser.add_argument(
        "--format",
        choices=["huggingface", "ctranslate2"],
        default="huggingface",
        help="for whom (default: %(default)s)",
    )
    parser.add_argument(
        "--proof",
        choices=["yes", "no"],
        default="yes",
        help="compare with transformers, where it is installed (extra `hf`), layer by layer (default: %(default)s)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Exports."""
    malloc.use_single_arena()
    malloc.return_large_arrays()
    from flaxformer_lite.interop import exporting  # here, because jax takes seconds to import
    from flaxformer_lite.interop.made import check_free, made_whole
    from flaxformer_lite.interop.paths import nested
    from flaxformer_lite.interop.proof import prove
    from flaxformer_lite.interop.served import write_served

    workdir, target = Path(arguments.workdir), Path(arguments.target)
    check_free(target)
    if len(decode_flags.folders(arguments.workdir)) > 1:
        raise InputError(f"--workdir={workdir}: an ensemble is no model of a published family; name one run")
    trained = exporting.load_trained(workdir, arguments.step)
    if arguments.format == "ctranslate2":
        with made_whole(target) as folder:
            write_served(trained, folder)
        logger.info(f"step {trained.step:,} of {workdir} for CTranslate2; all in {target}")
        return
    family = exporting.family_of(trained)
    with made_whole(target) as folder:
        exporting.write_folder(trained, family, folder)
        if arguments.proof == "yes":
            prove(folder, trained.config, trained.vocabularies, nested(trained.params), folder / "conversion.json")
    logger.info(f"step {trained.step:,} of {workdir} as {family}; all in {target}")
