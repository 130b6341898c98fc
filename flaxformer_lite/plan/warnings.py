"""Warnings about a planned run."""

from __future__ import annotations

from collections.abc import Iterator

from flaxformer_lite.plan.parameter_shards import group_layers
from flaxformer_lite.plan.report import USABLE_MEMORY, PlanReport
from flaxformer_lite.sharding.mesh_layout import BATCH

_LARGE = 64 * 2**20  # bytes of replicated parameters or communication that are worth a warning
_MAX_PADDING = 0.2  # fraction of a batch
_MAX_REDUNDANCY = 1.05  # FLOPs of all devices relative to those of the program
_ALIGNMENT = 128  # multiple that uses a chip's matrix unit fully


def find_warnings(plan: PlanReport) -> list[str]:
    """One sentence each."""
    return [*_memory(plan), *_replicated(plan), *_flops(plan), *_communication(plan), *_data(plan)]


def _memory(plan: PlanReport) -> Iterator[str]:
    total, usable = plan.memory.total, USABLE_MEMORY * plan.chip.memory
    if total > usable:
        yield (
            f"does not fit: {total / 1e9:,.1f} GB per device, but about {usable / 1e9:,.0f} GB of the "
            f"{plan.chip.memory / 1e9:,.0f} GB of {plan.chip.name} are usable; shard more (config.mesh), accumulate "
            f"gradients (config.train.grad_accum_steps) or rematerialize activations (config.model.remat)"
        )


def _replicated(plan: PlanReport) -> Iterator[str]:
    if plan.devices == 1:
        return
    replicated = [parameter for parameter in plan.parameters if not any(parameter.partition)]
    if len(replicated) == len(plan.parameters):
        size = plan.memory.params + plan.memory.opt_state + plan.memory.ema
        if size > _LARGE:
            mesh = ", ".join(f"config.mesh.{axis}={size}" for axis, size in plan.mesh.items())
            yield f"every device stores all parameters and optimizer state, {size / 1e9:,.2f} GB ({mesh})"
        return
    for group in group_layers(replicated):
        size = group.num_parameters * group.first.bytes
        if size > _LARGE:
            yield f"every device stores all of {group.name}, {size / 1e9:,.2f} GB, and its optimizer state"
    for parameter in replicated:
        if parameter.name.endswith("embedding/table") and _LARGE / 64 < parameter.bytes <= _LARGE:
            yield f"every device stores all of {parameter.name}: its {parameter.shape[0]:,} rows cannot be sharded"


def _flops(plan: PlanReport) -> Iterator[str]:
    redundancy = plan.flops.device * plan.devices / plan.flops.program
    if redundancy > _MAX_REDUNDANCY:
        yield (
            f"devices compute the same matrix products: in total {redundancy:.2f} times those of the step; a mesh axis "
            f"shards parameters but not the computation with them"
        )
    for name in plan.unbounded_loops:
        yield f"the number of iterations of the loop {name} is unknown; its body is counted once"


def _communication(plan: PlanReport) -> Iterator[str]:
    """Parameters are gathered forward and backward and gradients reduced: at most three times their bytes."""
    params = sum(parameter.bytes for parameter in plan.parameters)
    for axes in {each.axes for each in plan.collectives}:
        gathers = [each for each in plan.collectives if each.axes == axes and each.kind == "all-gather"]
        gathered = sum(each.bytes * each.executions for each in gathers)
        if gathered > 3 * plan.grad_accum_steps * params:
            largest = max(gathers, key=lambda each: each.bytes * each.executions)
            yield (
                f"{gathered / 1e9:,.1f} GB per step are gathered along {'+'.join(axes) or 'parts of axes'}, although "
                f"all parameters have {params / 1e9:,.2f} GB: activations are gathered too, as in {largest.op_name}"
            )
    reductions = [each for each in plan.collectives if "reduce" in each.kind and set(each.axes) & set(BATCH[0])]
    reduced = sum(each.bytes * each.executions for each in reductions)
    if reduced > 3 * plan.grad_accum_steps * params:
        largest = max(reductions, key=lambda each: each.bytes * each.executions)
        yield (
            f"{reduced / 1e9:,.1f} GB per step are reduced over devices that share a batch, although all gradients "
            f"have {params / 1e9:,.2f} GB: reduced inside a loop, {largest.executions} times in {largest.op_name}; "
            f"config.parallel.mode='pmap' reduces them once"
        )
    for each in plan.collectives:
        if not each.axes and each.sent > _LARGE:
            yield (
                f"{each.sent / 1e9:,.2f} GB per step are sent between devices that are not along a mesh axis "
                f"({each.kind} in {each.op_name})"
            )


def _data(plan: PlanReport) -> Iterator[str]:
    sizes = plan.sizes
    if sizes.padding > _MAX_PADDING:
        yield f"{100 * sizes.padding:.0f} % of a batch is padding; more buckets reduce it (config.data.num_buckets)"
    for side, size in (("source", sizes.source_vocabulary), ("target", sizes.target_vocabulary)):
        if size > 64 * _ALIGNMENT and size % _ALIGNMENT:
            aligned = -(-size // _ALIGNMENT) * _ALIGNMENT
            yield (
                f"the size {size:,} of the {side} vocabulary is not a multiple of {_ALIGNMENT}, to which chips pad it; "
                f"{aligned:,} is"
            )
