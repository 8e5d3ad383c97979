"""Edges beside the edges round them: what a coil, a contrast or one strong edge cannot change.

A gradient over a percentile of the whole volume says how an edge compares with the strongest ones,
which differ from sequence to sequence and lie where the coil is near. Beside its surroundings, an
edge is an edge in each of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_SHARE = np.float32(0.7)
_FLOOR = np.float32(0.2)
"""Both measured by ``benchmarks/spaces.py``; neither is sharp."""
_FAR = np.float32(1e-3)


def local_edges(
    magnitude: NDArray[np.float32],
    spacing: tuple[float, float, float],
    body: NDArray[np.bool_],
    window_mm: float,
    axes: tuple[int, ...] = (0, 1, 2),
) -> NDArray[np.float32]:
    """Gradient magnitudes (x, y, z), of any unit, as edges in [0, 1); float32, same shape.

    The length of the normalised gradient field (Haber and Modersitzki 2006), |g| / sqrt(|g|² + ε²),
    whose edge parameter ε is here that of the place: 0.7 times the mean |g| within ``body`` under a
    Gaussian of ``window_mm`` (sigma, along ``axes``) and a fifth of the mean over the whole body,
    so that where there is nothing but noise there is no edge. A gradient as strong as all round it
    becomes about 0.77. Magnitudes that are 0 everywhere give zeros. ``spacing`` in mm.
    """
    inside = (body if body.any() else np.ones(body.shape, np.bool_)).astype(np.float32)
    usual = np.float32((magnitude * inside).sum(dtype=np.float64) / inside.sum(dtype=np.float64))
    usual = usual or magnitude.max()
    if usual <= 0:
        return np.zeros(magnitude.shape, np.float32)
    sigma = [window_mm / spacing[a] if a in axes else 0.0 for a in range(3)]
    total, weight = (_blurred(array, sigma) for array in (magnitude * inside, inside))
    # far from the body, where the window holds none of it, the mean is that of all the body
    mean = (total + _FAR * usual) / (weight + _FAR)
    return np.asarray(magnitude / np.hypot(magnitude, _SHARE * (mean + _FLOOR * usual)), np.float32)


def _blurred(array: NDArray[np.float32], sigma: list[float]) -> NDArray[np.float32]:
    return np.asarray(
        ndimage.gaussian_filter(array, sigma, mode="constant", truncate=3.0), np.float32
    )
