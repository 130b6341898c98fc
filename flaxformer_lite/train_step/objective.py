"""What training makes small: sums over the target tokens of a batch, as a function of the parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flaxformer_lite.config.dataclasses import TrainConfig
from flaxformer_lite.train_step import losses
from flaxformer_lite.types import Batch


class Sums(NamedTuple):
    """Sums over target tokens; add those of several batches, then divide once.

    Attributes:
      loss: of the label loss alone (smoothing included), whatever else is minimized: comparable from run to run.
      correct: tokens whose best guess is the label.
      weight: tokens.
      objective: of all that is minimized.
    """

    loss: Float[Array, ""]
    correct: Float[Array, ""]
    weight: Float[Array, ""]
    objective: Float[Array, ""]


LabelLoss = Callable[..., losses.Loss]  # of (logits, labels, weights)
Term = Callable[[Any, Batch, Any], losses.Loss]  # of (logits, batch, the teachers' parameters)


@runtime_checkable  # so that the tests' run-time checks can ask
class Objective(Protocol):
    """What a step differentiates by the parameters: ``objective`` of the sums that it gives."""

    def __call__(self, params: Any, teachers: Any, batch: Batch, key: Array) -> Sums:
        """The sums of one batch; ``teachers`` are their parameters, ``key`` is that of dropout."""
        ...


class Criterion(NamedTuple):
    """What is minimized of the logits of one pass: the label loss and further terms, each with its share."""

    label_loss: LabelLoss
    label_share: float = 1.0
    terms: tuple[tuple[float, Term], ...] = ()

    def __call__(self, logits: Float[Array, "b t v"], batch: Batch, teachers: Any) -> Sums:
        """The sums of these logits."""
        loss, weight = self.label_loss(logits, batch.labels, batch.weights)
        others = sum(share * term(logits, batch, teachers)[0] for share, term in self.terms)
        of_labels = jnp.take_along_axis(logits, batch.labels[..., None], axis=-1)[..., 0]
        hits = of_labels >= logits.max(-1)  # no argmax: on a CPU, that is a sixteenth of a training step
        return Sums(loss, (hits * batch.weights).sum(), weight, self.label_share * loss + others)


class OnePass(NamedTuple):
    """The criterion of one pass with dropout."""

    model: nn.Module
    criterion: Criterion

    def __call__(self, params: Any, teachers: Any, batch: Batch, key: Array) -> Sums:
        """The sums of one batch."""
        return self.criterion(_logits(self.model, params, batch, key), batch, teachers)


class TwoPasses(NamedTuple):
    """R-Drop (Liang et al. 2021): the mean criterion of two passes that differ in dropout, and their divergence."""

    model: nn.Module
    criterion: Criterion
    alpha: float

    def __call__(self, params: Any, teachers: Any, batch: Batch, key: Array) -> Sums:
        """The sums of one batch."""
        # Not twice the program but twice the rows in each product; a teacher, which knows no key, runs once.
        logits = jax.vmap(partial(_logits, self.model, params, batch))(jax.random.split(key))
        each = jax.vmap(lambda of_one: self.criterion(of_one, batch, teachers))(logits)
        sums = Sums(*(of_both.mean() for of_both in each))
        divergence, _ = losses.r_drop(logits[0], logits[1], batch.weights)
        return sums._replace(objective=sums.objective + self.alpha * divergence)


class PartlyFrozen(NamedTuple):
    """An objective that does not depend on frozen parameters: their gradients are 0, and cost no work."""

    objective: Objective
    frozen: Any  # a boolean for each parameter

    def __call__(self, params: Any, teachers: Any, batch: Batch, key: Array) -> Sums:
        """The sums of one batch."""
        held = jax.tree.map(lambda x, still: jax.lax.stop_gradient(x) if still else x, params, self.frozen)
        return self.objective(held, teachers, batch, key)


class Distillation(NamedTuple):
    """A term: the divergence from the mean of what teachers find probable."""

    teachers: tuple[nn.Module, ...]
    temperature: float

    def __call__(self, logits: Float[Array, "b t v"], batch: Batch, params: Any) -> losses.Loss:
        """The loss of these logits; ``params`` are the teachers'."""
        said: list[Any] = [
            teacher.apply({"params": own}, batch.source, batch.target_in, train=False)
            for teacher, own in zip(self.teachers, params, strict=True)
        ]
        mean = losses.log_mean_probability(said, self.temperature)
        return losses.distillation(logits, mean, batch.weights, self.temperature)


def label_criterion(config: TrainConfig) -> Criterion:
    """The label loss that the config names, and nothing else: what evaluation measures."""
    loss = {"cross_entropy": losses.cross_entropy, "kl_divergence": losses.kl_divergence}[config.loss]
    return Criterion(partial(loss, smoothing=config.label_smoothing))


def make_objective(model: nn.Module, config: TrainConfig, teachers: Sequence[nn.Module]) -> Objective:
    """What a run of this config makes small.

    ``(1 - weight) · labels + weight · teachers + z_loss · (log Z)²``, and without teachers ``labels + z_loss ·
    (log Z)²``; with R-Drop the mean of that over two passes ``+ r_drop · divergence``.
    """
    terms: list[tuple[float, Term]] = []
    if teachers:
        terms.append((config.distill.weight, Distillation(tuple(teachers), config.distill.temperature)))
    if config.z_loss:
        terms.append((config.z_loss, _z_loss))
    share = 1 - config.distill.weight if teachers else 1.0
    criterion = label_criterion(config)._replace(label_share=share, terms=tuple(terms))
    return TwoPasses(model, criterion, config.r_drop) if config.r_drop else OnePass(model, criterion)


def _z_loss(logits: Any, batch: Batch, teachers: Any) -> losses.Loss:
    del teachers
    return losses.z_loss(logits, batch.weights)


def _logits(model: nn.Module, params: Any, batch: Batch, key: Array) -> Any:
    return model.apply({"params": params}, batch.source, batch.target_in, train=True, rngs={"dropout": key})
