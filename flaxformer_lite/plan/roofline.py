"""How long a step takes at best: products, memory traffic and exchanges against what a chip can do (an estimate).

Williams et al. (2009), "Roofline", with one roof more for what devices tell one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flaxformer_lite.monitoring.chips import Chip
from flaxformer_lite.plan.collectives import Collective
from flaxformer_lite.plan.flops import Product

# What large products, memory and links reach of the data sheet's figures where they are used well.
PRODUCTS, MEMORY, LINKS = 0.75, 0.8, 0.8


@dataclass(frozen=True)
class Roofline:
    """Seconds of one step.

    Attributes:
      products: matrix products that the chip's arithmetic bounds.
      memory: those that its memory bounds, and reading and writing weights and moments once. What is computed element
        by element counts as part of the products around it.
      exchanges: all that devices tell one another, as if nothing were computed meanwhile.
      by_axes: the same by axes of the mesh, such as ``data+fsdp``.
    """

    products: float
    memory: float
    exchanges: float
    by_axes: dict[str, float]

    @property
    def step(self) -> float:
        """Where devices wait for every exchange."""
        return self.products + self.memory + self.exchanges

    @property
    def hidden(self) -> float:
        """Where every exchange is hidden behind computation, or all computation behind exchanges."""
        return max(self.products + self.memory, self.exchanges)

    @property
    def bound(self) -> str:
        """What takes longest, in words."""
        parts = {"matrix products": self.products, "memory traffic": self.memory, "exchanges": self.exchanges}
        name = max(parts, key=lambda part: parts[part])
        if name == "exchanges":
            name += f" along {max(self.by_axes, key=lambda axes: self.by_axes[axes])}"
        return name


def predict(
    products: Sequence[Product], state_bytes: int, collectives: Sequence[Collective], chip: Chip, dtype: str
) -> Roofline:
    """The roofline of a step.

    Args:
      products: of one device.
      state_bytes: of weights and moments that one device reads and writes again.
      collectives: of one device.
      chip: what it is.
      dtype: of the products' factors.
    """
    peak, bandwidth = PRODUCTS * chip.peak(dtype), MEMORY * chip.bandwidth
    computing, moving = 0.0, 2 * state_bytes / bandwidth
    for product in products:
        arithmetic, traffic = product.flops / peak, product.bytes / bandwidth
        if arithmetic > traffic:
            computing += product.runs * arithmetic
        else:
            moving += product.runs * traffic
    by_axes: dict[str, float] = {}
    for each in collectives:
        axes = "+".join(each.axes) or "parts of axes"
        by_axes[axes] = by_axes.get(axes, 0) + each.moved / rate(each, chip)
    return Roofline(computing, moving, sum(by_axes.values()), by_axes)


def rate(collective: Collective, chip: Chip) -> float:
    """Bytes/s that each device of a group sends.

    A group within one node is bound by its links. One of several nodes has as many rings as it has members in each
    node, every ring over another network adapter, so that the network is shared by them all.
    """
    if collective.spread == collective.group:
        return LINKS * chip.link
    return LINKS * min(chip.link, chip.network * collective.spread)
