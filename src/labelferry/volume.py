"""Grid, Volume, Segmentation; canonical orientation, cropping, resampling, and the way back.

An affine maps voxel indices (i, j, k) to world millimetres in RAS: +x points to the
patient's right, +y to the front (anterior), +z to the head (superior).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Self, TypeVar

import numpy as np
from nibabel import orientations
from numpy.typing import NDArray
from scipy import ndimage

from labelferry.errors import UserError

V = TypeVar("V", bound="Volume")
Order = Literal["nearest", "linear", "cubic"]
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""From the world of DICOM and ITK to that of NIfTI, which is ours."""
_SPLINE: dict[str, int] = {"nearest": 0, "linear": 1, "cubic": 3}


@dataclass(frozen=True)
class Box:
    """A part of a grid: voxel indices from ``start`` up to and without ``stop``."""

    start: tuple[int, int, int]
    stop: tuple[int, int, int]

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """For indexing an array."""
        a, b, c = (slice(lo, hi) for lo, hi in zip(self.start, self.stop, strict=True))
        return a, b, c


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of an array lie in the world."""

    shape: tuple[int, ...]
    """Three numbers of voxels."""
    affine: NDArray[np.float64] = field(repr=False)
    """4×4, voxel index → RAS mm (voxel centres)."""

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise UserError("an affine must be a finite 4×4 matrix", seen=affine.tolist())
        if not abs(np.linalg.det(affine[:3, :3])) >= 1e-12:  # NaN, too
            raise UserError("the affine has no volume (a spacing of 0?)", seen=affine.tolist())
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise UserError("a grid needs three axes of at least one voxel", seen=self.shape)

    @cached_property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along each array axis."""
        a, b, c = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(a), float(b), float(c)

    @property
    def voxel_mm3(self) -> float:
        """Volume of one voxel in mm³."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def axes(self) -> str:
        """Direction of growing index for each axis, as in ``RAS``."""
        return "".join(orientations.aff2axcodes(self.affine))

    def to_world(self, index: NDArray[np.float64]) -> NDArray[np.float64]:
        """World mm (…, 3) of voxel indices (…, 3)."""
        return np.asarray(index @ self.affine[:3, :3].T + self.affine[:3, 3])

    def to_index(self, world: NDArray[np.float64]) -> NDArray[np.float64]:
        """Fractional voxel indices (…, 3) of world mm (…, 3)."""
        inverse = np.linalg.inv(self.affine)
        return np.asarray(world @ inverse[:3, :3].T + inverse[:3, 3])

    def matches(self, other: Grid, tolerance_mm: float = 1e-2) -> bool:
        """Same shape, and every corner within ``tolerance_mm``."""
        return self.shape == other.shape and self.distance(other) <= tolerance_mm

    def distance(self, other: Grid) -> float:
        """Largest distance in mm between corresponding corners of the two grids."""
        mine = self.to_world(_corners(self.shape))
        return float(np.linalg.norm(mine - other.to_world(_corners(other.shape)), axis=1).max())

    def cropped(self, box: Box) -> Grid:
        """The grid of a part."""
        affine = np.array(self.affine)
        affine[:3, 3] = self.to_world(np.array(box.start, float))
        shape = tuple(hi - lo for lo, hi in zip(box.start, box.stop, strict=True))
        return Grid(shape, affine)

    def resampled(self, spacing: Sequence[float]) -> Grid:
        """A grid over the same extent whose voxels have about ``spacing`` mm per array axis.

        The number of voxels is rounded (at least 1), the outer faces stay where they are, and so
        the actual spacing is extent / number: the convention of nnU-Net and scikit-image.
        """
        extent = np.array(self.shape) * self.spacing
        shape = np.maximum(1, np.round(extent / np.asarray(spacing, float))).astype(int)
        ratio = np.array(self.shape) / shape
        affine = np.array(self.affine)
        affine[:3, :3] = self.affine[:3, :3] * ratio
        affine[:3, 3] = self.to_world(ratio / 2 - 0.5)
        return Grid(tuple(int(n) for n in shape), affine)


def _corners(shape: tuple[int, ...]) -> NDArray[np.float64]:
    return np.array(
        [[i * (n - 1) for i, n in zip(bits, shape, strict=True)] for bits in np.ndindex(2, 2, 2)],
        dtype=np.float64,
    )


@dataclass(frozen=True, eq=False)
class Volume:
    """A scalar image with its grid. The array has the grid's shape."""

    array: NDArray[Any] = field(repr=False)
    grid: Grid

    def __post_init__(self) -> None:
        if tuple(self.array.shape) != self.grid.shape:
            raise UserError(
                "array and grid differ in shape", seen=self.array.shape, allowed=self.grid.shape
            )

    def with_array(self, array: NDArray[Any]) -> Self:
        """Another array on the same grid."""
        return type(self)(array, self.grid)


