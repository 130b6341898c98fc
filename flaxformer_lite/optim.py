"""Optimizers and learning-rate schedules, all of them optax's."""

from __future__ import annotations

import jax.numpy as jnp
import optax

from flaxformer_lite.config import OptimConfig


def make_schedule(config: OptimConfig, steps: int) -> optax.Schedule:
    """The learning rate of update i (0-based): a linear rise to the peak at i = warmup, then the named fall.

    ``inverse_sqrt`` is the schedule of Vaswani et al. (2017, equation 3), told by its peak: peak · √(warmup / i), and
    peak · √(1 / (i + 1)) where there is no warm-up. ``cosine`` and ``linear`` reach 0 at i = steps, when training is
    over.
    """
    peak, warmup = config.learning_rate, config.warmup_steps
    after = max(steps - warmup, 1)
    scale = max(warmup, 1)
    falls = {  # from the peak, as functions of i - warmup
        "inverse_sqrt": lambda i: peak * jnp.sqrt(scale / jnp.maximum(i + scale, 1)),  # computed in the warm-up too
        "cosine": optax.cosine_decay_schedule(peak, after),
        "linear": optax.linear_schedule(peak, 0.0, after),
        "constant": optax.constant_schedule(peak),
    }
    rise = optax.linear_schedule(peak / (warmup + 1), peak, warmup)  # not from 0, which would waste the first update
    return optax.join_schedules([rise, falls[config.schedule]], [warmup])


def make_optimizer(config: OptimConfig, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Clipping by global norm, then Adam (Kingma & Ba 2015) or AdamW (Loshchilov & Hutter 2019)."""
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    moments = optax.scale_by_adam(config.beta1, config.beta2, config.epsilon)
    decay = optax.add_decayed_weights(config.weight_decay) if config.optimizer == "adamw" else optax.identity()
    return optax.chain(clip, moments, decay, optax.scale_by_learning_rate(schedule))
