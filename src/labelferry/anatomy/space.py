"""Anatomy space: the edges of an image, which CT and MRI share (paper 2.1, Figure 2)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from labelferry.anatomy.config import AnatomyConfig
from labelferry.anatomy.local import local_edges


def gradient_magnitude(
    array: NDArray[Any], spacing: tuple[float, float, float], axes: tuple[int, ...] = (0, 1, 2)
) -> NDArray[np.float32]:
    """Magnitude of the Sobel gradient along ``axes``, in units per mm; float32, same shape.

    Each component is the central difference along one axis, averaged with weights 1, 2, 1 along
    the other ``axes``, and divided by the spacing of its axis: a linear ramp gives its slope,
    whatever the voxels. At the border the nearest voxel is repeated.
    """
    image = np.asarray(array, np.float32)
    square = np.zeros(image.shape, np.float32)
    for axis in axes:
        part = ndimage.correlate1d(image, [-0.5, 0.0, 0.5], axis, mode="nearest")
        for other in axes:
            if other != axis:
                part = ndimage.correlate1d(part, [0.25, 0.5, 0.25], other, mode="nearest")
        square += (part / np.float32(spacing[axis])) ** 2
    return np.asarray(np.sqrt(square), np.float32)


def anatomy_space(
    image: NDArray[np.float32],
    spacing: tuple[float, float, float],
    body: NDArray[np.bool_],
    config: AnatomyConfig,
) -> NDArray[np.float32]:
    """An image (x, y, z) in [0, 1] as edges in [0, 1]; float32, same shape. ``spacing`` in mm.

    The gradient magnitude is divided by its own ``gradient_percentile`` within ``body``, clipped
    and raised to ``gradient_gamma``; or, with ``gradient_scale`` ``local``, measured by the
    gradients round it (:func:`~labelferry.anatomy.local.local_edges`). An image without any edge
    gives zeros.
    """
    if config.sobel == "none":
        return np.array(image, np.float32)
    axes = (0, 1, 2) if config.sobel == "3d" else (0, 1)
    sigma = [config.smoothing_mm[a] / spacing[a] if a in axes else 0.0 for a in range(3)]
    smooth = ndimage.gaussian_filter(image, sigma, mode="nearest") if max(sigma) > 0 else image
    edges = gradient_magnitude(smooth, spacing, axes)
    if config.gradient_scale == "local":
        return local_edges(edges, spacing, body, config.local_mm, axes)
    inside = edges[body] if body.any() else edges.ravel()
    scale = float(np.percentile(inside, config.gradient_percentile)) or float(edges.max())
    if scale <= 0:
        return edges
    unit = np.clip(edges / np.float32(scale), 0, 1)
    return np.asarray(unit**config.gradient_gamma, np.float32)
