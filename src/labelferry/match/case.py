"""A target case in memory, and the few numbers that stand for it when neighbours are sought."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from labelferry.organs import OrganSet
from labelferry.volume import Segmentation, Volume, bounding_box


@dataclass(frozen=True, eq=False)
class TargetCase:
    """A target case on its working grid (canonical axes); its volumes share the grid."""

    id: str
    patient: str
    domain: str
    image: Volume = field(repr=False)
    """Plain space, float32 in [0, 1]."""
    anatomy: Volume = field(repr=False)
    """Anatomy space, float32 in [0, 1]."""
    body: Volume = field(repr=False)
    """Bool mask of the patient."""
    labels: Segmentation = field(repr=False)
    """The network's own pseudo-label."""


@dataclass(frozen=True)
class Descriptor:
    """What eq. 5 compares; light, so that thousands of cases fit in memory."""

    id: str
    patient: str
    domain: str
    body_mm3: float
    """vol(·) of eq. 5: physical volume of the body."""
    extent_mm: tuple[float, float, float]
    """Size of the body's bounding box along the grid's axes."""
    organs_mm3: tuple[float, ...]
    """Physical volume of each organ of the pseudo-label, in the order of their ids."""


def describe(case: TargetCase, organs: OrganSet) -> Descriptor:
    """The descriptor of a case."""
    body = np.asarray(case.body.array, bool)
    box = bounding_box(body)
    x, y, z = (
        (stop - start) * mm
        for start, stop, mm in zip(box.start, box.stop, case.body.grid.spacing, strict=True)
    )
    voxels = np.bincount(case.labels.array.ravel(), minlength=len(organs) + 1)
    voxel = case.labels.grid.voxel_mm3
    return Descriptor(
        id=case.id,
        patient=case.patient,
        domain=case.domain,
        body_mm3=float(np.count_nonzero(body) * case.body.grid.voxel_mm3),
        extent_mm=(float(x), float(y), float(z)),
        organs_mm3=tuple(float(voxels[organ.id] * voxel) for organ in organs),
    )
