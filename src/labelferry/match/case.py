"""A target case in memory, and the few numbers that stand for it when neighbours are sought."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from labelferry.errors import UserError
from labelferry.files import read_json
from labelferry.organs import OrganSet
from labelferry.volume import Segmentation, Volume, bounding_box

SCHEMA_VERSION = 1


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

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}

    @classmethod
    def read(cls, path: Path) -> Descriptor:
        """Read a file of :meth:`to_json`'s form."""
        row = read_json(path, schema=SCHEMA_VERSION)
        try:
            x, y, z = row["extent_mm"]
            return cls(
                id=row["id"],
                patient=row["patient"],
                domain=row["domain"],
                body_mm3=float(row["body_mm3"]),
                extent_mm=(float(x), float(y), float(z)),
                organs_mm3=tuple(float(v) for v in row["organs_mm3"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UserError("not a descriptor of labelferry", path=path, seen=repr(error)) from None


def describe(
    case: str, patient: str, domain: str, body: Volume, labels: Segmentation, organs: OrganSet
) -> Descriptor:
    """The descriptor of a case: of its body's mask and its pseudo-label, on one grid."""
    inside = np.asarray(body.array, bool)
    box = bounding_box(inside)
    x, y, z = (
        (stop - start) * mm
        for start, stop, mm in zip(box.start, box.stop, body.grid.spacing, strict=True)
    )
    voxels = np.bincount(labels.array.ravel(), minlength=len(organs) + 1)
    voxel = labels.grid.voxel_mm3
    return Descriptor(
        id=case,
        patient=patient,
        domain=domain,
        body_mm3=float(np.count_nonzero(inside) * body.grid.voxel_mm3),
        extent_mm=(float(x), float(y), float(z)),
        organs_mm3=tuple(float(voxels[organ.id] * voxel) for organ in organs),
    )
