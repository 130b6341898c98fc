"""Search for the mesh, rematerialization policy and gradient accumulation that fit in memory and train fastest.

There are hundreds of settings, and a program takes seconds to compile. Formulas rank them: memory and compute time are
scaled from one compiled program per policy, and communication is computed from sizes. The best are compiled, and the
fastest of these plans is the result.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from flaxformer_lite.config.dataclasses import Config, MeshConfig
from flaxformer_lite.config.model_dataclasses import ModelConfig
from flaxformer_lite.errors import InputError
from flaxformer_lite.monitoring.chips import Chip
from flaxformer_lite.plan.collectives import Collective
from flaxformer_lite.plan.data_sizes import DataSizes
from flaxformer_lite.plan.report import USABLE_MEMORY, PlanReport, make_report
from flaxformer_lite.plan.roofline import link_bandwidth

logger = logging.getLogger(__name__)

_POLICIES = ("none", "dots_with_no_batch_dims", "full")
_MAX_COMPILED = 4  # of the best candidates, besides one program per policy


class Candidate(NamedTuple):
    """A setting with its predicted seconds per step and bytes per device."""

    mesh: MeshConfig
    remat: str
    grad_accum_steps: int
    seconds: float
    memory: float


class MeshSearchResult(NamedTuple):
    """Result of the search.

    Attributes:
      plans: the compiled ones that fit, fastest first.
      considered: number of candidates.
      compiled: number of compiled programs.
    """

    plans: list[PlanReport]
    considered: int
    compiled: int


def search_mesh(config: Config, sizes: DataSizes, chip: Chip, devices: Sequence[Any]) -> MeshSearchResult:
    """Searches for the fastest setting that fits.

    Raises:
      InputError: nothing fits.
    """
    plans: dict[tuple[MeshConfig, str, int], PlanReport] = {}

    def compiled(mesh: MeshConfig, remat: str, grad_accum_steps: int) -> PlanReport:
        key = (mesh, remat, grad_accum_steps)
        if key not in plans:
            axes = ", ".join(f"{axis} {size}" for axis, size in dataclasses.asdict(mesh).items())
            logger.info(f"compiling {axes}, remat {remat}, grad_accum_steps {grad_accum_steps} …")
            plans[key] = make_report(with_setting(config, *key), sizes, chip, devices)
        return plans[key]

    meshes = list(_meshes(config, len(devices)))
    first = _first_valid(meshes, lambda mesh: compiled(mesh, _POLICIES[-1], 1))
    measured = [compiled(first, policy, 1) for policy in _POLICIES]
    candidates = sorted(
        (candidate for plan in measured for mesh in meshes for candidate in _candidates(config, mesh, plan)),
        key=lambda candidate: candidate.seconds,
    )
    num_compiled = 0
    for candidate in candidates:
        if candidate.memory > USABLE_MEMORY * chip.memory:
            continue
        if num_compiled == _MAX_COMPILED:
            break
        try:
            compiled(candidate.mesh, candidate.remat, candidate.grad_accum_steps)
            num_compiled += 1
        except InputError:
            continue  # this mesh does not divide an axis of a parameter
    fitting = sorted((plan for plan in plans.values() if plan.fits), key=lambda plan: plan.roofline.step)
    if not fitting:
        smallest = min(plan.memory.total for plan in plans.values()) / 1e9
        raise InputError(
            f"{len(devices)} {chip.name}",
            f"nothing fits in memory: of {len(candidates)} settings {len(plans)} were compiled, and the smallest needs "
            f"{smallest:,.1f} GB per device",
            "use more devices, a chip with more memory or a smaller config.train.batch_size",
        )
    return MeshSearchResult(fitting, len(candidates), len(plans))


def with_setting(config: Config, mesh: MeshConfig, remat: Any, grad_accum_steps: int) -> Config:
    """The config with another mesh, rematerialization policy and gradient accumulation."""
    return dataclasses.replace(
        config,
        mesh=mesh,
        model=dataclasses.replace(config.model, remat=remat),
        train=dataclasses.replace(config.train, grad_accum_steps=grad_accum_steps),
    )


def to_overrides(plan: PlanReport) -> list[str]:
    """The overrides that select the setting of a plan."""
    return [
        *(f"--config.mesh.{axis}={size}" for axis, size in plan.mesh.items()),
        f"--config.model.remat={plan.remat}",
        f"--config.train.grad_accum_steps={plan.grad_accum_steps}",
    ]


def _meshes(config: Config, devices: int) -> Iterator[MeshConfig]:
    """All meshes that divide the batch; those with more parameter sharding first."""
    divisors = [size for size in range(1, devices + 1) if devices % size == 0]
    heads = _divisible_heads(config.model)
    for tensor in divisors:
        for fsdp in reversed(divisors):
            data, odd = divmod(devices, fsdp * tensor)
            if not odd and data and config.train.batch_size % (data * fsdp) == 0 and heads % tensor == 0:
                yield MeshConfig(data, fsdp, tensor)


def _divisible_heads(model: ModelConfig) -> int:
    """The greatest number of devices that heads can be sharded over, by the key heads of both stacks."""
    stacks = model.encoder, model.decoder
    return math.gcd(*(stack.kv_heads for stack in stacks if stack.kind == "transformer")) or 1  # gcd() is 0


def _first_valid(meshes: Sequence[MeshConfig], plan: Callable[[MeshConfig], PlanReport]) -> MeshConfig:
    """The first mesh that can be compiled."""
    error = InputError(
        "config.train.batch_size", "no mesh divides it evenly", "make it a multiple of the number of devices"
    )
    for mesh in meshes:
        try:
            plan(mesh)
            return mesh
        except InputError as reason:
            error = reason
    raise error


def _candidates(config: Config, mesh: MeshConfig, measured: PlanReport) -> Iterator[Candidate]:
    """One mesh with the policy of a compiled plan, and all possible numbers of microbatches."""
    rows = config.train.batch_size // (mesh.data * mesh.fsdp)
    base = MeshConfig(**measured.mesh)
    memory = measured.memory
    # Activations are divided by rows and, mostly, by heads and hidden units; parameters by all axes that shard them.
    state = (memory.params + memory.opt_state + memory.ema + memory.gradients) * (
        (base.fsdp * base.tensor) / (mesh.fsdp * mesh.tensor)
    )
    activations = memory.activations * _size(base) / _size(mesh)
    compute = measured.roofline.matmuls + measured.roofline.memory
    for microbatches in (count for count in range(1, rows + 1) if rows % count == 0):
        seconds = compute + _communication(config, mesh, microbatches, measured)
        yield Candidate(mesh, measured.remat, microbatches, seconds, state + activations / microbatches)


def _size(mesh: MeshConfig) -> int:
    return mesh.data * mesh.fsdp * mesh.tensor


def _communication(config: Config, mesh: MeshConfig, microbatches: int, measured: PlanReport) -> float:
    """Seconds of communication per step, by formulas.

    Parameters are gathered forward and backward and their gradients reduced, for each microbatch; tensor parallelism
    reduces the output of each sublayer and the gradients of its inputs.
    """
    params = sum(parameter.bytes for parameter in measured.parameters)
    element = 2 if measured.flops.dtype == "bfloat16" else 4
    model, node = config.model, measured.chip.node
    source, target = (
        measured.batch_size // (mesh.data * mesh.fsdp) * length * model.encoder.width * element
        for length in (measured.sizes.source_length, measured.sizes.target_length)
    )
    layers, decoder_layers = model.encoder.num_layers, model.decoder.num_layers
    reduced = (6 * layers + 2 * decoder_layers) * source + 9 * decoder_layers * target
    along = (  # kind, group size, stride of a group's devices, bytes, count
        ("all-reduce", mesh.data, mesh.fsdp * mesh.tensor, params / (mesh.fsdp * mesh.tensor), microbatches),
        ("all-gather", mesh.fsdp, mesh.tensor, 3 * params / mesh.tensor, microbatches),
        ("all-reduce", mesh.tensor, 1, reduced, 1),
    )
    seconds = 0.0
    for kind, group, stride, size, count in along:
        per_node = max(min(group, node // stride), 1)
        collective = Collective(kind, (), group, per_node, int(size), count, "")
        seconds += collective.sent / link_bandwidth(collective, measured.chip) if group > 1 else 0
    return seconds
