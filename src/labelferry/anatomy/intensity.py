"""Intensities to [0, 1]: a window for CT, robust percentiles within the body for MR."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelferry.anatomy.config import AnatomyConfig
from labelferry.cases import Modality
from labelferry.errors import UserError

_MIN_HU_RANGE = 20.0


def check_contrast(array: NDArray[Any], modality: Modality, case: str | None = None) -> None:
    """Refuse an image that holds nothing to see, or a CT that is not in Hounsfield units.

    Raises ``UserError`` naming ``case`` where it is given.
    """
    low, high = float(array.min()), float(array.max())
    if not low < high:
        raise UserError(
            "constant image / no contrast",
            case=case,
            seen=f"{low:g} in every voxel",
            fix="export the image again",
        )
    if modality == "CT" and high - low < _MIN_HU_RANGE:
        raise UserError(
            "CT values are not Hounsfield units",
            case=case,
            seen=f"range [{low:g}, {high:g}]",
            allowed="Hounsfield units: air -1000, water 0",
            fix="export the CT without intensity scaling",
        )


def robust_range(
    values: NDArray[Any], percentiles: tuple[float, float] = (0.5, 99.5)
) -> tuple[float, float] | None:
    """Two percentiles of values of any unit; None where even the extremes do not differ.

    The upper percentile is never interpolated towards the largest value: a single wild voxel does
    not count, however few voxels there are. Where the percentiles coincide (a sparse image), the
    smallest and the second largest value take their place.
    """
    flat = np.asarray(values).ravel()
    low = float(np.percentile(flat, percentiles[0], method="higher"))
    high = float(np.percentile(flat, percentiles[1], method="lower"))
    if not low < high:
        low = float(flat.min())
        high = float(np.partition(flat, -2)[-2]) if flat.size > 1 else low
    return (low, high) if low < high else None


def to_unit(array: NDArray[Any], low: float, high: float) -> NDArray[np.float32]:
    """Clip to [low, high] and scale to [0, 1], as float32; safe for units of 1e-9 and voxels of
    1e30."""
    clipped = np.clip(array, low, high).astype(np.float64)
    unit = np.clip((clipped - low) / (high - low), 0, 1)
    return np.asarray(unit, np.float32)


def scale_intensity(
    array: NDArray[Any], body: NDArray[np.bool_], modality: Modality, config: AnatomyConfig
) -> NDArray[np.float32]:
    """The plain space of an image: float32 in [0, 1], same shape.

    CT is clipped to ``config.ct_window`` (HU); MR to ``config.percentiles`` of the voxels in
    ``body``. Raises ``UserError`` for an image without contrast.
    """
    if modality == "CT":
        out = to_unit(array, *config.ct_window)
        if not out.min() < out.max():
            raise UserError(
                "constant image / no contrast",
                seen=f"every voxel is outside {config.ct_window} HU",
                fix="are these Hounsfield units?",
            )
        return out
    found = robust_range(array[body], config.percentiles) if body.any() else None
    found = found or robust_range(array)
    if found is None:
        raise UserError("constant image / no contrast", fix="export the image again")
    return to_unit(array, *found)
