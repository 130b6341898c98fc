"""JSON text of values that may contain NaN and infinities, which JSON does not have (RFC 8259)."""

from __future__ import annotations

import json
import math
from typing import Any


def finite(value: Any) -> Any:
    """The same nested plain values with None, JSON's null, for each number that is not finite."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_json(values: Any, indent: int | None = None) -> str:
    """JSON text of nested plain values; numbers that are not finite become null."""
    return json.dumps(finite(values), ensure_ascii=False, allow_nan=False, indent=indent)
