"""How an MRI looks: a few numbers from its intensities within the body.

They tell T1 from T2 from DWI where nothing else does, and say nothing of unit, gain or voxel size:
all are shares of the image's own range in the body, on a coarse grid. The places are rough, and
taken from the outline of the body alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from labelferry.anatomy.body import body_mask
from labelferry.anatomy.intensity import robust_range, to_unit
from labelferry.errors import UserError
from labelferry.volume import Volume, canonical, resample

_MM = 5.0
"""Voxel size that looks are measured on."""
_EDGE_MM = 10.0
"""Edges are differences over this length, in plane."""


@dataclass(frozen=True)
class Measure:
    """One number of a look."""

    place: str
    percentile: int
    spread: float
    """How far images of one sequence differ in it, as a share of the range: 1.4 times the standard
    deviation among phantoms of one kind, at least 0.03. Differences are counted in this unit."""


MEASURES: tuple[Measure, ...] = (
    Measure("rim", 50, 0.06),
    Measure("rim", 75, 0.07),
    Measure("muscle", 25, 0.08),
    Measure("muscle", 50, 0.10),
    Measure("spine", 5, 0.03),
    Measure("spine", 50, 0.05),
    Measure("spine", 90, 0.12),
    Measure("spine", 98, 0.09),
    Measure("right", 50, 0.10),
    Measure("sides", 50, 0.15),
    Measure("core", 10, 0.06),
    Measure("core", 50, 0.07),
    Measure("core", 90, 0.10),
    Measure("edges", 50, 0.04),
    Measure("edges", 90, 0.06),
)
"""rim: 3 to 12 mm below the skin, fat. muscle: beside the spine. spine: from the large vessels to
marrow and fluid. right: where the liver is. sides: spleen, stomach and kidney on the left, less
that. core: deeper than 30 mm, from air to fluid. edges: change over 10 mm in the whole body."""


def look_of(volume: Volume, case: str | None = None) -> NDArray[np.float64]:
    """The look of an MRI of any orientation: ``MEASURES`` in their spreads.

    0 is the first and 1 the 99th percentile within the body, before the division by the spreads.
    Raises ``UserError`` for an image without contrast.
    """
    upright = canonical(volume)
    coarse = resample(upright, upright.grid.resampled((_MM, _MM, _MM)), "linear")
    array, spacing = coarse.array, coarse.grid.spacing
    body = body_mask(array, spacing, "MR", case=case)
    limits = robust_range(array[body], (1.0, 99.0))
    if limits is None:
        raise UserError("constant image / no contrast", case=case, fix="export the image again")
    unit = to_unit(array, *limits)
    values = {name: unit[mask if mask.any() else body] for name, mask in _places(body, spacing)}
    values["sides"] = np.array([np.median(values["left"]) - np.median(values["right"])])
    values["edges"] = _edges(unit, spacing)[body]
    return np.array([np.percentile(values[m.place], m.percentile) / m.spread for m in MEASURES])


def _places(
    body: NDArray[np.bool_], spacing: tuple[float, float, float]
) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    depth = _depth(body, spacing)
    across, front = _shares(body, 0), _shares(body, 1)
    aside = np.abs(across - 0.5)
    yield "rim", (depth > 3) & (depth <= 12)
    yield "muscle", (depth > 15) & (front < 0.3) & (aside > 0.06) & (aside < 0.2)
    yield "right", (depth > 25) & (across > 0.6)
    yield "left", (depth > 25) & (across < 0.4)
    yield "spine", body & (aside < 0.06) & (front > 0.15) & (front < 0.45)
    yield "core", depth > 30


def _depth(body: NDArray[np.bool_], spacing: tuple[float, float, float]) -> NDArray[np.float64]:
    """Distance from outside of the body in mm, slice by slice: the ends of a scan are no skin."""
    padded = np.pad(body, ((1, 1), (1, 1), (0, 0)))
    planes = [
        ndimage.distance_transform_edt(padded[:, :, z], sampling=spacing[:2])[1:-1, 1:-1]
        for z in range(body.shape[2])
    ]
    return np.stack(planes, axis=2)


def _shares(body: NDArray[np.bool_], axis: int) -> NDArray[np.float64]:
    """Place along x or y between the outermost voxels of the body in each slice, 0 to 1."""
    out = np.full(body.shape, -1.0)
    for z in range(body.shape[2]):
        held = np.flatnonzero(body[:, :, z].any(axis=1 - axis))
        if len(held):
            index = np.arange(body.shape[axis])
            share = (index - held[0]) / max(1, held[-1] - held[0])
            out[:, :, z] = share[:, None] if axis == 0 else share[None, :]
    return out


def _edges(unit: NDArray[np.float32], spacing: tuple[float, float, float]) -> NDArray[np.float32]:
    """How much the image changes over 10 mm, in plane."""
    steps = [
        np.gradient(unit, mm, axis=axis)
        for axis, mm in enumerate(spacing[:2])
        if unit.shape[axis] > 1
    ]
    return np.asarray(_EDGE_MM * np.sqrt(sum(step**2 for step in steps)), np.float32)
