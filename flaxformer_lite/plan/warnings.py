"""What should be looked at before a run is started, in words."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from flaxformer_lite.plan.arrays import fold_layers
from flaxformer_lite.plan.report import USABLE, Plan
from flaxformer_lite.sharding.mesh import BATCH

_LARGE = 64 * 2**20  # bytes of parameters that every device holds whole and that are worth a word
_PADDING = 0.2  # share of places
_TWICE = 1.05  # work of all devices over what there is to do
_ALIGNED = 128  # what the width of a chip's matrix unit divides well


def find_cautions(plan: Plan) -> list[str]:
    """One sentence each."""
    return [*_memory(plan), *_replicated(plan), *_work(plan), *_exchanges(plan), *_data(plan)]


def _memory(plan: Plan) -> Iterator[str]:
    total, usable = plan.memory.total, USABLE * plan.chip.memory
    if total > usable:
        yield (
            f"does not fit: {total / 1e9:,.1f} GB a device, and of {plan.chip.name}'s {plan.chip.memory / 1e9:,.0f} GB "
            f"about {usable / 1e9:,.0f} can be used; divide more (config.mesh), compute a batch in parts "
            f"(config.train.grad_accum_steps) or activations again (config.model.remat); --fit looks for what fits"
        )


def _replicated(plan: Plan) -> Iterator[str]:
    if plan.devices == 1:
        return
    whole = [parameter for parameter in plan.parameters if not any(parameter.division)]
    if len(whole) == len(plan.parameters):
        kept = plan.memory.weights + plan.memory.optimizer + plan.memory.average
        if kept > _LARGE:
            yield (
                f"every device holds all weights and moments, {kept / 1e9:,.2f} GB: nothing divides them "
                f"({_named(plan.mesh)})"
            )
        return
    for group in fold_layers(whole):
        amount = group.members * group.first.bytes
        if amount > _LARGE:
            yield f"every device holds {group.name} whole, {amount / 1e9:,.2f} GB, and its moments beside it"
    for parameter in whole:
        if parameter.name.endswith("embedding/table") and _LARGE / 64 < parameter.bytes <= _LARGE:
            yield f"{parameter.name}: nothing divides its {parameter.shape[0]:,} vectors, which every device holds"


def _work(plan: Plan) -> Iterator[str]:
    done = plan.work.device * plan.devices
    if done > _TWICE * plan.work.program:
        yield (
            f"devices compute the same things: together {done / plan.work.program:.2f} times the products that there "
            f"are; an axis of the mesh divides weights but not the work with them"
        )
    for name in plan.endless:
        yield f"the loop {name} runs nobody knows how often; what is in it counts once"


def _exchanges(plan: Plan) -> Iterator[str]:
    """Weights are gathered forward and backward and gradients reduced: three times their bytes, at most."""
    largest = sum(parameter.bytes for parameter in plan.parameters)
    for axes in {each.axes for each in plan.collectives}:
        gathers = [each for each in plan.collectives if each.axes == axes and each.kind == "all-gather"]
        amount = sum(each.bytes * each.times for each in gathers)
        if amount > 3 * plan.accumulate * largest:
            most = max(gathers, key=lambda each: each.bytes * each.times)
            yield (
                f"{amount / 1e9:,.1f} GB a step are gathered along {'+'.join(axes) or 'parts of axes'}, and all "
                f"weights are but {largest / 1e9:,.2f} GB: activations are gathered too, such as in {most.what}"
            )
    sums = [each for each in plan.collectives if "reduce" in each.kind and set(each.axes) & set(BATCH[0])]
    summed = sum(each.bytes * each.times for each in sums)
    if summed > 3 * plan.accumulate * largest:
        most = max(sums, key=lambda each: each.bytes * each.times)
        yield (
            f"{summed / 1e9:,.1f} GB of sums go between devices that share a batch, and all gradients are but "
            f"{largest / 1e9:,.2f} GB: they are added over devices within a loop, {most.times} times in {most.what}; "
            f"config.parallel.mode='pmap' adds them once"
        )
    for each in plan.collectives:
        if not each.axes and each.moved > _LARGE:
            yield (
                f"{each.moved / 1e9:,.2f} GB a step go between devices that are no axis of the mesh ({each.kind} in "
                f"{each.what})"
            )


def _data(plan: Plan) -> Iterator[str]:
    sizes = plan.sizes
    if sizes.padding > _PADDING:
        yield (
            f"{100 * sizes.padding:.0f} % of the places of a batch are padding; more shapes waste less "
            f"(config.data.num_buckets)"
        )
    for side, size in (("source", sizes.source_vocabulary), ("target", sizes.target_vocabulary)):
        if size > 64 * _ALIGNED and size % _ALIGNED:
            yield (
                f"the {side} vocabulary of {size:,} entries is no multiple of {_ALIGNED}, which chips fill up: "
                f"{-(-size // _ALIGNED) * _ALIGNED:,} would be"
            )


def _named(mesh: dict[str, int]) -> str:
    return ", ".join(f"config.mesh.{axis}={size}" for axis, size in mesh.items()) if prod(mesh.values()) > 1 else ""
