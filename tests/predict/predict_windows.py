"""The slabs of a scan in one volume, for tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from labelferry.predict.window import join_slabs, scan


def sliding_window(data: Tensor, engine: Callable[[Tensor], Tensor], **how: Any) -> Tensor:
    """Logits (classes, z, y, x) of ``data`` (c, z, y, x)."""
    return join_slabs(scan(data, engine, **how), data.shape[1])
