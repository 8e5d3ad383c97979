"""nnU-Net's resampling of images, as one matrix product per axis.

Spline interpolation is linear in the image and works axis by axis, so that scipy need be asked only
once per axis what it does, and that on unit vectors. nnU-Net's own function calls it on the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

_NOTHING = 1e-12
"""A share of a voxel that is far below single precision."""


@dataclass(frozen=True)
class Resampling:
    """How nnU-Net's ``resample_data_or_seg_to_shape`` is called."""

    order: int = 3
    """Of the spline within the planes, or along all axes where none is resampled apart."""
    order_z: int = 0
    """Of the spline along an axis that is resampled apart."""
    separate: bool | None = None
    """Whether the coarsest axis is resampled apart; None: where the voxels are anisotropic."""
    anisotropic: float = 3.0
    """Voxels are where the largest side is more than so many times the smallest."""

    @classmethod
    def of(cls, keywords: dict[str, Any]) -> Resampling:
        """From the ``resampling_fn_…_kwargs`` of nnU-Net's plans."""
        return cls(
            order=int(keywords.get("order", 3)),
            order_z=int(keywords.get("order_z", 0)),
            separate=keywords.get("force_separate_z", False),
            anisotropic=float(keywords.get("separate_z_anisotropy_threshold", 3.0)),
        )

    def axis_apart(self, spacing: Sequence[float], new_spacing: Sequence[float]) -> int | None:
        """The axis that is resampled apart, after the others: the one of the largest voxels."""
        if self.separate is False:
            return None
        coarse = spacing
        if self.separate is None:
            found = [s for s in (spacing, new_spacing) if max(s) / min(s) > self.anisotropic]
            if not found:
                return None
            coarse = found[0]
        largest = [axis for axis, mm in enumerate(coarse) if mm == max(coarse)]
        # two or three axes of the largest voxels: there is no plane to resample first
        return largest[0] if len(largest) == 1 else None


def resampled_shape(
    shape: Sequence[int], spacing: Sequence[float], new_spacing: Sequence[float]
) -> tuple[int, ...]:
    """Voxels that cover the same extent, rounded as nnU-Net does."""
    rows = zip(shape, spacing, new_spacing, strict=True)
    return tuple(round(mm / new * count) for count, mm, new in rows)


def resample_image(
    image: NDArray[np.float32],
    shape: Sequence[int],
    spacing: Sequence[float],
    new_spacing: Sequence[float],
    how: Resampling,
) -> NDArray[np.float32]:
    """An image (z, y, x) on ``shape`` voxels over the same extent, as nnU-Net resamples it.

    ``spacing`` and ``new_spacing`` in mm, (z, y, x), decide whether an axis is resampled apart.
    Values stay within the range of the image, or of each plane where an axis is resampled apart,
    but along that axis itself. float32; equal to nnU-Net's to about 1e-5 of the range.
    """
    if tuple(image.shape) == tuple(shape):
        return image
    apart = how.axis_apart(spacing, new_spacing)
    plane = [axis for axis in range(3) if axis != apart]
    out = torch.from_numpy(np.ascontiguousarray(image, np.float32))
    low, high = out.amin(plane, keepdim=True), out.amax(plane, keepdim=True)
    # the axis that shrinks most goes first: less is left for the others
    for axis in sorted(plane, key=lambda axis: shape[axis] / image.shape[axis]):
        out = _along(out, axis, shape[axis], how.order)
    out = torch.minimum(torch.maximum(out, low), high) if how.order > 1 else out
    if apart is not None:
        out = _along(out, apart, shape[apart], how.order_z)
    return np.ascontiguousarray(out.numpy())


def nearest_index(old: int, new: int) -> NDArray[np.int64]:
    """The old voxel whose centre is nearest to each new one along an axis; of two, the upper."""
    centre = (np.arange(new) + 0.5) * (old / new) - 0.5
    return np.asarray(np.clip(np.floor(centre + 0.5), 0, old - 1), np.int64)


@lru_cache(maxsize=32)
def spline_matrix(old: int, new: int, order: int) -> Tensor:
    """What scikit-image's ``resize`` does along an axis, (new, old): edges repeated, no smoothing.

    A column is the response to a unit vector.
    """
    columns = [
        ndimage.zoom(unit, new / old, order=order, mode="nearest", grid_mode=True)
        for unit in np.eye(old)
    ]
    matrix = np.stack(columns, axis=1)
    # the response fades out towards numbers so small that processors take ten times as long
    matrix[np.abs(matrix) < _NOTHING] = 0
    return torch.from_numpy(matrix.astype(np.float32))


def _along(image: Tensor, axis: int, size: int, order: int) -> Tensor:
    """Resample one axis of (z, y, x)."""
    old = image.shape[axis]
    if old == size:
        return image
    if order == 0:
        return image.index_select(axis, torch.from_numpy(nearest_index(old, size)))
    matrix = spline_matrix(old, size, order)
    if axis == 2:
        return image @ matrix.T
    if axis == 1:
        return matrix @ image
    return (matrix @ image.flatten(1)).reshape(size, *image.shape[1:])
