"""Learning rates on a logarithmic scale.

    flaxformer-lite sweep --config=configs/tiny.py --sweep=configs/sweeps/lr.py --workdir=runs/lr --parallel=2

A sweep file has one function, sweep(), that yields points. A point says which keys of the config change and to what, as
--config.KEY=VALUE would; what it does not name is as --config says.
"""


def sweep():
    """Four rates, an order of magnitude in all."""
    for rate in (5e-4, 1e-3, 2e-3, 5e-3):
        yield {"optim.learning_rate": rate, "seed": 0}
