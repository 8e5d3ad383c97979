"""The body: where the patient is in a volume."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from labelferry.anatomy.intensity import robust_range, to_unit
from labelferry.cases import Modality

_LOG = logging.getLogger(__name__)
_AIR_HU = -400.0
_OTSU_SHARE = 0.55
_WORK_MM = 2.0
"""The mask is found on about this in-plane grid: finer voxels only cost time."""
_SMOOTH_MM = 2.0
_OPEN_MM = 2.0
_CLOSE_MM = 8.0
_LEAST_SHARE = 0.01
"""A component smaller than this share of the volume is no body."""
_SMALL_SHARE = 0.1
"""A body smaller than this is looked for again with bright organs damped."""
_OUTSHONE = 3.0
"""What is found then is taken where it is so many times as large: no blur makes an organ a body."""
_DAMPED = (0.5, 0.25)
"""Exponents of the signal: with b-values and fat suppression a spleen can outshine the body that it
is in twenty times, and be all that is brighter than Otsu's threshold."""


def body_mask(
    array: NDArray[Any],
    spacing: tuple[float, float, float],
    modality: Modality,
    *,
    case: str | None = None,
) -> NDArray[np.bool_]:
    """The body in a canonical array (x, y, z); bool, same shape. ``spacing`` in mm.

    CT: above -400 HU. MR, and CT whose air was clipped away: above 0.55 times Otsu's threshold of
    the smoothed image. Then opening in the axial plane, the largest component, for MR closing, and
    filling slice by slice. Where that is less than a tenth of the volume, bright organs are damped,
    in case they are all that was found. Where nothing is found the whole volume is the body, with a
    warning.
    """
    stride = [max(1, int(_WORK_MM / mm)) for mm in spacing[:2]]
    small = np.asarray(array[:: stride[0], :: stride[1]])
    step = (spacing[0] * stride[0], spacing[1] * stride[1])
    if modality == "CT" and float(small.min()) < _AIR_HU:
        mask = _filled(_largest(_opened(small > _AIR_HU, _rounds(_OPEN_MM, step))))
    else:
        mask = _by_signal(small, step)
    if mask.mean() < _LEAST_SHARE:
        name = f"{case}: " if case else ""
        _LOG.warning("%sno body found; the whole volume is used", name)
        return np.ones(array.shape, bool)
    wide = mask.repeat(stride[0], axis=0).repeat(stride[1], axis=1)
    return np.ascontiguousarray(wide[: array.shape[0], : array.shape[1]])


def otsu_threshold(values: NDArray[np.float32]) -> float:
    """Otsu's threshold of values in [0, 1]: the split with the largest variance between classes."""
    counts, edges = np.histogram(values, bins=256, range=(0.0, 1.0))
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    total = np.cumsum(counts * centres)
    mean_below = total / np.maximum(below, 1)
    mean_above = (total[-1] - total) / np.maximum(above, 1)
    between = below.astype(float) * above * (mean_below - mean_above) ** 2
    return float(centres[int(between.argmax())])


def _by_signal(array: NDArray[Any], step: tuple[float, float]) -> NDArray[np.bool_]:
    found = robust_range(array, (0.5, 99.0))
    if found is None:
        return np.zeros(array.shape, bool)
    unit = to_unit(array, *found)  # before smoothing: a wild voxel must not spread
    smooth = ndimage.gaussian_filter(unit, (_SMOOTH_MM / step[0], _SMOOTH_MM / step[1], 0.5))
    body = _above_otsu(smooth, step)
    for exponent in _DAMPED:
        if body.mean() >= _SMALL_SHARE:
            break
        damped = _above_otsu(smooth**exponent, step)
        if damped.mean() >= max(_SMALL_SHARE, _OUTSHONE * body.mean()):
            body = damped
    return body


def _above_otsu(smooth: NDArray[np.float32], step: tuple[float, float]) -> NDArray[np.bool_]:
    mask = _opened(smooth > _OTSU_SHARE * otsu_threshold(smooth), _rounds(_OPEN_MM, step))
    return _filled(_closed(_largest(mask), _rounds(_CLOSE_MM, step)))


def _rounds(mm: float, step: tuple[float, float]) -> int:
    return max(1, round(mm / max(step)))


def _in_plane() -> NDArray[np.bool_]:
    # across slices nothing is eroded: volumes of one or a few slices must survive
    cross = ndimage.generate_binary_structure(2, 1)
    return np.asarray(cross[:, :, None])


def _opened(mask: NDArray[np.bool_], rounds: int) -> NDArray[np.bool_]:
    # outside the picture counts as body for the erosion, as the picture may cut the patient
    eroded = ndimage.binary_erosion(mask, _in_plane(), rounds, border_value=1)
    return np.asarray(ndimage.binary_dilation(eroded, _in_plane(), rounds))


def _closed(mask: NDArray[np.bool_], rounds: int) -> NDArray[np.bool_]:
    dilated = ndimage.binary_dilation(mask, _in_plane(), rounds)
    return np.asarray(ndimage.binary_erosion(dilated, _in_plane(), rounds, border_value=1))


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())


def _filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    out = np.empty_like(mask)
    for z in range(mask.shape[2]):
        out[:, :, z] = ndimage.binary_fill_holes(mask[:, :, z])
    return out
