r"""Search space over optimizer settings.

    flaxformer-lite sweep --config=configs/tiny.py --sweep=configs/sweeps/space.py --workdir=runs/search \
      --search=optuna --trials=20 --pruner=median --parallel=2

Without --search, --trials and --pruner, sweep() gives as many random samples, the baseline of a search.
"""

from flaxformer_lite.sweeps import Choice, Integers, LogUniform, random_draws


def space():
    """A distribution, or a constant, for each key."""
    return {
        "optim.learning_rate": LogUniform(1e-4, 3e-2),
        "optim.optimizer": Choice("adam", "adamw", "lion"),
        "optim.warmup_steps": Integers(50, 400),
        "train.eval_every": 250,  # a pruner decides at evaluations
    }


def sweep():
    """Yields twenty random samples."""
    return random_draws(space(), count=20, seed=0)
