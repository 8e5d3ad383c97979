"""From canonical volumes to pictures: which slices, which way round, which grey.

Radiological convention: the patient is seen from the feet (axial) and from the front (coronal), so
the patient's right is on the left of the picture; sagittal pictures look to the patient's left, the
front is on the left. Canonical axes grow towards R, A and S, rows grow downwards and columns to the
right: every plane is transposed and turned round along both axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from labelferry.volume import Grid, Segmentation, Volume, canonical, resample, resample_labels

PlaneName = Literal["axial", "coronal", "sagittal"]
PLANES: tuple[PlaneName, ...] = ("axial", "coronal", "sagittal")

NORMAL_AXIS: dict[PlaneName, int] = {"axial": 2, "coronal": 1, "sagittal": 0}
"""Array axis that a plane is perpendicular to."""


@dataclass(frozen=True)
class Markers:
    """Sides of the patient at the edges of a picture."""

    left: str
    right: str
    top: str
    bottom: str


MARKERS: dict[PlaneName, Markers] = {
    "axial": Markers("R", "L", "A", "P"),
    "coronal": Markers("R", "L", "S", "I"),
    "sagittal": Markers("A", "P", "S", "I"),
}


def picture_plane(array: NDArray[Any], plane: PlaneName, index: int) -> NDArray[Any]:
    """One plane of a canonical (x, y, z) array as picture rows and columns.

    Row 0 is the patient's front (axial) or head; column 0 the patient's right (axial, coronal) or
    front (sagittal).
    """
    flat: NDArray[Any] = np.take(array, index, axis=NORMAL_AXIS[plane])
    return flat.T[::-1, ::-1]


def plane_mm(grid: Grid, plane: PlaneName) -> tuple[float, float]:
    """Width and height in mm of a plane's picture."""
    x, y, z = (n * mm for n, mm in zip(grid.shape, grid.spacing, strict=True))
    return {"axial": (x, y), "coronal": (x, z), "sagittal": (y, z)}[plane]


def on_grid(volume: Volume, grid: Grid | None, labels: bool) -> Volume:
    """Canonical, and on ``grid`` if given: layers of one case may lie on different grids."""
    if labels and not isinstance(volume, Segmentation):
        volume = Segmentation(volume.array, volume.grid)
    turned = canonical(volume)
    if grid is None or turned.grid.matches(grid):
        return turned
    if isinstance(turned, Segmentation):
        return resample_labels(turned, grid)
    return resample(turned, grid)


def to_grey(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Any intensities to 0…255 between their 0.5th and 99.5th percentiles; NaN becomes black."""
    values = np.asarray(array, np.float32)
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return np.zeros(values.shape, np.uint8)
    low, high = np.percentile(finite, (0.5, 99.5))
    if high <= low:
        low, high = float(finite.min()), float(finite.max())
    scaled = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / max(
        float(high - low), 1e-12
    )
    return np.asarray(np.clip(scaled, 0, 1) * 255, np.uint8)


def centre(labels: NDArray[np.integer] | None, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Voxel that the three planes run through: the organs' centre of mass, else the middle."""
    if labels is None or not (labels > 0).any():
        return shape[0] // 2, shape[1] // 2, shape[2] // 2
    x, y, z = (round(float(np.mean(found))) for found in np.nonzero(labels > 0))
    return x, y, z


def slice_indices(
    labels: NDArray[np.integer] | None, depth: int, count: int, middle: int
) -> tuple[int, ...]:
    """Up to ``count`` axial slices from feet to head over the organs, ``middle`` among them."""
    low, high = 0, depth - 1
    if labels is not None and (labels > 0).any():
        (filled,) = np.nonzero((labels > 0).any(axis=(0, 1)))
        low, high = max(0, int(filled[0]) - 1), min(depth - 1, int(filled[-1]) + 1)
    chosen = np.unique(np.linspace(low, high, min(count, high - low + 1)).round().astype(int))
    chosen[np.abs(chosen - middle).argmin()] = middle
    return tuple(int(k) for k in chosen)
