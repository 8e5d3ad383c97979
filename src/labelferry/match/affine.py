"""An affine between two worlds, and the volume that it moves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from labelferry.volume import Grid, Volume

V = TypeVar("V", bound=Volume)

SCALE_LIMITS = (0.6, 1.6)
"""Smallest and largest stretch along any direction that is believed between two adults."""


@dataclass(frozen=True, eq=False)
class Affine:
    """φ of eq. 6."""

    matrix: NDArray[np.float64]
    """4×4, **fixed world → moving world**, RAS mm: where to look in the moving image (q_S) for
    what belongs at a point of the fixed one (q_T)."""
    start: float
    """The metric before optimisation, lower is better; infinite where it could not be taken."""
    end: float
    """The metric of ``matrix``; never above ``start``."""
    ok: bool
    """Whether the optimisation was taken; otherwise ``matrix`` is the initial alignment."""
    reason: str
    """Why it was taken or not, in words."""

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form; an infinite metric becomes null."""
        return {
            "fixed_to_moving_ras_mm": self.matrix.tolist(),
            "metric_start": self.start if math.isfinite(self.start) else None,
            "metric_end": self.end if math.isfinite(self.end) else None,
            "ok": self.ok,
            "reason": self.reason,
        }


def moved(volume: V, matrix: NDArray[np.float64]) -> V:
    """The moving volume placed in the fixed world: same voxels, another affine.

    ``matrix`` maps fixed world to moving world. No voxel is interpolated.
    """
    affine = np.linalg.inv(matrix) @ volume.grid.affine
    return type(volume)(volume.array, Grid(volume.grid.shape, affine))


def stretch(matrix: NDArray[np.float64]) -> tuple[float, float]:
    """Smallest and largest factor by which the affine stretches any direction."""
    values = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    return float(values.min()), float(values.max())


def is_sane(matrix: NDArray[np.float64]) -> bool:
    """Finite, no mirror image, and every stretch within ``SCALE_LIMITS``."""
    if not np.isfinite(matrix).all() or np.linalg.det(matrix[:3, :3]) <= 0:
        return False
    low, high = stretch(matrix)
    return SCALE_LIMITS[0] <= low and high <= SCALE_LIMITS[1]
