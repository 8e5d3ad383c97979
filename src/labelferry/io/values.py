"""Intensities as the method takes them: float32, every one finite."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelferry.errors import UserError


def finite(array: NDArray[Any]) -> tuple[NDArray[np.float32], int]:
    """An array of any shape as float32, and the number of values that were not finite.

    These become the smallest finite value. Raises ``UserError`` where no value is finite.
    """
    array = np.asarray(array, np.float64 if array.dtype.itemsize > 4 else np.float32)
    whole = np.isfinite(array)
    if not whole.all():
        if not whole.any():
            raise UserError("no voxel is a finite number", fix="export the image again")
        array = np.where(whole, array, array[whole].min())
    limit = np.finfo(np.float32).max
    return np.clip(array, -limit, limit).astype(np.float32), int(whole.size - whole.sum())