@dataclass(frozen=True, eq=False)
class Segmentation(Volume):
    """A volume of organ ids; 0 is background."""

    @property
    def held(self) -> frozenset[int]:
        """The ids that occur; every voxel is looked at."""
        return frozenset(int(organ) for organ in np.unique(self.array) if organ)


def canonical_grid(grid: Grid) -> Grid:
    """The grid whose axes grow towards R, A and S, over the same voxels."""
    order = orientations.io_orientation(grid.affine)
    affine = grid.affine @ orientations.inv_ornt_aff(order, grid.shape)
    shape = [0, 0, 0]
    for axis, (target, _) in enumerate(order):
        shape[int(target)] = grid.shape[axis]
    return Grid((shape[0], shape[1], shape[2]), affine)


def reorient(volume: V, like: Grid) -> V:
    """Permute and flip the axes of ``volume`` to those of ``like``; no voxel changes its value.

    Both grids must cover the same voxels in another order, as do a grid and its canonical one: the
    inverse of ``canonical`` is ``reorient(volume, like=the input's grid)``.
    """
    start = orientations.io_orientation(volume.grid.affine)
    end = orientations.io_orientation(like.affine)
    array = orientations.apply_orientation(volume.array, orientations.ornt_transform(start, end))
    if tuple(array.shape) != like.shape:
        raise UserError(
            "the two grids do not hold the same voxels", seen=array.shape, allowed=like.shape
        )
    return type(volume)(array, like)


def canonical(volume: V) -> V:
    """The same voxels with axes that grow towards R, A and S."""
    return reorient(volume, canonical_grid(volume.grid))


def crop(volume: V, box: Box) -> V:
    """A part of a volume, at its place in the world."""
    return type(volume)(volume.array[box.slices], volume.grid.cropped(box))


def uncrop(part: V, grid: Grid, box: Box, fill: float = 0) -> V:
    """Put a part back at ``box`` of ``grid``; elsewhere ``fill``. The inverse of :func:`crop`."""
    array = np.full(grid.shape, fill, part.array.dtype)
    array[box.slices] = part.array
    return type(part)(array, grid)


def bounding_box(mask: NDArray[np.bool_], margin: Sequence[int] = (0, 0, 0)) -> Box:
    """The smallest box round the true voxels, widened by ``margin`` voxels and kept inside.

    An empty mask gives the whole array.
    """
    start, stop = [], []
    for axis, (size, pad) in enumerate(zip(mask.shape, margin, strict=True)):
        others = tuple(a for a in range(3) if a != axis)
        (found,) = np.nonzero(mask.any(axis=others))
        if len(found) == 0:
            return Box((0, 0, 0), mask.shape)
        start.append(max(0, int(found[0]) - pad))
        stop.append(min(size, int(found[-1]) + 1 + pad))
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def resample(
    volume: Volume, grid: Grid, order: Order = "linear", fill: float | None = None
) -> Volume:
    """Sample ``volume`` at the voxel centres of ``grid``; any two affines, sheared ones included.

    When the new voxels are larger, the image is smoothed first (Gaussian, sigma of half the excess
    of the spacing ratio), so that fine texture does not alias. Outside the volume stands ``fill``,
    or the nearest border voxel when ``fill`` is None. Returns float32.
    """
    array = np.asarray(volume.array, np.float32)
    matrix = np.linalg.inv(volume.grid.affine) @ grid.affine
    if order != "nearest":
        step = np.abs(matrix[:3, :3]).max(axis=1)  # new steps in old voxels, per old axis
        sigma = np.maximum(0.0, (step - 1) / 2)
        if sigma.max() > 0.05:
            array = ndimage.gaussian_filter(array, sigma, mode="nearest")
    out = _affine_sample(array, matrix, grid.shape, _SPLINE[order], fill)
    return Volume(out, grid)


