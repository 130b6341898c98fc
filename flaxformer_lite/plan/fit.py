"""Looks for the mesh, the rematerialization and the parts of a batch that fit in memory and train fastest.

There are hundreds of settings and a program takes seconds to compile, so most are ranked by formulas: memory and time
on the chip are scaled from one compiled program of each policy, and exchanges are counted from sizes. The best are then
compiled, and their own plans decide.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from flaxformer_lite.config.dataclasses import Config, MeshConfig, ModelConfig
from flaxformer_lite.errors import InputError
from flaxformer_lite.monitoring.chips import Chip
from flaxformer_lite.plan.collectives import Collective
from flaxformer_lite.plan.report import USABLE, Plan, make_plan
from flaxformer_lite.plan.roofline import rate
from flaxformer_lite.plan.sizes import Sizes

logger = logging.getLogger(__name__)

_POLICIES = ("none", "dots_with_no_batch_dims", "full")
_TRIALS = 4  # programs compiled of the best that formulas find, beside one of each policy


class Setting(NamedTuple):
    """What ``--fit`` chooses, and what formulas expect of it: seconds of a step, bytes of a device."""

    mesh: MeshConfig
    remat: str
    accumulate: int
    seconds: float
    memory: float


class Fit(NamedTuple):
    """What was found.

    Attributes:
      plans: of all that was compiled and fits, the fastest first.
      considered: settings that formulas were asked about.
      compiled: programs.
    """

    plans: list[Plan]
    considered: int
    compiled: int


def find_fit(config: Config, sizes: Sizes, chip: Chip, devices: Sequence[Any], say: Callable[[str], None]) -> Fit:
    """Searches; ``say`` is told of every program that is compiled, since each takes its time.

    Raises:
      InputError: nothing fits.
    """
    found: dict[tuple[MeshConfig, str, int], Plan] = {}

    def compiled(mesh: MeshConfig, remat: str, accumulate: int) -> Plan:
        key = (mesh, remat, accumulate)
        if key not in found:
            logger.info(f"compiling {_named(mesh)}, remat {remat}, {accumulate} parts …")
            found[key] = make_plan(with_setting(config, mesh, remat, accumulate), sizes, chip, devices)
        return found[key]

    meshes = list(_meshes(config, len(devices)))
    first = _first_that_can_be(meshes, lambda mesh: compiled(mesh, _POLICIES[-1], 1))
    scales = [compiled(first, policy, 1) for policy in _POLICIES]
    settings = sorted(
        (setting for scale in scales for mesh in meshes for setting in _settings(config, mesh, scale)),
        key=lambda setting: setting.seconds,
    )
    fitting = [setting for setting in settings if setting.memory <= USABLE * chip.memory]
    tried = 0
    for setting in fitting:
        if tried == _TRIALS:
            break
        try:
            compiled(setting.mesh, setting.remat, setting.accumulate)
            tried += 1
        except InputError:
            continue  # an axis of a parameter that this mesh does not divide
    plans = sorted((plan for plan in found.values() if plan.fits), key=lambda plan: plan.roofline.step)
    if not plans:
        least = min(plan.memory.total for plan in found.values())
        raise InputError(
            f"nothing fits in {chip.name}'s memory on {len(devices)} devices: {len(settings)} settings were considered "
            f"and {len(found)} compiled, of which the smallest needs {least / 1e9:,.1f} GB a device; take more devices "
            f"(--devices), a larger --chip or a smaller config.train.batch_size"
        )
    return Fit(plans, len(settings), len(found))


def with_setting(config: Config, mesh: MeshConfig, remat: Any, accumulate: int) -> Config:
    """The config with another mesh, policy and number of parts."""
    return dataclasses.replace(
        config,
        mesh=mesh,
        model=dataclasses.replace(config.model, remat=remat),
        train=dataclasses.replace(config.train, grad_accum_steps=accumulate),
    )


def flags_of(plan: Plan) -> list[str]:
    """What to write on the command line to have this plan."""
    return [
        *(f"--config.mesh.{axis}={size}" for axis, size in plan.mesh.items()),
        f"--config.model.remat={plan.remat}",
        f"--config.train.grad_accum_steps={plan.accumulate}",
    ]


def _named(mesh: MeshConfig) -> str:
    return ", ".join(f"{axis} {size}" for axis, size in dataclasses.asdict(mesh).items())


def _meshes(config: Config, devices: int) -> Iterator[MeshConfig]:
    """Every mesh that shares out the batch, those that divide weights among neighbors first."""
    divisors = [size for size in range(1, devices + 1) if devices % size == 0]
    heads = _heads(config.model)
    for tensor in divisors:
        for fsdp in reversed(divisors):
            data, odd = divmod(devices, fsdp * tensor)
            if not odd and data and config.train.batch_size % (data * fsdp) == 0 and heads % tensor == 0:
                yield MeshConfig(data, fsdp, tensor)


def _heads(model: ModelConfig) -> int:
    """The greatest number of devices that heads can be sharded over, by the key heads of both stacks."""
    stacks = model.encoder.kind, model.decoder.kind
    return math.gcd(*(stack.kv_heads for stack in stacks if stack.kind == "transformer")) or 1  # of none it is 0


def _first_that_can_be(meshes: Sequence[MeshConfig], plan: Callable[[MeshConfig], Plan]) -> MeshConfig:
    """The first mesh that divides all that it must."""
    error = InputError("no mesh shares out config.train.batch_size evenly; make it a multiple of --devices")
    for mesh in meshes:
        try:
            plan(mesh)
            return mesh
        except InputError as reason:
            error = reason
    raise error


def _settings(config: Config, mesh: MeshConfig, scale: Plan) -> Iterator[Setting]:
    """One mesh with the policy of a compiled plan, and every number of parts that a batch can be computed in."""
    rows = config.train.batch_size // (mesh.data * mesh.fsdp)
    known = MeshConfig(**scale.mesh)
    kept = scale.memory.weights + scale.memory.optimizer + scale.memory.average + scale.memory.gradients
    # Activations are divided by rows and, mostly, by heads and hidden units; weights by all that divides them.
    divides = (known.fsdp * known.tensor) / (mesh.fsdp * mesh.tensor)
    activations = scale.memory.activations * known.data * known.fsdp * known.tensor / _size(mesh)
    on_chip = scale.roofline.products + scale.roofline.memory
    for accumulate in (parts for parts in range(1, rows + 1) if rows % parts == 0):
        memory = kept * divides + activations / accumulate
        seconds = on_chip + _exchanges(config, mesh, accumulate, scale)
        yield Setting(mesh, scale.remat, accumulate, seconds, memory)


def _size(mesh: MeshConfig) -> int:
    return mesh.data * mesh.fsdp * mesh.tensor


def _exchanges(config: Config, mesh: MeshConfig, accumulate: int, scale: Plan) -> float:
    """Seconds of what devices tell one another, by formulas.

    Weights are gathered forward and backward and their gradients summed, for each part of a batch; what divides heads
    and hidden units sums what each sublayer gives, and what each of its products reads.
    """
    weights = sum(parameter.bytes for parameter in scale.parameters)
    element = 2 if scale.work.dtype == "bfloat16" else 4
    model, node = config.model, scale.chip.node
    source, target = (
        scale.rows // (mesh.data * mesh.fsdp) * length * model.encoder.width * element
        for length in (scale.sizes.source_length, scale.sizes.target_length)
    )
    layers, decoder_layers = model.encoder.num_layers, model.decoder.num_layers
    said = (6 * layers + 2 * decoder_layers) * source + 9 * decoder_layers * target
    along = (  # kind, size of the axis, devices from one member of a group to the next, bytes, times
        ("all-reduce", mesh.data, mesh.fsdp * mesh.tensor, weights / (mesh.fsdp * mesh.tensor), accumulate),
        ("all-gather", mesh.fsdp, mesh.tensor, 3 * weights / mesh.tensor, accumulate),
        ("all-reduce", mesh.tensor, 1, said, 1),
    )
    seconds = 0.0
    for kind, group, stride, amount, times in along:
        spread = max(min(group, node // stride), 1)
        exchange = Collective(kind, (), group, spread, int(amount), times, "")
        seconds += exchange.moved / rate(exchange, scale.chip) if group > 1 else 0
    return seconds
