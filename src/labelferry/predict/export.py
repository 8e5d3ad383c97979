"""From scores on the working grid to labels on the input's grid (Table 1).

Scores come in slabs of planes and are resampled class by class, with the largest so far kept: those
of all classes are never held on the input's grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelferry.predict.config import Export
from labelferry.predict.stream import Lattice, Taps, running_argmax, stream_labels
from labelferry.predict.window import join_slabs
from labelferry.segment.resampling import Resampling, nearest_index, resample_image

_AS_NNUNET = Resampling(order=1, order_z=0, separate=None)
"""How nnU-Net resamples scores unless its plans say otherwise."""


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
    old = tuple(logits.shape[1:])
    return export_slabs([logits], old, shape, how, spacing=spacing, new_spacing=new_spacing)


def export_slabs(
    slabs: Iterable[Tensor],
    old: Sequence[int],
    shape: Sequence[int],
    how: Export,
    *,
    spacing: Sequence[float],
    new_spacing: Sequence[float],
) -> NDArray[np.uint8]:
    """The same from slabs (classes, n, y, x) that make up ``old`` planes, rows and columns."""
    if how == "paper":
        return _to_numpy(nearest_labels(join_labels(slabs, threshold_labels), shape))
    if how == "exact":
        return exact_labels(slabs, old, shape, spacing, new_spacing)
    return fast_labels(slabs, old, shape)


def join_labels(slabs: Iterable[Tensor], label: Callable[[Tensor], Tensor]) -> Tensor:
    """What ``label`` makes of each slab, in one volume (z, y, x)."""
    return torch.cat([label(slab) for slab in slabs])


def argmax_labels(logits: Tensor) -> Tensor:
    """The class of the largest score, uint8 (z, y, x); the first of equals."""
    return running_argmax(lambda c: logits[c], len(logits))


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
            index = torch.from_numpy(nearest_index(old, new))
            labels = labels.index_select(axis, index.to(labels.device))
    return labels


def fast_labels(
    slabs: Iterable[Tensor], old: Sequence[int], shape: Sequence[int]
) -> NDArray[np.uint8]:
    """Arg-max of trilinearly resampled logits, uint8 ``shape``."""
    taps = [Taps.linear(a, b) for a, b in zip(old, shape, strict=True)]
    return stream_labels(slabs, Lattice(*taps))


def exact_labels(
    slabs: Iterable[Tensor],
    old: Sequence[int],
    shape: Sequence[int],
    spacing: Sequence[float],
    new_spacing: Sequence[float],
    how: Resampling = _AS_NNUNET,
) -> NDArray[np.uint8]:
    """Labels as nnU-Net v2 exports them: resampled with splines of order 1, an axis of anisotropic
    voxels apart by order 0, or as ``how`` says, then the arg-max.

    Half-precision scores are rounded to half precision again once they are resampled, as nnU-Net
    does: it decides which class wins where two are nearly the same.
    """
    if tuple(old) == tuple(shape):
        return _to_numpy(join_labels(slabs, argmax_labels))
    apart = how.axis_apart(spacing, new_spacing)
    if how.order != 1 or (apart is not None and how.order_z > 1):
        return _spline_labels(slabs, old[0], shape, spacing, new_spacing, how)
    taps = [
        (Taps.nearest if axis == apart and how.order_z == 0 else Taps.linear)(a, b)
        for axis, (a, b) in enumerate(zip(old, shape, strict=True))
    ]
    return stream_labels(slabs, Lattice(*taps), rounded=True)


def _spline_labels(
    slabs: Iterable[Tensor],
    planes: int,
    shape: Sequence[int],
    spacing: Sequence[float],
    new_spacing: Sequence[float],
    how: Resampling,
) -> NDArray[np.uint8]:
    """Plans with other splines than nnU-Net's usual ones: class by class over the whole volume."""
    logits = join_slabs(slabs, planes).cpu()

    def score(c: int) -> Tensor:
        scores = resample_image(logits[c].float().numpy(), shape, spacing, new_spacing, how)
        return torch.from_numpy(scores).to(logits.dtype).float()

    return _to_numpy(running_argmax(score, len(logits)))


def _to_numpy(labels: Tensor) -> NDArray[np.uint8]:
    return np.asarray(labels.cpu().numpy(), np.uint8)
