"""Average the parameters of a run's last checkpoints, which often decodes better than any one of them.

The mean lies in the work folder; decode, evaluate and flaxformer_lite.load use it as --step=average (step="average").
Only what training keeps can be averaged: train with --config.train.keep_latest=10 for the last ten.

Examples:
  flaxformer-lite average --workdir=runs/g2p --last=10
  flaxformer-lite evaluate --workdir=runs/g2p --split=test --step=average
"""

from __future__ import annotations

import argparse

from flaxformer_lite.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of ``average``."""
    parser.add_argument("--workdir", metavar="FOLDER", required=True, help="the work folder of a training run")
    parser.add_argument("--last", type=int, metavar="N", required=True, help="how many checkpoints, the newest ones")


def run(arguments: argparse.Namespace) -> int:
    """Averages; returns the exit code."""
    if arguments.last < 1:
        raise InputError(f"--last={arguments.last}: must be at least 1")
    from flaxformer_lite.checkpoints.averaging import save_average
    from flaxformer_lite.checkpoints.work_dir import WorkDir
    from flaxformer_lite.config.dataclasses import MeshConfig
    from flaxformer_lite.models.encoder_decoder import make_decoding_model
    from flaxformer_lite.sharding.mesh import MeshLayout
    from flaxformer_lite.train_step.state import param_shapes

    folder = WorkDir(arguments.workdir)
    config = folder.config()
    model = make_decoding_model(config, *(vocabulary.size for vocabulary in folder.vocabularies()))
    layout = MeshLayout(MeshConfig(data=-1, fsdp=1, tensor=1))
    steps = save_average(
        folder.checkpoints,
        arguments.last,
        config.train,
        layout.replicated_shapes(param_shapes(model, config.precision.param_dtype)),
    )
    print(f"averaged the checkpoints of steps {', '.join(map(str, steps))}; use it as --step=average")
    return 0
