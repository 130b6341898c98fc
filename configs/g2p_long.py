"""Grapheme to phoneme as in configs/g2p.py, trained twice as long, with some dropout, decoded by beam search.

Expect   validation WER 26.8 %, PER 6.5 %; test WER 27.7 %, PER 6.7 % (beam 5, seed 0); Phonetisaurus 0.3.0, an 8-gram
         model, has 29.7 and 7.3 on the same test split (benchmarks/g2p_peers.py)
Time     72 minutes on one shared CPU core; twice that of configs/g2p.py
Train    flaxformer-lite train --config=configs/g2p_long.py --workdir=runs/g2p_long
Measure  flaxformer-lite evaluate --workdir=runs/g2p_long --split=test
Vary     another seed: --config.seed=1
"""

from ml_collections import ConfigDict

from flaxformer_lite.run_cards import g2p


def get_config() -> ConfigDict:
    """What differs from configs/g2p.py."""
    config = g2p.get_config()

    config.data.num_buckets = 6

    config.model.encoder.dropout = 0.05

    config.train.steps = 21_000
    config.train.eval_every = 3_000
    config.train.save_every = 1_000

    config.decode.method = "beam"
    return config
