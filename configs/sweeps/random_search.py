"""Random search over optimizer and size, which tries more values of each key than a grid with as many trials.

    flaxformer-lite sweep --config=configs/tiny.py --sweep=configs/sweeps/random_search.py --workdir=runs/random

Bergstra and Bengio (2012), "Random Search for Hyper-Parameter Optimization". Samples are a function of the seed:
the same file gives the same trials, and a larger count adds more.
"""

from flaxformer_lite.sweeps import Choice, Integers, LogUniform, Uniform, random_draws, zipped


def sweep():
    """Yields six samples, each in two sizes."""
    space = {
        "optim.learning_rate": LogUniform(3e-4, 1e-2),
        "optim.optimizer": Choice("adam", "adamw"),
        "optim.warmup_steps": Integers(50, 400),
        "train.label_smoothing": Uniform(0.0, 0.2),
    }
    for sample in random_draws(space, count=6, seed=0):
        for size in zipped({"model.encoder.width": [32, 64], "model.encoder.mlp_dim": [128, 256]}):
            yield sample | size
