"""Peak performance of accelerators, from the data sheets of their makers."""

from __future__ import annotations

import difflib
from typing import NamedTuple

from flaxformer_lite.errors import InputError


class Chip(NamedTuple):
    """One accelerator.

    Attributes:
      name: its short name, a key of ``CHIPS``.
      bfloat16: FLOP/s of matrix products of bfloat16, dense (the sheets of GPUs print twice that, for sparse ones).
      float32: FLOP/s of matrix products of float32 as JAX computes them by default: in TF32 on a GPU, in one pass of
        bfloat16 on a TPU.
      memory: bytes.
      bandwidth: of the memory, bytes/s.
      link: bytes/s that a device sends to its neighbors in a collective within a node. A GPU's node is the eight on
        one NVSwitch; a TPU's is the pod, and a collective goes around one axis of its torus, in both directions.
      node: devices that ``link`` joins.
      network: bytes/s that a device sends to another node.
    """

    name: str
    bfloat16: float
    float32: float
    memory: float
    bandwidth: float
    link: float
    node: int
    network: float

    def peak(self, dtype: str) -> float:
        """FLOP/s of matrix products of this dtype."""
        return self.bfloat16 if dtype in ("bfloat16", "float16") else self.float32


# NVIDIA: data sheets of A100 (80 GB), H100 and H200, each SXM; NVLink's bytes/s are printed for both directions.
# Network: one adapter a GPU, as in DGX A100 (200 Gbit/s) and DGX H100 and H200 (400 Gbit/s).
# Google: cloud.google.com/tpu/docs, v5e, v5p and v6e. Link: printed for all directions together (400, 1,200 and 800
# GB/s), of which one axis of a torus of two, three and two sends a quarter, a sixth and a quarter. Network: the data
# center's, by chip (25, 50 and 100 Gbit/s).
_CHIPS = (
    Chip("a100", 312e12, 156e12, 80e9, 2.039e12, 300e9, 8, 25e9),
    Chip("h100", 989e12, 494.5e12, 80e9, 3.35e12, 450e9, 8, 50e9),
    Chip("h200", 989e12, 494.5e12, 141e9, 4.8e12, 450e9, 8, 50e9),
    Chip("v5e", 197e12, 197e12, 16 * 2**30, 819e9, 100e9, 256, 3.125e9),
    Chip("v5p", 459e12, 459e12, 95 * 2**30, 2.765e12, 200e9, 8_960, 6.25e9),
    Chip("v6e", 918e12, 918e12, 32 * 2**30, 1.6e12, 200e9, 256, 12.5e9),
)
CHIPS = {chip.name: chip for chip in _CHIPS}


def find_chip(name: str) -> Chip:
    """The chip of this name.

    Raises:
      InputError: there is none.
    """
    if name not in CHIPS:
        near = difflib.get_close_matches(name, CHIPS, n=1)
        known = f"is none of the known chips {', '.join(CHIPS)}"
        raise InputError(f"chip={name}", known, f"did you mean {near[0]}?" if near else "")
    return CHIPS[name]


def chip_of(kind: str) -> Chip | None:
    """The chip of a JAX device kind; None where it is unknown.

    GPUs on PCIe cards, single or bridged (NVL), are slower than the SXM modules of the same name and count as unknown.
    """
    kind = kind.lower()
    if "pcie" in kind or "nvl" in kind:
        return None
    return next((CHIPS[name] for sign, name in _KINDS if sign in kind), None)


_KINDS = (  # the more special ones first
    ("a100", "a100"),
    ("h100", "h100"),
    ("h200", "h200"),
    ("tpu v5 lite", "v5e"),
    ("tpu v5e", "v5e"),
    ("tpu v5", "v5p"),
    ("tpu v6", "v6e"),
)
