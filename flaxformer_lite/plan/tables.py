"""A plan as people and as programs read it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from flaxformer_lite.plan import roofline
from flaxformer_lite.plan.arrays import fold_layers
from flaxformer_lite.plan.collectives import by_axes
from flaxformer_lite.plan.fit import Fit, flags_of
from flaxformer_lite.plan.report import USABLE, Plan
from flaxformer_lite.plan.warnings import find_cautions
from flaxformer_lite.system.console import format_size, table


def as_json(plan: Plan) -> dict[str, Any]:
    """All of a plan as plain values; a dictionary that JSON gives back as it is."""
    values: dict[str, Any] = {
        "devices": plan.devices,
        "mesh": plan.mesh,
        "chip": plan.chip._asdict(),
        "batch_size": plan.rows,
        "accumulate": plan.accumulate,
        "remat": plan.remat,
        "sizes": plan.sizes._asdict(),
        "parameters": [
            each._asdict() | {"shape": list(each.shape), "division": list(each.division)} for each in plan.parameters
        ],
        "memory": dataclasses.asdict(plan.memory) | {"total": plan.memory.total},
        "fits": plan.fits,
        "flops": dataclasses.asdict(plan.work),
        "collectives": [
            each._asdict() | {"axes": list(each.axes), "moved": round(each.moved)} for each in plan.collectives
        ],
    }
    seconds = dataclasses.asdict(plan.roofline) | {"step": plan.roofline.step, "hidden": plan.roofline.hidden}
    return values | {
        "seconds": seconds,
        "bound": plan.roofline.bound,
        "tokens_per_second": plan.tokens_per_second,
        "mfu": plan.mfu,
        "steps": plan.steps,
        "device_hours": plan.device_hours,
        "warnings": find_cautions(plan),
    }


def as_text(plan: Plan) -> Iterator[str]:
    """Lines of a report."""
    mesh = " × ".join(f"{axis} {size}" for axis, size in plan.mesh.items())
    sizes = plan.sizes
    yield f"{plan.devices} {plan.chip.name}, {mesh}; nothing was made or run, all from shapes"
    yield (
        f"Batch   {plan.rows:,} rows of {sizes.source_length} + {sizes.target_length} tokens"
        + (f" in {plan.accumulate} parts" if plan.accumulate > 1 else "")
        + f"; vocabularies of {sizes.source_vocabulary:,} and {sizes.target_vocabulary:,}: {sizes.origin}"
    )
    yield ""
    yield from _parameters(plan)
    yield ""
    yield from _memory(plan)
    yield ""
    yield from _work(plan)
    yield ""
    yield from _collectives(plan)
    yield ""
    yield from _time(plan)
    cautions = find_cautions(plan)
    yield ""
    yield "Warnings" if cautions else "No warnings"
    yield from (f"  - {caution}" for caution in cautions)


def fit_as_json(fit: Fit) -> dict[str, Any]:
    """The best plan, the flags that choose it, and what else was compiled."""
    others = [
        {"flags": flags_of(plan), "memory": plan.memory.total, "seconds": plan.roofline.step} for plan in fit.plans
    ]
    counts = {"considered": fit.considered, "compiled": fit.compiled}
    return {"flags": flags_of(fit.plans[0]), "plan": as_json(fit.plans[0]), "fitting": others} | counts


def fit_as_text(fit: Fit) -> Iterator[str]:
    """Lines of a report: what fits, the fastest first, and the plan of that."""
    yield f"{fit.considered} settings considered, {fit.compiled} compiled; of these fit, the fastest first"
    rows = [
        (
            " × ".join(f"{axis} {size}" for axis, size in plan.mesh.items()),
            plan.remat,
            f"{plan.accumulate}",
            format_size(plan.memory.total),
            f"{1e3 * plan.roofline.step:,.1f}",
            f"{plan.tokens_per_second:,.0f}",
            f"{100 * plan.mfu:.1f} %",
        )
        for plan in fit.plans
    ]
    head = ("mesh", "remat", "parts", "on a device", "ms a step", "target tokens/s", "MFU")
    yield from table(head, rows, left=(0, 1))
    yield f"  {' '.join(flags_of(fit.plans[0]))}"
    yield ""
    yield from as_text(fit.plans[0])


def _parameters(plan: Plan) -> Iterator[str]:
    count = sum(each.bytes // _itemsize(each.dtype) for each in plan.parameters)
    yield f"Parameters: {count:,} (exact)"
    rows = []
    for group in sorted(fold_layers(plan.parameters), key=lambda group: -group.members * group.first.device_bytes):
        first = group.first
        axes = [f"{size:,}" + f" / {by}" * bool(by) for size, by in zip(first.shape, first.division, strict=True)]
        held = group.members * first.device_bytes
        rows.append((group.name, f"{group.members}", " × ".join(axes), first.dtype, format_size(held)))
    shown, others = rows[:20], rows[20:]
    yield from table(("", "of them", "shape / divided by", "dtype", "on a device"), shown)
    if others:
        yield f"  and {len(others)} more kinds, each smaller than these (--json has them all)"


def _memory(plan: Plan) -> Iterator[str]:
    memory = plan.memory
    yield "Memory of each device"
    rows = [
        ("weights", format_size(memory.weights), "exact"),
        ("optimizer", format_size(memory.optimizer), "exact"),
        *([("moving average", format_size(memory.average), "exact")] if memory.average else []),
        ("batch", format_size(memory.batch), "exact"),
        ("gradients", format_size(memory.gradients), "exact, if all are held at once"),
        ("activations", format_size(memory.activations), "estimate: all else that the CPU's compiler sets aside"),
        ("all", format_size(memory.total), "fits" if plan.fits else "does not fit"),
        (plan.chip.name, format_size(plan.chip.memory), f"of which about {100 * USABLE:.0f} % can be used"),
    ]
    yield from table(("", "bytes", ""), rows, left=(0, 2))


def _work(plan: Plan) -> Iterator[str]:
    work = plan.work
    yield f"Matrix products of a step, in {work.dtype} (exact)"
    yield f"  model and gradient   {work.model:.4g} FLOPs"
    if work.program != work.model:
        more = 100 * (work.program / work.model - 1)
        yield f"  with what is computed again (remat {plan.remat})   {work.program:.4g} FLOPs, {more:.0f} % more"
    share = work.device * plan.devices / work.program
    yield f"  on each device       {work.device:.4g} FLOPs, {share:.2f} of its share"


def _collectives(plan: Plan) -> Iterator[str]:
    yield "What devices tell one another in a step (exact for the program that the CPU's compiler makes)"
    rows = [
        (
            "+".join(axes) or "parts of axes",
            kind,
            f"{sum(each.times for each in found):,}",
            format_size(sum(each.bytes * each.times for each in found)),
            format_size(sum(each.moved for each in found)),
            f"{1e3 * sum(each.moved / roofline.rate(each, plan.chip) for each in found):,.3f}",
        )
        for (axes, kind), found in by_axes(plan.collectives).items()
    ]
    if not rows:
        yield "  nothing"
        return
    yield from table(("along", "", "of them", "arrays", "a device sends", "ms"), rows, left=(0, 1))


def _time(plan: Plan) -> Iterator[str]:
    line = plan.roofline
    yield (
        f"Time of a step (estimate: products at {roofline.PRODUCTS:.0%}, memory at {roofline.MEMORY:.0%} and links at "
        f"{roofline.LINKS:.0%} of the data sheet)"
    )
    rows = [
        ("matrix products", f"{1e3 * line.products:,.3f}"),
        ("memory traffic", f"{1e3 * line.memory:,.3f}"),
        ("exchanges", f"{1e3 * line.exchanges:,.3f}"),
        ("step", f"{1e3 * line.step:,.3f}"),
        ("step, if exchanges hide behind the rest", f"{1e3 * line.hidden:,.3f}"),
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
