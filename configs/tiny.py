"""Reverse short strings: the smallest run that shows everything working.

Expect   at least 99 % exact match on the test split
Time     about a minute on 2 CPU cores, compiles included
Train    flaxformer-lite train --config=configs/tiny.py --workdir=runs/tiny
Use      echo "abcde" | flaxformer-lite decode --workdir=runs/tiny
Vary     longer strings: --config.data.reverse.max_length=20 (and more steps: --config.train.steps=4000)
         another seed:   --config.seed=1
"""

from ml_collections import ConfigDict

from flaxformer_lite.config import defaults


def get_config() -> ConfigDict:
    """What differs from the base."""
    config = defaults.get_config()

    config.data.task = "reverse"
    config.data.max_source_length = 32  # room for longer strings than the base's 10 characters
    config.data.max_target_length = 32

    config.model.encoder.width = 64
    config.model.encoder.mlp_dim = 256
    config.model.encoder.num_layers = 2
    config.model.encoder.dropout = 0.0  # every string is new: there is nothing to overfit

    config.optim.learning_rate = 2e-3
    config.optim.schedule = "linear"
    config.optim.warmup_steps = 200

    config.train.steps = 2_000
    config.train.batch_size = 64
    config.train.label_smoothing = 0.0
    config.train.eval_every = 500
    config.train.save_every = 500

    config.eval.metrics = ("exact_match",)
    config.eval.best_metric = "exact_match"
    return config
