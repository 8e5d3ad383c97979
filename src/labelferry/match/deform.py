"""After the affine, a free-form step: demons in anatomy space (Vercauteren et al. 2009)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from labelferry.match.choose import agreement
from labelferry.match.config import MatchConfig
from labelferry.match.pair import threads, to_itk_image
from labelferry.volume import Grid, Volume, resample, smoothed

Floats = NDArray[np.float32]

_LEVELS = ((8.0, 6.0, 1.25), (3.0, 3.0, 1.0))
"""Coarse to fine: sigma of the images' smoothing in mm, least size of a voxel in mm, and how much
stiffer the field is."""
_COARSE_MM = 3.0
"""Voxels on which the field is sought: it is too smooth to need finer ones."""
_LEVEL_MM = 15.0
_LEAST_VARIANCE = 1e-4
_CALMED = 3
"""How often a field that folds is smoothed before it is given up."""


@dataclass(frozen=True, eq=False)
class Deformation:
    """R of eq. 6: where the affine still has to be corrected, on the fixed grid."""

    shift: Floats | None = field(repr=False)
    """(3, x, y, z) in voxels of the fixed grid: at voxel i one looks at i + shift(i), and there
    through the affine. None: the affine alone."""
    largest_mm: float
    """The longest shift inside the body."""
    least_jacobian: float
    """The smallest factor by which a volume inside the body changes; at 0 tissue would fold."""
    reason: str
    """Why it was taken or not, in words."""

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form: the field itself is not in it; it follows from the two cases."""
        return {
            "ok": self.shift is not None,
            "largest_mm": round(self.largest_mm, 3),
            "least_jacobian": round(self.least_jacobian, 4),
            "reason": self.reason,
        }


def no_deformation(reason: str) -> Deformation:
    """The affine alone."""
    return Deformation(None, 0.0, 1.0, reason)


def deform(fixed: Volume, laid: Volume, body: Volume, config: MatchConfig) -> Deformation:
    """Find the shift that lays ``laid`` on ``fixed``: two anatomy-space images on one grid.

    ``laid`` is the moving image behind the affine. Demons compare values; grey values mean another
    tissue in each sequence, but edges lie where they lie, once their heights are taken relative to
    those around. The field is held smooth by a Gaussian of ``config.deform_smoothing_mm`` after
    each of ``config.deform_iterations`` steps a level. A field that folds inside ``body`` is
    smoothed until it does not; where that does not help, the affine stands alone. Nothing is raised
    for images; the same input gives the same field when ``config.threads`` is 1.
    """
    if config.deform_iterations == 0:
        return no_deformation("no deformation asked for")
    inside = np.asarray(body.array, bool)
    if not inside.any():
        inside = np.ones_like(inside)
    with threads(config.threads):
        try:
            shift = _demons(fixed, laid, config)
        except RuntimeError as error:
            return no_deformation("demons failed: " + str(error).strip().splitlines()[-1].strip())
    if not np.isfinite(shift).all():
        return no_deformation("demons gave a field that is not finite")
    for _ in range(_CALMED + 1):
        least = float(jacobian(shift)[inside].min())
        if least > 0:
            break
        shift = np.stack([smoothed(part, config.deform_smoothing_mm, fixed.grid) for part in shift])
    else:
        return no_deformation("the deformation folds")
    spacing = np.array(fixed.grid.spacing)
    length = np.sqrt(sum((part[inside] * mm) ** 2 for part, mm in zip(shift, spacing, strict=True)))
    return Deformation(shift, float(length.max()), least, "demons in anatomy space")


def worth_it(
    found: Deformation,
    fixed: Volume,
    laid: Volume,
    bent: Volume,
    body: Volume,
    config: MatchConfig,
) -> Deformation:
    """``found``, or the affine alone where bending brings the edges hardly nearer.

    Two sequences of one session may show one anatomy to the voxel; there demons can only follow
    the contrast, and the levelled edges of ``fixed`` agree less with those of ``bent`` (the moving
    anatomy space behind the affine and the shift) than with those of ``laid`` (behind the affine).
    They must agree by ``config.deform_least_gain`` more within ``body``.
    """
    edges = levelled(fixed)
    before, after = (agreement(edges, levelled(side), body) for side in (laid, bent))
    told = f"edges agree {after:.3f}, {before:.3f} before"
    if after - before < config.deform_least_gain:
        return no_deformation(f"bending brings too little: {told}")
    return replace(found, reason=f"{found.reason}: {told}")


def jacobian(shift: Floats) -> Floats:
    """Determinant of the derivative of i + shift(i), at every voxel: the local change of volume."""
    derivative = np.zeros((*shift.shape[1:], 3, 3), np.float32)
    for row, part in enumerate(shift):
        for column in range(3):
            if part.shape[column] > 1:
                derivative[..., row, column] = np.gradient(part, axis=column)
            derivative[..., row, column] += row == column
    return np.asarray(np.linalg.det(derivative), np.float32)


def _demons(fixed: Volume, laid: Volume, config: MatchConfig) -> Floats:
    """The shift in voxels of the fixed grid, found level by level."""
    finest = _of_voxels(fixed.grid, _COARSE_MM)
    sides = [levelled(resample(volume, finest)) for volume in (fixed, laid)]
    grid, mm = finest, np.zeros((3, *finest.shape), np.float32)
    for smoothing_mm, voxel_mm, stiffness in _LEVELS:
        level = _of_voxels(finest, voxel_mm)
        mm, grid = _on(mm, grid, level), level
        images = []
        for side in sides:
            smooth = side.with_array(smoothed(side.array, smoothing_mm, finest))
            images.append(to_itk_image(resample(smooth, level).array, level))
        method = sitk.FastSymmetricForcesDemonsRegistrationFilter()
        method.SetNumberOfIterations(config.deform_iterations)
        method.SetSmoothDisplacementField(True)
        sigma = config.deform_smoothing_mm * stiffness / np.array(level.spacing)
        method.SetStandardDeviations(sigma.tolist())
        start = sitk.GetImageFromArray(mm.transpose(3, 2, 1, 0).astype(np.float64), isVector=True)
        start.CopyInformation(images[0])
        found = method.Execute(*images, start)
        mm = sitk.GetArrayFromImage(found).transpose(3, 2, 1, 0).astype(np.float32)
    steps = np.array(fixed.grid.spacing, np.float32)[:, None, None, None]
    return np.asarray(_on(mm, grid, fixed.grid) / steps, np.float32)


def _of_voxels(grid: Grid, mm: float) -> Grid:
    """A grid over the same extent whose voxels are no smaller than ``mm``."""
    return grid.resampled(np.maximum(grid.spacing, mm).tolist())


def _on(field_mm: Floats, grid: Grid, other: Grid) -> Floats:
    """The same field on the voxels of another grid over the same extent."""
    return np.stack([resample(Volume(part, grid), other).array for part in field_mm])


def levelled(volume: Volume) -> Volume:
    """Anatomy space, its edges relative to those around: within 15 mm, mean 0 and standard
    deviation 1 where there are any. Each sequence gives the same border another height."""
    mean = smoothed(volume.array, _LEVEL_MM, volume.grid)
    variance = smoothed(volume.array * volume.array, _LEVEL_MM, volume.grid) - mean * mean
    return volume.with_array((volume.array - mean) / np.sqrt(variance.clip(_LEAST_VARIANCE)))
