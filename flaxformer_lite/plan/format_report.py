"""Plans as text tables and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from flaxformer_lite.plan import roofline
from flaxformer_lite.plan.collectives import by_axes
from flaxformer_lite.plan.mesh_search import MeshSearchResult, to_overrides
from flaxformer_lite.plan.parameter_shards import group_layers
from flaxformer_lite.plan.report import USABLE_MEMORY, PlanReport
from flaxformer_lite.plan.warnings import find_warnings
from flaxformer_lite.system.console import format_size, table


def to_json(plan: PlanReport) -> dict[str, Any]:
    """The report as values that JSON can represent."""
    return {
        "devices": plan.devices,
        "mesh": plan.mesh,
        "chip": plan.chip._asdict(),
        "batch_size": plan.batch_size,
        "grad_accum_steps": plan.grad_accum_steps,
        "remat": plan.remat,
        "sizes": plan.sizes._asdict(),
        "parameters": [
            each._asdict() | {"shape": list(each.shape), "partition": list(each.partition)} for each in plan.parameters
        ],
        "memory": dataclasses.asdict(plan.memory) | {"total": plan.memory.total},
        "fits": plan.fits,
        "flops": dataclasses.asdict(plan.flops),
        "collectives": [
            each._asdict() | {"axes": list(each.axes), "sent": round(each.sent)} for each in plan.collectives
        ],
        "seconds": dataclasses.asdict(plan.roofline)
        | {"step": plan.roofline.step, "overlapped": plan.roofline.overlapped},
        "bound": plan.roofline.bound,
        "tokens_per_second": plan.tokens_per_second,
        "mfu": plan.mfu,
        "steps": plan.steps,
        "device_hours": plan.device_hours,
        "warnings": find_warnings(plan),
    }


def to_text(plan: PlanReport) -> Iterator[str]:
    """The lines of a text report."""
    sizes = plan.sizes
    yield f"{plan.devices} {plan.chip.name}, {_format_mesh(plan)}; computed from shapes, without these devices"
    accumulated = f" in {plan.grad_accum_steps} microbatches" if plan.grad_accum_steps > 1 else ""
    yield (
        f"Batch   {plan.batch_size:,} rows of {sizes.source_length} + {sizes.target_length} tokens{accumulated}; "
        f"vocabularies of {sizes.source_vocabulary:,} and {sizes.target_vocabulary:,}: {sizes.origin}"
    )
    for section in (_parameters, _memory, _flops, _communication, _time):
        yield ""
        yield from section(plan)
    warnings = find_warnings(plan)
    yield ""
    yield "Warnings" if warnings else "No warnings"
    yield from (f"  - {warning}" for warning in warnings)


def search_to_json(found: MeshSearchResult) -> dict[str, Any]:
    """The best plan with its overrides, and the other plans that fit."""
    best, *_ = found.plans
    return {
        "flags": to_overrides(best),
        "plan": to_json(best),
        "fitting": [
            {"flags": to_overrides(plan), "memory": plan.memory.total, "seconds": plan.roofline.step}
            for plan in found.plans
        ],
        "considered": found.considered,
        "compiled": found.compiled,
    }


def search_to_text(found: MeshSearchResult) -> Iterator[str]:
    """The lines of a text report: the settings that fit, fastest first, and the plan of the fastest."""
    yield f"{found.considered} settings considered, {found.compiled} compiled; those that fit, fastest first"
    rows = [
        (
            _format_mesh(plan),
            plan.remat,
            f"{plan.grad_accum_steps}",
            format_size(plan.memory.total),
            f"{1e3 * plan.roofline.step:,.1f}",
            f"{plan.tokens_per_second:,.0f}",
            f"{100 * plan.mfu:.1f} %",
        )
        for plan in found.plans
    ]
    head = ("mesh", "remat", "grad_accum_steps", "per device", "ms per step", "target tokens/s", "MFU")
    yield from table(head, rows, left=(0, 1))
    yield f"  {' '.join(to_overrides(found.plans[0]))}"
    yield ""
    yield from to_text(found.plans[0])


def _format_mesh(plan: PlanReport) -> str:
    return " × ".join(f"{axis} {size}" for axis, size in plan.mesh.items())


def _parameters(plan: PlanReport) -> Iterator[str]:
    count = sum(each.bytes // _itemsize(each.dtype) for each in plan.parameters)
    yield f"Parameters: {count:,} (exact)"
    rows = []
    for group in sorted(
        group_layers(plan.parameters), key=lambda group: -group.num_parameters * group.first.device_bytes
    ):
        first = group.first
        axes = [f"{size:,}" + f" / {by}" * bool(by) for size, by in zip(first.shape, first.partition, strict=True)]
        size = format_size(group.num_parameters * first.device_bytes)
        rows.append((group.name, f"{group.num_parameters}", " × ".join(axes), first.dtype, size))
    shown, others = rows[:20], rows[20:]
    yield from table(("", "count", "shape / divided by", "dtype", "per device"), shown)
    if others:
        yield f"  and {len(others)} smaller groups (listed by --json)"


def _memory(plan: PlanReport) -> Iterator[str]:
    memory = plan.memory
    yield "Memory per device"
    rows = [
        ("parameters", format_size(memory.params), "exact"),
        ("optimizer state", format_size(memory.opt_state), "exact"),
        *([("moving average", format_size(memory.ema), "exact")] if memory.ema else []),
        ("batch", format_size(memory.batch), "exact"),
        ("gradients", format_size(memory.gradients), "exact, if all exist at once"),
        ("activations", format_size(memory.activations), "estimate: all other memory of the CPU compiler's program"),
        ("total", format_size(memory.total), "fits" if plan.fits else "does not fit"),
        (plan.chip.name, format_size(plan.chip.memory), f"about {100 * USABLE_MEMORY:.0f} % of it are usable"),
    ]
    yield from table(("", "bytes", ""), rows, left=(0, 2))


def _flops(plan: PlanReport) -> Iterator[str]:
    flops = plan.flops
    yield f"Matrix products per step, in {flops.dtype} (exact)"
    yield f"  forward and backward   {flops.model:.4g} FLOPs"
    if flops.program != flops.model:
        more = 100 * (flops.program / flops.model - 1)
        yield f"  with remat {plan.remat}   {flops.program:.4g} FLOPs, {more:.0f} % more"
    share = flops.device * plan.devices / flops.program
    yield f"  per device             {flops.device:.4g} FLOPs, {share:.2f} of its share"


def _communication(plan: PlanReport) -> Iterator[str]:
    yield "Communication per step (exact for the program of the CPU compiler)"
    rows = [
        (
            "+".join(axes) or "parts of axes",
            kind,
            f"{sum(each.executions for each in found):,}",
            format_size(sum(each.bytes * each.executions for each in found)),
            format_size(sum(each.sent for each in found)),
            f"{1e3 * sum(each.sent / roofline.link_bandwidth(each, plan.chip) for each in found):,.3f}",
        )
        for (axes, kind), found in by_axes(plan.collectives).items()
    ]
    if not rows:
        yield "  none"
        return
    yield from table(("along", "", "count", "arrays", "sent per device", "ms"), rows, left=(0, 1))


def _time(plan: PlanReport) -> Iterator[str]:
    line = plan.roofline
    yield (
        f"Time per step (estimate: products at {roofline.MATMUL_EFFICIENCY:.0%}, memory at "
        f"{roofline.MEMORY_EFFICIENCY:.0%} and links at {roofline.LINK_EFFICIENCY:.0%} of the data sheet)"
    )
    rows = [
        ("matrix products", f"{1e3 * line.matmuls:,.3f}"),
        ("memory traffic", f"{1e3 * line.memory:,.3f}"),
        ("communication", f"{1e3 * line.communication:,.3f}"),
        ("step", f"{1e3 * line.step:,.3f}"),
        ("step with overlapped communication", f"{1e3 * line.overlapped:,.3f}"),
    ]
    yield from table(("", "ms"), rows)
    yield (
        f"  bound by {line.bound}; {plan.tokens_per_second:,.0f} target tokens/s, padding included; "
        f"MFU {100 * plan.mfu:.1f} %"
    )
    hours = plan.device_hours
    yield f"  {plan.steps:,} steps: {hours:,.1f} device hours, {hours / plan.devices:,.1f} hours"


def _itemsize(dtype: str) -> int:
    return 2 if dtype in ("bfloat16", "float16") else 4
