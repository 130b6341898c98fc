"""Training objective: sums over the target tokens of a batch, as a function of the parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flaxformer_lite.config.dataclasses import TrainConfig
from flaxformer_lite.config.import_path import build
from flaxformer_lite.train_step import losses
from flaxformer_lite.types import Batch

LabelLoss = Callable[..., losses.Loss]  # (logits, labels, weights) → loss
LossTerm = Callable[..., losses.Loss]  # (logits, batch) → loss


class Sums(NamedTuple):
    """Sums over target tokens: those of several batches are added, then divided once by ``weight``.

    Attributes:
      loss: the label loss alone (smoothing included), which is comparable between runs with different objectives.
      correct: tokens whose label has the highest logit.
      weight: tokens.
      objective: the quantity that training minimizes.
    """

    loss: Float[Array, ""]
    correct: Float[Array, ""]
    weight: Float[Array, ""]
    objective: Float[Array, ""]


@dataclasses.dataclass(frozen=True, eq=False)
class Objective:
    """The objective of a run; training minimizes ``loss_fn(...).objective``.

    ``label_weight · label loss + distill_weight · distillation + Σ weight · term``, with R-Drop the mean of that over
    two passes plus ``r_drop · divergence``.

    Attributes:
      model: the model that is trained.
      label_loss: the loss between logits and labels.
      label_weight: its weight.
      terms: further losses of the same logits, each with its weight.
      teachers: models whose mean distribution the model learns.
      distill_weight: weight of the divergence from that distribution.
      temperature: of teachers and student in that divergence.
      r_drop: weight of the divergence between two passes that differ in dropout; 0: one pass.
      frozen: a boolean for each parameter; frozen ones have gradient 0, at no cost. None: all are trained.
    """

    model: nn.Module
    label_loss: LabelLoss
    label_weight: float = 1.0
    terms: tuple[tuple[float, LossTerm], ...] = ()
    teachers: tuple[nn.Module, ...] = ()
    distill_weight: float = 0.0
    temperature: float = 1.0
    r_drop: float = 0.0
    frozen: Any = None

    def loss_fn(self, params: Any, teacher_params: Sequence[Any], batch: Batch, key: Array) -> Sums:
        """The sums of one batch; ``key`` is that of dropout."""
        params = stop_gradient_frozen(params, self.frozen)

        def logits_of(key: Array) -> Any:
            rngs = {"dropout": key}
            return self.model.apply({"params": params}, batch.source, batch.target_in, train=True, rngs=rngs)

        if not self.r_drop:
            return self.token_loss(logits_of(key), batch, teacher_params)
        # vmap doubles the rows of each matrix product instead of the program; teachers, which read no key, run once.
        logits = jax.vmap(logits_of)(jax.random.split(key))
        each = jax.vmap(lambda logits: self.token_loss(logits, batch, teacher_params))(logits)
        sums = Sums(*(of_both.mean() for of_both in each))
        divergence, _ = losses.r_drop_loss(logits[0], logits[1], batch.weights)
        return sums._replace(objective=sums.objective + self.r_drop * divergence)

    def token_loss(self, logits: Float[Array, "b t v"], batch: Batch, teacher_params: Sequence[Any] = ()) -> Sums:
        """The sums of the logits of one pass."""
        loss, weight = self.label_loss(logits, batch.labels, batch.weights)
        others = 0.0
        if self.teachers:
            others += self.distill_weight * self._distillation(logits, batch, teacher_params)[0]
        for term_weight, term in self.terms:
            others += term_weight * term(logits, batch)[0]
        of_labels = jnp.take_along_axis(logits, batch.labels[..., None], axis=-1)[..., 0]
        hits = of_labels >= logits.max(-1)  # no argmax: on a CPU, that is a sixteenth of a training step
        return Sums(loss, (hits * batch.weights).sum(), weight, self.label_weight * loss + others)

    def without_remat(self) -> Objective:
        """The same objective of the model that recomputes nothing for the gradient."""
        model: Any = self.model
        config = dataclasses.replace(model.config, remat="none")
        return dataclasses.replace(self, model=model.clone(config=config))

    def _distillation(self, logits: Any, batch: Batch, teacher_params: Sequence[Any]) -> losses.Loss:
        teacher_logits: list[Any] = [
            teacher.apply({"params": params}, batch.source, batch.target_in, train=False)
            for teacher, params in zip(self.teachers, teacher_params, strict=True)
        ]
        mean = losses.log_mean_probability(teacher_logits, self.temperature)
        return losses.distillation(logits, mean, batch.weights, self.temperature)


def label_objective(model: nn.Module, config: TrainConfig) -> Objective:
    """The label loss that the config names, without further terms: the loss of evaluation."""
    loss = {"cross_entropy": losses.cross_entropy, "kl_divergence": losses.kl_divergence}[config.loss]
    return Objective(model, partial(loss, smoothing=config.label_smoothing))


def make_objective(
    model: nn.Module, config: TrainConfig, teachers: Sequence[nn.Module] = (), frozen: Any = None
) -> Objective:
    """The objective that the config describes.

    A term ``module:name`` of ``train.loss_terms`` is a function of (logits, batch), or a dataclass whose instance is
    one; it returns a loss, whose sum over target tokens is added to the objective.
    """
    terms: list[tuple[float, LossTerm]] = []
    if config.z_loss:
        terms.append((config.z_loss, lambda logits, batch: losses.z_loss(logits, batch.weights)))
    for path in config.loss_terms:
        options = config.loss_options.get(path.rpartition(":")[2], {})
        terms.append((1.0, build(path, options, "train.loss_terms")))
    return dataclasses.replace(
        label_objective(model, config),
        label_weight=1 - config.distill.weight if teachers else 1.0,
        terms=tuple(terms),
        teachers=tuple(teachers),
        distill_weight=config.distill.weight,
        temperature=config.distill.temperature,
        r_drop=config.r_drop,
        frozen=frozen,
    )


def stop_gradient_frozen(params: Any, frozen: Any) -> Any:
    """The same parameters, of which the frozen ones are constants for differentiation."""
    if frozen is None:
        return params
    return jax.tree.map(lambda x, off: jax.lax.stop_gradient(x) if off else x, params, frozen)
