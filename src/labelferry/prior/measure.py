"""What is measured of one organ in one label map."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from labelferry.volume import Segmentation

# 26 neighbours: on a coarse grid a thin organ hangs together by corners alone
_NEIGHBOURS = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class OrganMeasure:
    """One organ of one label map, in physical units."""

    volume_mm3: float
    section_mm2: float
    """Mean cross-section: volume / height along the third axis."""
    centroid_mm: tuple[float, float, float]
    """World RAS, mm."""
    components: int
    largest_share: float
    """Share of the organ's voxels in its largest component, in (0, 1]."""
    cut: bool
    """Whether the organ touches the first or last slice of the third axis: some of it may be
    missing."""


def measure_organs(
    labels: Segmentation, organs: Iterable[int] | None = None
) -> dict[int, OrganMeasure]:
    """Measure every organ of a label map (or those of ``organs``); absent ones are left out.

    The grid's axes are canonical (x, y, z); components count with 26 neighbours.
    """
    array = np.asarray(labels.array)
    wanted = None if organs is None else set(organs)
    found: dict[int, OrganMeasure] = {}
    for index, box in enumerate(ndimage.find_objects(array)):
        organ = index + 1
        if box is None or (wanted is not None and organ not in wanted):
            continue
        mask = array[box] == organ
        parts, number = ndimage.label(mask, structure=_NEIGHBOURS)
        sizes = np.bincount(parts.ravel())[1:]
        voxels = int(sizes.sum())
        corner = np.array([part.start for part in box], float)
        centre = np.argwhere(mask).mean(axis=0) + corner
        x, y, z = labels.grid.to_world(centre)
        volume = voxels * labels.grid.voxel_mm3
        height = mask.shape[2] * labels.grid.spacing[2]
        found[organ] = OrganMeasure(
            volume_mm3=volume,
            section_mm2=volume / height,
            centroid_mm=(float(x), float(y), float(z)),
            components=int(number),
            largest_share=float(sizes.max() / voxels),
            cut=bool(box[2].start == 0 or box[2].stop == array.shape[2]),
        )
    return found
