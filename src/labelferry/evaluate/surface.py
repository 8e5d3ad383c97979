"""Normalised surface Dice (Nikolov et al. 2021, "Clinically applicable segmentation …").

The surface of a mask runs between voxel centres. Each cube of 2×2×2 neighbouring voxels that are
not all alike holds one surface element, which stands at the cube's centre with the area that
marching cubes gives it. The image ends in background: an organ that touches its border, or fills
it, is closed there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from labelferry.evaluate.marching import CORNERS, surfel_areas
from labelferry.volume import bounding_box

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """The surface elements of two masks: distance to the other surface, and area."""

    prediction_mm: Floats = field(repr=False)
    """From each element of the predicted surface to the true one; infinite if there is none."""
    prediction_mm2: Floats = field(repr=False)
    truth_mm: Floats = field(repr=False)
    truth_mm2: Floats = field(repr=False)

    def within(self, tolerance_mm: float) -> float | None:
        """Share of both surfaces that lies within ``tolerance_mm`` of the other one.

        Between 0 and 1; None where there is no surface at all.
        """
        total = float(self.prediction_mm2.sum() + self.truth_mm2.sum())
        if total == 0:
            return None
        near = (
            self.prediction_mm2[self.prediction_mm <= tolerance_mm].sum()
            + self.truth_mm2[self.truth_mm <= tolerance_mm].sum()
        )
        return float(near) / total


def nsd(
    prediction: Mask, truth: Mask, spacing: tuple[float, float, float], tolerance_mm: float
) -> float | None:
    """Normalised surface Dice of two 3-D masks of one shape, voxels of ``spacing`` mm.

    0 where one of them is empty, None where both are.
    """
    return surface_distances(prediction, truth, spacing).within(tolerance_mm)


def surface_area(mask: Mask, spacing: tuple[float, float, float]) -> float:
    """Area of a mask's surface in mm²."""
    return float(surfel_areas(spacing)[_codes(mask)].sum())


def surface_distances(
    prediction: Mask, truth: Mask, spacing: tuple[float, float, float]
) -> SurfaceDistances:
    """Distances in mm between the surfaces of two 3-D masks, and the elements' areas in mm².

    All work is done in the box round both masks: no distance reaches beyond it.
    """
    box = bounding_box(prediction | truth).slices
    areas = surfel_areas(spacing)
    predicted, true = _codes(prediction[box]), _codes(truth[box])
    on_predicted, on_true = _is_surface(predicted), _is_surface(true)
    return SurfaceDistances(
        prediction_mm=_distances(on_predicted, on_true, spacing),
        prediction_mm2=areas[predicted[on_predicted]],
        truth_mm=_distances(on_true, on_predicted, spacing),
        truth_mm2=areas[true[on_true]],
    )


def _codes(mask: Mask) -> NDArray[np.uint8]:
    """The pattern of every cube of eight voxels; one cube more than voxels along each axis."""
    padded = np.pad(mask, 1).astype(np.uint8)
    a, b, c = (size + 1 for size in mask.shape)
    codes = np.zeros((a, b, c), np.uint8)
    for bit, (i, j, k) in enumerate(CORNERS):
        codes |= padded[i : i + a, j : j + b, k : k + c] << np.uint8(bit)
    return codes


def _is_surface(codes: NDArray[np.uint8]) -> Mask:
    return np.asarray((codes != 0) & (codes != 255))


def _distances(start: Mask, to: Mask, spacing: tuple[float, float, float]) -> Floats:
    if not start.any():
        return np.zeros(0)
    if not to.any():
        return np.full(np.count_nonzero(start), np.inf)
    return np.asarray(ndimage.distance_transform_edt(~to, sampling=spacing)[start], np.float64)
