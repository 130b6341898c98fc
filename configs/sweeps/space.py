r"""A space of optimizer and size, to search or to draw from.

    flaxformer-lite sweep --config=configs/tiny.py --sweep=configs/sweeps/space.py --workdir=runs/search \
      --search=optuna --trials=20 --pruner=median --parallel=2

Without --search and what follows it, sweep() gives the same number of random draws, which is what a search has to beat.
"""

from flaxformer_lite.sweeps import Choice, Integers, LogUniform, random_draws


def space():
    """Of each key what a value is drawn from; what has one value only is as that says in every point."""
    return {
        "optim.learning_rate": LogUniform(1e-4, 3e-2),
        "optim.optimizer": Choice("adam", "adamw", "lion"),
        "optim.warmup_steps": Integers(50, 400),
        "train.eval_every": 250,  # the more often, the earlier a pruner can see
    }


def sweep():
    """Twenty draws."""
    return random_draws(space(), count=20, seed=0)
