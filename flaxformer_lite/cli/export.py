"""Export a trained or imported model to the format of another library.

--format=huggingface writes config.json, generation_config.json, model.safetensors (several with an index above 5 GB)
and the tokenizer's files, for AutoModelForSeq2SeqLM.from_pretrained(DIR) of transformers.
--format=ctranslate2 writes a model for ctranslate2.Translator (extra `ctranslate2`); its config.json contains what
callers must add to tokens, such as languages (docs/published_models.md has an example).

Examples:
  flaxformer-lite export --workdir=runs/mine --target=exported
  flaxformer-lite export --workdir=runs/mine --target=served --format=ctranslate2
"""

from __future__ import annotations

import argparse
import importlib
import logging
from pathlib import Path

from flaxformer_lite.cli import decode_flags
from flaxformer_lite.cli.flag_errors import name_flags
from flaxformer_lite.errors import InputError
from flaxformer_lite.system import malloc

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of ``export``."""
    parser.add_argument("--workdir", metavar="DIR", required=True, help="work directory of one run")
    decode_flags.add_step(parser)
    parser.add_argument("--target", metavar="DIR", required=True, help="directory to create")
    parser.add_argument(
        "--format",
        choices=["huggingface", "ctranslate2"],
        default="huggingface",
        help="the library to export to (default: %(default)s)",
    )
    importlib.import_module("flaxformer_lite.cli.import").add_verify(parser)  # "import" is a keyword


def run(arguments: argparse.Namespace) -> None:
    """Exports a model."""
    with name_flags(arguments, "workdir", "target"):
        _run(arguments)


def _run(arguments: argparse.Namespace) -> None:
    malloc.use_single_arena()
    malloc.return_large_arrays()
    from flax.traverse_util import unflatten_dict  # here, because jax takes seconds to import

    from flaxformer_lite.interop import exporting
    from flaxformer_lite.interop.ctranslate2_export import write_ctranslate2
    from flaxformer_lite.interop.verify import verify
    from flaxformer_lite.system.atomic import atomic_dir, require_free

    workdir, target = Path(arguments.workdir), Path(arguments.target)
    require_free(target)
    if len(decode_flags.directories(arguments.workdir)) > 1:
        raise InputError(arguments.workdir, "an ensemble cannot be exported", "name one run")
    trained = exporting.load_trained(workdir, arguments.step)
    if arguments.format == "ctranslate2":
        with atomic_dir(target) as path:
            write_ctranslate2(trained, path)
        logger.info(f"exported step {trained.step:,} of {workdir} for CTranslate2 to {target}")
        return
    family = exporting.choose_family(trained)
    with atomic_dir(target) as path:
        exporting.write_pretrained(trained, family, path)
        if arguments.verify == "yes":
            params = unflatten_dict(trained.params, sep="/")
            verify(path, trained.config, trained.vocabularies, params, path / "conversion.json")
    logger.info(f"exported step {trained.step:,} of {workdir} as {family} to {target}")
