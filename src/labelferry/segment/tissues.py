"""What a labelled CT is made of: the class of each voxel, and what the classes look like.

Every voxel belongs to a class: an organ of the label map, or, where no organ is annotated, one of
the tissues that the CT's own Hounsfield units tell apart. docs/explanation/contrast.md says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from labelferry.organs import OrganSet


class Tissue(IntEnum):
    """Classes of voxels without an organ; the organs' classes follow."""

    AIR = 0
    FAT = 1
    FLUID = 2
    SOFT = 3
    BRIGHT = 4
    MARROW = 5
    DENSE = 6
    # soft tissue apart from its largest piece, the muscles: bowel, vessels, heart
    LOOPS = 7
    OTHER_LOOPS = 8


BEYOND = -1
"""Class of voxels of a patch that lie outside the image."""
SOFT = (Tissue.SOFT, Tissue.LOOPS, Tissue.OTHER_LOOPS)
_CUTS_HU = (-160.0, -25.0, 25.0, 95.0, 160.0, 230.0)
_CLIPPED_HU = -110.0
"""Air that was clipped to more than this cannot be told from fat."""
_AIR_MARGIN = 0.02
"""What lies this little above the lowest value may be air, in units of the CT window."""
_AIR_SMOOTH_MM = 3.0
_DENOISE_MM = 1.2
_PASSAGE_MM = 2.5
_APART_MM = 3.0
_COUCH_MM = 4.0
DETAIL = 0.1
"""Largest deviation from the class mean that is kept as detail, in units of the CT window."""


def class_of_organ(organs: OrganSet) -> NDArray[np.int16]:
    """The class of each organ id (index 0 is not used); both organs of a pair share one."""
    table = np.zeros(len(organs) + 1, np.int16)
    following = len(Tissue)
    for organ in organs:
        if organ.pair is not None and organ.pair < organ.id:
            table[organ.id] = table[organ.pair]
        else:
            table[organ.id] = following
            following += 1
    return table


def classify(
    unit: NDArray[np.float32],
    labels: NDArray[np.integer],
    organs: OrganSet,
    window: tuple[float, float],
    spacing: tuple[float, float, float],
) -> NDArray[np.int16]:
    """The class of every voxel of a CT, same shape.

    ``unit`` (z, y, x) is the plain image: ``window`` (HU) as [0, 1]. ``spacing`` (z, y, x) in mm.
    Air is air within organs too (gas of the stomach). A voxel between two tissues, whose value is
    a mixture and would name a third, takes the class of the neighbour that it resembles more.
    """
    low, high = window
    cuts = [(hu - low) / (high - low) for hu in _CUTS_HU]
    smooth = ndimage.gaussian_filter(unit, [0.0, *(_DENOISE_MM / mm for mm in spacing[1:])])
    tissue = np.digitize(smooth, cuts).astype(np.int16)
    floor = float(unit.min())
    if cuts[0] - _AIR_MARGIN <= floor < (_CLIPPED_HU - low) / (high - low):
        tissue = np.maximum(tissue, Tissue.FAT).astype(np.int16)
        tissue[_clipped_air(unit, smooth, spacing)] = Tissue.AIR
    tissue[_couch(tissue, labels, spacing)] = Tissue.AIR
    tissue = _without_films(smooth, tissue, cuts)
    organ = class_of_organ(organs)[np.maximum(labels, 0)]
    classes = np.where((organ > 0) & (tissue != Tissue.AIR), organ, tissue)
    settled = _without_passages(smooth, tissue, classes, spacing)
    # the skin is no passage between air and muscle, however thin it is
    skin = ndimage.binary_dilation(_outside(tissue), np.ones((1, 3, 3)), _steps(spacing))
    classes = np.where((organ > 0) | skin, classes, settled)
    return _pieces_apart(classes, spacing)


def _clipped_air(
    unit: NDArray[np.float32], smooth: NDArray[np.float32], spacing: tuple[float, float, float]
) -> NDArray[np.bool_]:
    """Air of a CT whose lowest values were clipped to nearly those of fat: it has no noise left."""
    limit = float(unit.min()) + _AIR_MARGIN
    even = ndimage.gaussian_filter(unit, [0.0, *(_AIR_SMOOTH_MM / mm for mm in spacing[1:])])
    cross = ndimage.generate_binary_structure(2, 1)[None]
    rounds = max(1, round(2 * _AIR_SMOOTH_MM / max(spacing[1:])))
    return np.asarray(ndimage.binary_dilation(even < limit, cross, rounds, mask=smooth < limit))


def _couch(
    tissue: NDArray[np.int16], labels: NDArray[np.integer], spacing: tuple[float, float, float]
) -> NDArray[np.bool_]:
    """What lies outside the body, thin as a couch or apart from it: no MRI shows that."""
    solid = tissue != Tissue.AIR
    cross = ndimage.generate_binary_structure(2, 1)[None]
    rounds = max(1, round(_COUCH_MM / max(spacing[1:])))
    parts, count = ndimage.label(ndimage.binary_erosion(solid, cross, rounds, border_value=1))
    if count == 0:
        return np.zeros(tissue.shape, bool)
    largest = parts == 1 + np.bincount(parts.ravel())[1:].argmax()
    # one round more gives the corners of the skin back
    body = ndimage.binary_dilation(largest, cross, rounds + 1, mask=solid)
    inside = np.stack([ndimage.binary_fill_holes(section) for section in body])
    return np.asarray(solid & ~inside & (labels <= 0))


