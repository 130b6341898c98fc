"""All model families by the ``model_type`` of their ``config.json``."""

from __future__ import annotations

from flaxformer_lite.interop.families.fairseq_marian import BART, M2M_100, MARIAN, MBART, PEGASUS
from flaxformer_lite.interop.families.t5 import MT5, T5, UMT5
from flaxformer_lite.interop.families.t5gemma import T5GEMMA

FAMILIES = {
    "t5": T5,
    "mt5": MT5,
    "umt5": UMT5,
    "bart": BART,
    "mbart": MBART,
    "marian": MARIAN,
    "pegasus": PEGASUS,
    "m2m_100": M2M_100,
    "t5gemma": T5GEMMA,
}
