"""Average the parameters of a run's last checkpoints, which often decodes better than any one of them.

The average is saved in the work directory; decode, evaluate and flaxformer_lite.load use it as --step=average
(step="average"). Only checkpoints that training keeps can be averaged: train with --config.train.keep_latest=10 for the
last ten.

Examples:
  flaxformer-lite average --workdir=runs/g2p --last=10
  flaxformer-lite evaluate --workdir=runs/g2p --split=test --step=average
"""

from __future__ import annotations

import argparse

from flaxformer_lite.errors import InputError, require


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workdir", metavar="DIR", required=True, help="work directory of a training run")
    parser.add_argument("--last", type=int, metavar="N", required=True, help="number of checkpoints, the latest ones")


def run(arguments: argparse.Namespace) -> int:
    require(arguments.last >= 1, f"--last={arguments.last}", "must be at least 1")
    from flaxformer_lite.checkpoints.averaging import save_average  # here, because jax takes seconds to import
    from flaxformer_lite.checkpoints.work_dir import WorkDir
    from flaxformer_lite.config.dataclasses import MeshConfig
    from flaxformer_lite.models.encoder_decoder import make_decoding_model
    from flaxformer_lite.sharding.mesh_layout import MeshLayout
    from flaxformer_lite.train_step.state import param_shapes

    try:
        work_dir = WorkDir(arguments.workdir)
        config = work_dir.config()
        module = make_decoding_model(config, *(vocabulary.size for vocabulary in work_dir.vocabularies()))
        shapes = param_shapes(module, config.precision.param_dtype)
        like = MeshLayout(MeshConfig(data=-1, fsdp=1, tensor=1)).replicated_shapes(shapes)
        steps = save_average(work_dir.checkpoints, arguments.last, config.train, like)
    except InputError as error:
        is_flag = error.subject in (arguments.workdir, f"last={arguments.last}")
        flag = "workdir=" * (error.subject == arguments.workdir)
        raise (error.with_subject(f"--{flag}{error.subject}") if is_flag else error) from error
    print(f"averaged the checkpoints of steps {', '.join(map(str, steps))}; use the average as --step=average")
    return 0
