"""Roofline estimate of the time of a step from matrix products, memory traffic and communication.

Williams et al. (2009), "Roofline", extended by a roof for communication between devices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flaxformer_lite.monitoring.chips import Chip
from flaxformer_lite.plan.collectives import Collective
from flaxformer_lite.plan.matmuls import Matmul

# Fractions of the data sheet's figures that large products, memory and links reach in practice.
MATMUL_EFFICIENCY, MEMORY_EFFICIENCY, LINK_EFFICIENCY = 0.75, 0.8, 0.8


@dataclass(frozen=True)
class Roofline:
    """Seconds of one step.

    Attributes:
      matmuls: products that are bound by arithmetic.
      memory: products that are bound by memory, and one read and write of parameters and optimizer state. Element-wise
        operations count as part of the products around them.
      communication: all collectives, without overlap.
      by_axes: communication by mesh axes, such as ``data+fsdp``.
    """

    matmuls: float
    memory: float
    communication: float
    by_axes: dict[str, float]

    @property
    def step(self) -> float:
        """Without overlap of communication and computation."""
        return self.matmuls + self.memory + self.communication

    @property
    def overlapped(self) -> float:
        """With full overlap of communication and computation."""
        return max(self.matmuls + self.memory, self.communication)

    @property
    def bound(self) -> str:
        """Name of the largest part."""
        parts = {"matrix products": self.matmuls, "memory traffic": self.memory, "communication": self.communication}
        name = max(parts, key=lambda part: parts[part])
        if name == "communication":
            name += f" along {max(self.by_axes, key=lambda axes: self.by_axes[axes])}"
        return name


def estimate_roofline(
    matmuls: Sequence[Matmul], state_bytes: int, collectives: Sequence[Collective], chip: Chip, dtype: str
) -> Roofline:
    """Estimates the time of a step.

    Args:
      matmuls: of one device.
      state_bytes: parameters and optimizer state that one device reads and writes.
      collectives: of one device.
      chip: type of the devices.
      dtype: of the factors of the products.
    """
    peak, memory_bandwidth = MATMUL_EFFICIENCY * chip.peak(dtype), MEMORY_EFFICIENCY * chip.bandwidth
    compute, memory = 0.0, 2 * state_bytes / memory_bandwidth
    for matmul in matmuls:
        arithmetic, traffic = matmul.flops / peak, matmul.bytes / memory_bandwidth
        if arithmetic > traffic:
            compute += matmul.runs * arithmetic
        else:
            memory += matmul.runs * traffic
    by_axes: dict[str, float] = {}
    for each in collectives:
        axes = "+".join(each.axes) or "parts of axes"
        by_axes[axes] = by_axes.get(axes, 0) + each.sent / link_bandwidth(each, chip)
    return Roofline(compute, memory, sum(by_axes.values()), by_axes)


def link_bandwidth(collective: Collective, chip: Chip) -> float:
    """Bytes/s that each device of a group sends.

    A group within one node is bound by its links. A group across nodes has as many rings as it has members per node,
    each over another network adapter, so that all adapters are used.
    """
    if collective.per_node == collective.group:
        return LINK_EFFICIENCY * chip.link
    return LINK_EFFICIENCY * min(chip.link, chip.network * collective.per_node)
