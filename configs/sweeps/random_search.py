"""Random search over optimizer and size: where few keys matter, it tries more values of them than a grid does.

    flaxformer-lite sweep --config=configs/tiny.py --sweep=configs/sweeps/random_search.py --workdir=runs/random

Bergstra and Bengio (2012), "Random Search for Hyper-Parameter Optimization". Draws are a function of the seed: the same
file is the same points, and a larger count adds some.
"""

from flaxformer_lite.sweeps import Choice, Integers, LogUniform, Uniform, random_draws, zipped


def sweep():
    """Six draws, each trained in two sizes."""
    space = {
        "optim.learning_rate": LogUniform(3e-4, 1e-2),
        "optim.optimizer": Choice("adam", "adamw"),
        "optim.warmup_steps": Integers(50, 400),
        "train.label_smoothing": Uniform(0.0, 0.2),
    }
    for drawn in random_draws(space, count=6, seed=0):
        for size in zipped({"model.encoder.width": [32, 64], "model.encoder.mlp_dim": [128, 256]}):
            yield drawn | size