def _without_films(
    smooth: NDArray[np.float32], tissue: NDArray[np.int16], cuts: list[float]
) -> NDArray[np.int16]:
    """Tissues where a film of fluid is fat or soft tissue: it is where those two meet."""
    fluid = tissue == Tissue.FLUID
    cross = ndimage.generate_binary_structure(2, 1)[None]
    film = fluid & ~ndimage.binary_opening(fluid, cross)
    middle = (cuts[Tissue.FLUID - 1] + cuts[Tissue.FLUID]) / 2
    out = np.where(film & (smooth < middle), Tissue.FAT, tissue)
    return np.where(film & (smooth >= middle), Tissue.SOFT, out).astype(np.int16)


def _steps(spacing: tuple[float, float, float]) -> int:
    return max(1, round(_PASSAGE_MM / max(spacing[1:])))


def _outside(tissue: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Air round the body: what reaches the edge of its slice."""
    parts, _ = ndimage.label(tissue == Tissue.AIR)
    edges = np.concatenate(
        [part.ravel() for part in (parts[:, 0], parts[:, -1], parts[:, :, 0], parts[:, :, -1])]
    )
    return np.asarray(np.isin(parts, np.setdiff1d(edges, 0)))


def _pieces_apart(
    classes: NDArray[np.int16], spacing: tuple[float, float, float]
) -> NDArray[np.int16]:
    """Classes where the pieces of soft tissue but the largest are ``LOOPS`` or ``OTHER_LOOPS``.

    Bowel and muscle have the same Hounsfield units, but not the same brightness in MRI.
    """
    soft = classes == Tissue.SOFT
    mm = max(spacing[1:])
    rounds = max(1, round(_APART_MM / mm))
    # ribs and spine hold the muscles together
    joined = soft | (classes == Tissue.MARROW) | (classes == Tissue.DENSE)
    core = ndimage.binary_erosion(joined, ndimage.generate_binary_structure(2, 1)[None], rounds)
    parts, count = ndimage.label(core)
    if count < 2:
        return classes
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    group = np.array(SOFT, np.int16)[1 + np.arange(count + 1) % 2]
    group[sizes.argmax()] = Tissue.SOFT
    far, nearest = ndimage.distance_transform_edt(parts == 0, spacing, return_indices=True)
    reached = soft & (far <= (rounds + 1) * mm)
    return np.where(reached, group[parts[tuple(nearest)]], classes)


def _without_passages(
    smooth: NDArray[np.float32],
    tissue: NDArray[np.int16],
    classes: NDArray[np.int16],
    spacing: tuple[float, float, float],
) -> NDArray[np.int16]:
    """Classes where voxels halfway up a step between two tissues belong to either of them."""
    out = classes.copy()
    best = np.zeros(smooth.shape, np.int16)  # the widest step that passes through a voxel
    for axis, mm in enumerate(spacing):
        index = np.arange(smooth.shape[axis])
        step = max(1, round(_PASSAGE_MM / mm))
        before, after = (np.clip(index + s, 0, len(index) - 1) for s in (-step, step))
        lower, upper = np.take(tissue, before, axis), np.take(tissue, after, axis)
        width = np.abs(upper - lower)
        passage = (np.minimum(lower, upper) < tissue) & (tissue < np.maximum(lower, upper))
        passage &= width > best
        near = np.abs(smooth - np.take(smooth, before, axis))
        far = np.abs(smooth - np.take(smooth, after, axis))
        chosen = np.where(
            near <= far, np.take(classes, before, axis), np.take(classes, after, axis)
        )
        out[passage] = chosen[passage]
        best[passage] = width[passage]
    return out


@dataclass(frozen=True, eq=False)
class Composition:
    """What a whole image is made of; the normalisation of its painted patches follows from it."""

    share: NDArray[np.float64]
    """Of each class among the voxels; they add up to 1."""
    middle: NDArray[np.float64]
    """Mean plain value of each class, in [0, 1]."""
    drift: NDArray[np.float64]
    """Mean detail of each class: clipped deviations need not have mean 0."""
    spread: NDArray[np.float64]
    """SD of the detail of each class."""
    scale: tuple[float, float]
    """Mean and SD of the plain image: stored patches are normalised by them."""

    @classmethod
    def measure(
        cls, unit: NDArray[np.float32], classes: NDArray[np.int16], organs: OrganSet
    ) -> Composition:
        """Of a whole plain image and its classes."""
        n = int(class_of_organ(organs).max()) + 1
        which = classes.ravel()
        count = np.bincount(which, minlength=n)
        held = np.maximum(count, 1)
        middle = np.bincount(which, unit.ravel(), n) / held
        fine = detail(unit.ravel(), middle[which])
        drift = np.bincount(which, fine, n) / held
        variance = np.bincount(which, (fine - drift[which]) ** 2, n) / held
        scale = float(unit.mean(dtype=np.float64)), float(unit.std(dtype=np.float64))
        return cls(count / count.sum(), middle, drift, np.sqrt(variance), scale)

    def to_array(self) -> NDArray[np.float64]:
        """One array for the disk, (5, classes)."""
        scale = np.resize(self.scale, len(self.share))
        return np.stack([self.share, self.middle, self.drift, self.spread, scale])

    @classmethod
    def from_array(cls, array: NDArray[np.float64]) -> Composition:
        """The same from the disk."""
        share, middle, drift, spread, scale = array
        return cls(share, middle, drift, spread, (float(scale[0]), float(scale[1])))


def detail(unit: NDArray[Any], middle: NDArray[Any]) -> NDArray[Any]:
    """What sets a plain value apart from the mean of its class, within ±``DETAIL``."""
    return np.asarray(np.clip(unit - middle, -DETAIL, DETAIL))
