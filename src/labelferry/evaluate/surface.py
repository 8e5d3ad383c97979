"""Distances between surfaces: normalised surface Dice (Nikolov et al. 2021) and Hausdorff distance.

The surface of a mask runs between voxel centres. Each cube of 2×2×2 neighbouring voxels that are
not all alike holds one surface element, which stands at the cube's centre with the area that
marching cubes gives it. The image ends in background: an organ that touches its border, or fills
it, is closed there.

No map of distances is made: the memory is that of a few bytes a voxel of the box.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from labelferry.evaluate.boxes import is_turned
from labelferry.evaluate.marching import surfel_areas
from labelferry.evaluate.nearest import Mask, Reach, Spacing, distances

Codes = NDArray[np.uint8]
Floats = NDArray[np.float64]

_BITS = (4, 2, 1)
"""How many bits of a cube's code the next voxel along x, y and z stands higher."""

_SLAB = 1 << 18
"""Cubes that are looked at together: they stay in the cache."""


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """The surface elements of two masks: distance to the other surface, and area."""

    prediction_mm: Floats = field(repr=False)
    """From each element of the predicted surface to the true one; infinite if there is none."""
    prediction_mm2: Floats = field(repr=False)
    truth_mm: Floats = field(repr=False)
    truth_mm2: Floats = field(repr=False)

    def within(self, tolerance_mm: float) -> float | None:
        """Share of both surfaces that lies within ``tolerance_mm`` of the other one (NSD).

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

    def hausdorff(self, percent: float = 95.0) -> float | None:
        """The distance in mm within which ``percent`` of either surface's area lies of the other.

        The larger of the two directed percentiles; 100 gives the Hausdorff distance itself. None
        where one of the surfaces is empty.
        """
        if not len(self.prediction_mm) or not len(self.truth_mm):
            return None
        return max(
            _percentile(self.prediction_mm, self.prediction_mm2, percent),
            _percentile(self.truth_mm, self.truth_mm2, percent),
        )


def nsd(prediction: Mask, truth: Mask, spacing: Spacing, tolerance_mm: float) -> float | None:
    """Normalised surface Dice of two 3-D masks of one shape, voxels of ``spacing`` mm.

    0 where one of them is empty, None where both are.
    """
    return surface_distances(prediction, truth, spacing).within(tolerance_mm)


def surface_area(mask: Mask, spacing: Spacing) -> float:
    """Area of a mask's surface in mm²."""
    return float(surfel_areas(spacing)[_elements(mask, _BITS, (0, 0, 0)).codes].sum())


def surface_distances(prediction: Mask, truth: Mask, spacing: Spacing) -> SurfaceDistances:
    """Distances in mm between the surfaces of two 3-D masks, and the elements' areas in mm².

    All work is done in the box round both masks: no distance reaches beyond it.
    """
    areas, bits, turned = surfel_areas(spacing), _BITS, is_turned(truth)
    voxels = max(np.count_nonzero(prediction), np.count_nonzero(truth))
    if turned:
        # the same, along the order of the memory
        prediction, truth, spacing, bits = prediction.T, truth.T, spacing[::-1], bits[::-1]
    # the more elements, the dearer a tree of them is against some more neighbours
    reach = Reach(spacing, turned, int(np.clip(voxels ** (2 / 3) / 8, 100, 600)))
    predicted, true = (_elements(mask, bits, reach.margins) for mask in (prediction, truth))
    return SurfaceDistances(
        prediction_mm=distances(predicted.cells, true.cells, predicted.shape, reach),
        prediction_mm2=areas[predicted.codes],
        truth_mm=distances(true.cells, predicted.cells, predicted.shape, reach),
        truth_mm2=areas[true.codes],
    )


@dataclass(frozen=True, eq=False)
class _Elements:
    """The cubes that hold a piece of a mask's surface."""

    cells: NDArray[np.intp]
    """Flat indices, in growing order, into a grid of ``shape``."""
    codes: Codes
    shape: tuple[int, ...]


def _elements(mask: Mask, bits: tuple[int, int, int], margin: tuple[int, int, int]) -> _Elements:
    """Surface elements of a mask: bits as in :data:`labelferry.evaluate.marching.CORNERS`.

    The cubes' grid has one cube more than voxels along each axis, and ``margin`` more on each side.
    """
    depth, width, height = mask.shape
    shape = tuple(n + 1 + 2 * m for n, m in zip(mask.shape, margin, strict=True))
    plane = shape[1] * shape[2]
    _, left, below = margin
    inner = slice(left + 1, left + 1 + width), slice(below + 1, below + 1 + height)
    thick = max(1, _SLAB // plane)
    cells, codes = [np.zeros(0, np.intp)], [np.zeros(0, np.uint8)]
    for first in range(0, depth + 1, thick):
        last = min(first + thick, depth + 1)
        # cube n lies between the voxels n - 1 and n; the first and the last one have but one
        part = mask[max(0, first - 1) : last]
        if not part.any():
            continue
        voxels = np.zeros((last - first + 1, shape[1] + 1, shape[2] + 1), np.uint8)
        start = int(first == 0)
        voxels[(slice(start, start + len(part)), *inner)] = part
        found = _codes(voxels, bits).ravel()
        here = np.flatnonzero(found + np.uint8(1) > 1)  # neither 0 nor 255
        cells.append(here + (first + margin[0]) * plane)
        codes.append(found[here])
    return _Elements(np.concatenate(cells), np.concatenate(codes), shape)


def _codes(voxels: Codes, bits: tuple[int, int, int]) -> Codes:
    """The pattern of every cube of eight neighbours of an array of 0 and 1."""
    for axis, bit in enumerate(bits):
        lower = voxels[(slice(None),) * axis + (slice(None, -1),)]
        upper = voxels[(slice(None),) * axis + (slice(1, None),)]
        voxels = upper << np.uint8(bit)
        voxels |= lower
    return voxels


def _percentile(distances: Floats, areas: Floats, percent: float) -> float:
    """The smallest distance within which ``percent`` of the area lies."""
    order = np.argsort(distances, kind="stable")
    share = np.cumsum(areas[order]) / areas.sum()
    place = min(int(np.searchsorted(share, percent / 100)), len(order) - 1)
    return float(distances[order[place]])
