"""From scores on the working grid to labels on the input's grid (Table 1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from labelferry.predict.config import Export

_SLAB_VOXELS = 2**22
"""Output voxels that are worked on at once: bounds the memory, whatever the number of classes."""


def export_labels(
    logits: Tensor,
    shape: Sequence[int],
    how: Export,
    *,
    spacing: Sequence[float],
    new_spacing: Sequence[float],
) -> NDArray[np.uint8]:
    """Labels (z, y, x) of ``shape`` from ``logits`` (classes, z, y, x) over the same extent.

    ``spacing`` and ``new_spacing`` in mm, (z, y, x): nnU-Net decides by them whether z is resampled
    apart (``exact``).
    """
    if how == "paper":
        return _to_numpy(nearest_labels(threshold_labels(logits), shape))
    if tuple(logits.shape[1:]) == tuple(shape):
        return _to_numpy(argmax_labels(logits))
    if how == "exact":
        return exact_labels(logits, shape, spacing, new_spacing)
    return _to_numpy(fast_labels(logits, shape))


@dataclass(frozen=True, eq=False)
class _Slab:
    """Which old planes make some new ones: the range of them, and per new plane the lower and upper
    one (counted from the range's start) and the upper one's share.
    """

    source: slice
    lower: Tensor
    upper: Tensor
    share: Tensor

    def resample(self, logits: Tensor, size: tuple[int, int], c: int) -> Tensor:
        """Trilinear scores (z, y, x) of class ``c`` in the slab."""
        planes = _resample_planes(logits[c, self.source].float(), size)
        return torch.lerp(planes[self.lower], planes[self.upper], self.share[:, None, None])


def argmax_labels(logits: Tensor) -> Tensor:
    """The class of the largest score, uint8 (z, y, x); the first of equals."""
    return _running(lambda c: logits[c], len(logits))


def threshold_labels(logits: Tensor) -> Tensor:
    """Table 1: sigmoid > 0.5, the largest score wins, and none is background; uint8 (z, y, x).

    A sigmoid is above 0.5 where the logit is above 0. Background is a class like any other here.
    """
    labels = argmax_labels(logits)
    for c in range(1, len(logits)):
        labels[(labels == c) & (logits[c] <= 0)] = 0
    return labels


def nearest_labels(labels: Tensor, shape: Sequence[int]) -> Tensor:
    """Labels (z, y, x) at the nearest old voxel centre of each new one."""
    for axis, (old, new) in enumerate(zip(labels.shape, shape, strict=True)):
        if old != new:
            centre = (torch.arange(new, dtype=torch.float64) + 0.5) * (old / new)
            index = centre.long().clamp(max=old - 1)
            labels = labels.index_select(axis, index.to(labels.device))
    return labels


def fast_labels(logits: Tensor, shape: Sequence[int]) -> Tensor:
    """Arg-max of trilinearly resampled logits, uint8 ``shape``, in slabs of output z.

    The same as resampling all classes and taking the arg-max, but the memory beside the logits does
    not grow with the number of classes, nor with the volume.
    """
    z, y, x = shape
    out = torch.empty((z, y, x), dtype=torch.uint8, device=logits.device)
    lower, upper, share = (part.to(logits.device) for part in _taps(logits.shape[1], z))
    depth = max(1, _SLAB_VOXELS // (y * x))
    for start in range(0, z, depth):
        part = slice(start, min(z, start + depth))
        first, last = int(lower[part.start]), int(upper[part.stop - 1]) + 1
        slab = _Slab(slice(first, last), lower[part] - first, upper[part] - first, share[part])
        out[part] = _running(partial(slab.resample, logits, (y, x)), len(logits))
    return out


def exact_labels(
    logits: Tensor,
    shape: Sequence[int],
    spacing: Sequence[float],
    new_spacing: Sequence[float],
) -> NDArray[np.uint8]:
    """Labels as nnU-Net v2 exports them: its own resampling (order 1, z apart by order 0 where the
    voxels are anisotropic), then the arg-max. Class by class, so that memory stays bounded.
    """
    from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

    scores = logits.float().cpu()

    def score(c: int) -> Tensor:
        resampled: NDArray[Any] = resample_data_or_seg_to_shape(
            scores[c : c + 1].numpy(),
            list(shape),
            list(spacing),
            list(new_spacing),
            is_seg=False,
            order=1,
            order_z=0,
            force_separate_z=None,
        )
        return torch.from_numpy(resampled[0])

    return _to_numpy(_running(score, len(logits)))


def keep_largest(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Only the largest connected part (faces touch) of each organ; any axes."""
    out = np.zeros_like(labels)
    for organ, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        parts, count = ndimage.label(labels[box] == organ)
        sizes = np.bincount(parts.ravel(), minlength=count + 1)
        sizes[0] = 0
        out[box][parts == sizes.argmax()] = organ
    return out


def _running(score: Callable[[int], Tensor], classes: int) -> Tensor:
    """Arg-max over classes of which one at a time is held; uint8."""
    best = score(0).clone()
    labels = torch.zeros(best.shape, dtype=torch.uint8, device=best.device)
    for c in range(1, classes):
        candidate = score(c)
        labels[candidate > best] = c
        torch.maximum(best, candidate, out=best)
    return labels


def _taps(old: int, new: int) -> tuple[Tensor, Tensor, Tensor]:
    """Linear interpolation along an axis: the lower and upper old index and the upper's share."""
    centre = ((torch.arange(new, dtype=torch.float64) + 0.5) * (old / new) - 0.5).clamp(0, old - 1)
    lower = centre.floor().long()
    upper = (lower + 1).clamp(max=old - 1)
    return lower, upper, (centre - lower).float()


def _resample_planes(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear in-plane resampling of (n, y, x)."""
    if tuple(planes.shape[1:]) == size:
        return planes
    return functional.interpolate(planes[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def _to_numpy(labels: Tensor) -> NDArray[np.uint8]:
    return np.asarray(labels.cpu().numpy(), np.uint8)
