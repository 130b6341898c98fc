r"""The sweep of short runs that compare.png shows.

These commands draw it:

  flaxformer-lite sweep --config=tiny --sweep=docs/pictures/compare.py --workdir=runs/picture \
    --parallel=2 --config.train.steps=600 --config.train.log_every=10 --config.train.eval_every=50 \
    --config.eval.max_examples=200
  flaxformer-lite compare runs/picture --html=runs/picture.html
  chromium --headless --hide-scrollbars --window-size=1200,1100 --virtual-time-budget=3000 \
    --screenshot=docs/pictures/compare.png "file://$PWD/runs/picture.html"
"""

import itertools


def sweep():
    """Learning rates by widths, two seeds each."""
    for rate, width, seed in itertools.product((5e-4, 2e-3, 5e-3), (32, 64), (0, 1)):
        yield {"optim.learning_rate": rate, "model.encoder.width": width, "seed": seed}