def smoothed(array: NDArray[np.float32], mm: float, grid: Grid) -> NDArray[np.float32]:
    """An array on a grid behind a Gaussian of ``mm`` standard deviation; edges are repeated."""
    sigma = mm / np.array(grid.spacing)
    return np.asarray(ndimage.gaussian_filter(array, sigma, mode="nearest"))


def resample_labels(labels: Segmentation, grid: Grid) -> Segmentation:
    """Resample organ ids: each organ's mask is interpolated linearly and the largest share wins.

    Thin organs keep more of themselves than by nearest neighbour. No new id can appear. Outside
    the volume stands background.
    """
    if labels.grid.matches(grid, tolerance_mm=1e-4):
        return Segmentation(labels.array.astype(np.uint8), grid)
    matrix = np.linalg.inv(labels.grid.affine) @ grid.affine
    masks = ((int(o), np.asarray(labels.array == o, np.float32)) for o in sorted(labels.held))
    shares = ((o, _affine_sample(mask, matrix, grid.shape, 1, 0.0)) for o, mask in masks)
    return Segmentation(largest_share(shares, grid.shape), grid)


def through_grid(labels: Segmentation, grid: Grid) -> Segmentation:
    """Organ ids as they come back from ``grid``, where each organ's shares of the voxels are known.

    Linear both ways, the largest share wins: what the scores of a network on ``grid`` can hold.
    """
    there = np.linalg.inv(labels.grid.affine) @ grid.affine
    back = np.linalg.inv(grid.affine) @ labels.grid.affine
    shape = labels.grid.shape

    def share(organ: int) -> NDArray[np.float32]:
        mask = np.asarray(labels.array == organ, np.float32)
        coarse = _affine_sample(mask, there, grid.shape, 1, None)
        return _affine_sample(coarse, back, shape, 1, None)

    shares = ((organ, share(organ)) for organ in sorted(labels.held))
    return Segmentation(largest_share(shares, shape), labels.grid)


def largest_share(
    shares: Iterable[tuple[int, NDArray[np.float32]]], shape: Sequence[int]
) -> NDArray[np.uint8]:
    """The organ with the largest share of each voxel, uint8 of ``shape``.

    Background has what the organs leave of 1; it wins only with more than the best of them.
    """
    best = np.zeros(shape, np.float32)
    total = np.zeros(shape, np.float32)
    out = np.zeros(shape, np.uint8)
    for organ, share in shares:
        total += share
        wins = share > best
        out[wins] = organ
        best[wins] = share[wins]
    out[best < 1 - total] = 0
    return out


def _affine_sample(
    array: NDArray[np.float32],
    matrix: NDArray[np.float64],
    shape: tuple[int, ...],
    order: int,
    fill: float | None,
) -> NDArray[np.float32]:
    """Values at new indices, where ``matrix`` maps a new index to an old one."""
    linear, offset = matrix[:3, :3], matrix[:3, 3]
    diagonal = np.diag(linear)
    # a diagonal matrix lets scipy sample axis by axis, which is several times faster
    is_diagonal = np.allclose(linear, np.diag(diagonal), atol=1e-9)
    out = ndimage.affine_transform(
        array,
        diagonal if is_diagonal else linear,
        offset=offset,
        output_shape=shape,
        output=np.float32,
        order=order,
        mode="nearest" if fill is None else "constant",
        cval=0.0 if fill is None else fill,
        prefilter=order > 1,
    )
    return np.asarray(out, np.float32)
