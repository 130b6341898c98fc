"""Grapheme to phoneme as in configs/g2p.py, with a larger model, trained until it no longer gains.

Expect   test WER below 30.25 % and PER below 7.47 %, which is what Phonetisaurus 0.3.0 (an 8-gram model) reaches on the
         same split
Time     about an hour on a GPU, several on 2 CPU cores
Train    flaxformer-lite train --config=configs/g2p_long.py --workdir=runs/g2p_long
Measure  flaxformer-lite evaluate --workdir=runs/g2p_long --split=test
Vary     another seed: --config.seed=1
"""

from ml_collections import ConfigDict

from configs import g2p


def get_config() -> ConfigDict:
    """What differs from configs/g2p.py."""
    config = g2p.get_config()

    config.data.buckets = 6

    config.optim.learning_rate = 2e-3

    config.model.dropout = 0.05

    config.train.steps = 21_000
    config.train.eval_every = 3_000
    config.train.save_every = 1_000
    return config
