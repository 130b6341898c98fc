"""Sweep over learning rates on a logarithmic scale.

    flaxformer-lite sweep --config=configs/tiny.py --sweep=configs/sweeps/lr.py --workdir=runs/lr --parallel=2

A sweep file has a function sweep() that yields trials: dictionaries of dotted config keys and values, like overrides by
--config.KEY=VALUE. Other keys have the values of --config.
"""


def sweep():
    """Yields four trials."""
    for rate in (5e-4, 1e-3, 2e-3, 5e-3):
        yield {"optim.learning_rate": rate, "seed": 0}
