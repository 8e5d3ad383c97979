"""Where the voxels of a phantom lie: the scanner's grid, and the subject's own coordinates.

All axes are RAS: x grows to the patient's right, y to the front, z to the head.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from labelferry.errors import UserError
from labelferry.phantom.draws import Point, normal, uniform
from labelferry.volume import Grid

Floats = NDArray[np.float32]

EXTENT_MM = (358.4, 256.0, 200.0)
"""Field of view along x, y, z; the same for every spacing."""


@dataclass(frozen=True)
class PhantomGrid:
    """Voxel size and number of voxels along x, y, z; their product is always ``EXTENT_MM``."""

    spacing: tuple[float, float, float] = (3.2, 3.2, 5.0)
    """Millimetres."""
    shape: tuple[int, int, int] = (112, 80, 40)

    def __post_init__(self) -> None:
        extent = tuple(d * n for d, n in zip(self.spacing, self.shape, strict=True))
        if not np.allclose(extent, EXTENT_MM, atol=1e-3):
            raise UserError(
                "spacing times shape must be the phantom's field of view",
                seen=f"{extent} mm",
                allowed=f"{EXTENT_MM} mm",
                fix="make the grid with PhantomGrid.of_spacing",
            )

    @classmethod
    def of_spacing(cls, spacing: tuple[float, float, float]) -> PhantomGrid:
        """The grid over the same field of view whose voxels have about ``spacing`` mm."""
        if min(spacing) <= 0:
            raise UserError("a spacing must be positive", seen=spacing, allowed="> 0 mm")
        x, y, z = (max(1, round(e / d)) for e, d in zip(EXTENT_MM, spacing, strict=True))
        near = (EXTENT_MM[0] / x, EXTENT_MM[1] / y, EXTENT_MM[2] / z)
        a, b, c = (round(value, 9) for value in near)
        return cls((a, b, c), (x, y, z))

    def placed(self, centre: Point) -> Grid:
        """The grid in the world, with the middle of the field of view at ``centre`` (mm)."""
        affine = np.diag([*self.spacing, 1.0])
        affine[:3, 3] = [
            c - (n - 1) / 2 * d for c, n, d in zip(centre, self.shape, self.spacing, strict=True)
        ]
        return Grid(self.shape, affine)

    def sigmas(self, millimetres: Point) -> tuple[float, float, float]:
        """Gaussian widths in voxels of widths in mm."""
        a, b, c = (m / d for m, d in zip(millimetres, self.spacing, strict=True))
        return a, b, c


@dataclass(frozen=True, eq=False)
class Frame:
    """The subject's coordinates (mm) of every voxel: three arrays of the grid's shape."""

    x: Floats = field(repr=False)
    y: Floats = field(repr=False)
    z: Floats = field(repr=False)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along x, y, z."""
        a, b, c = self.x.shape
        return a, b, c

    @cached_property
    def _spans(self) -> tuple[tuple[Floats, Floats], ...]:
        """For each axis, the least and the greatest own coordinate in each slab of voxels."""
        spans = []
        for axis, array in enumerate((self.x, self.y, self.z)):
            others = tuple(a for a in range(3) if a != axis)
            spans.append((array.min(axis=others), array.max(axis=others)))
        return tuple(spans)

    def box(self, low: Point, high: Point) -> tuple[slice, slice, slice]:
        """The smallest box of slabs that holds every voxel with coordinates in [low, high]."""
        slices = []
        for (least, greatest), lo, hi in zip(self._spans, low, high, strict=True):
            (hit,) = np.nonzero((least <= hi) & (greatest >= lo))
            slices.append(slice(int(hit[0]), int(hit[-1]) + 1) if len(hit) else slice(0, 0))
        return slices[0], slices[1], slices[2]


@lru_cache(maxsize=64)
def _weights(nodes: int, size: int) -> Floats:
    """Cubic spline weights (nodes, size) of nodes at the centres of equal cells."""
    rows = [
        ndimage.zoom(row, size / nodes, order=3, mode="nearest", grid_mode=True)
        for row in np.eye(nodes, dtype=np.float64)
    ]
    weights = np.asarray(rows, np.float32)
    weights.setflags(write=False)
    return weights


def smooth_field(
    rng: np.random.Generator, shape: tuple[int, int, int], nodes: tuple[int, int, int], sd: float
) -> Floats:
    """A smooth random field: cubic splines through ``nodes`` random values of deviation ``sd``.

    The values do not depend on ``shape``, so a finer grid samples the same field.
    """
    values = rng.standard_normal(nodes).astype(np.float32)
    field_ = values * np.float32(sd / (float(values.std()) + 1e-6))
    # axis after axis, the long axis last; plain sums give the same bits with any number of threads
    for axis in range(3):
        weights = _weights(nodes[axis], shape[axis])
        moved = np.moveaxis(field_, axis, 0)
        total = np.zeros((shape[axis], *moved.shape[1:]), np.float32)
        for row, plane in zip(weights, moved, strict=True):
            total += row[:, None, None] * plane
        field_ = np.moveaxis(total, 0, axis)
    return np.ascontiguousarray(field_)


def draw_frame(rng: np.random.Generator, grid: PhantomGrid) -> Frame:
    """A random pose, size and elastic deformation of a subject, as coordinates of the voxels."""
    rise, right, front = uniform(rng, -15, 15), uniform(rng, -6, 6), uniform(rng, -6, 6)
    turns = [float(np.deg2rad(normal(rng, 3))) for _ in range(3)]
    whole = uniform(rng, 0.9, 1.08)
    scales = [uniform(rng, low, 2 - low) * whole for low in (0.95, 0.95, 0.94)]

    axes = [
        (np.arange(n, dtype=np.float32) - np.float32((n - 1) / 2)) * np.float32(d)
        for n, d in zip(grid.shape, grid.spacing, strict=True)
    ]
    x, y, z = np.meshgrid(axes[0] + right, axes[1] + front, axes[2] + 10 + rise, indexing="ij")
    x, y = _turned(x, y, turns[0])
    y, z = _turned(y, z, turns[1])
    x, z = _turned(x, z, turns[2])
    parts = [
        (part / scale + smooth_field(rng, grid.shape, (6, 5, 5), 5.0)).astype(np.float32)
        for part, scale in zip((x, y, z), scales, strict=True)
    ]
    return Frame(*parts)


def _turned(a: Floats, b: Floats, angle: float) -> tuple[Floats, Floats]:
    cosine, sine = float(np.cos(angle)), float(np.sin(angle))
    return cosine * a + sine * b, cosine * b - sine * a
