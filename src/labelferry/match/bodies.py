"""The bodies of two images laid on each other, before any grey value is looked at."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from labelferry.volume import Volume

_EXTENT_RATIO = (0.7, 1.4)
_POINTS = 200_000


def align_bodies(fixed_body: Volume, moving_body: Volume) -> NDArray[np.float64]:
    """Fixed world → moving world, 4×4, by the bodies: centre on centre, in-plane sizes matched.

    The size along z is left as it is: it is the scan's coverage, not the patient's. An empty body
    counts as the whole image.
    """
    centre, extent = _place(fixed_body)
    moving_centre, moving_extent = _place(moving_body)
    ratio = np.clip(moving_extent / extent, *_EXTENT_RATIO)
    matrix = np.diag([ratio[0], ratio[1], 1.0, 1.0])
    matrix[:3, 3] = moving_centre - matrix[:3, :3] @ centre
    return matrix


def overlap(matrix: NDArray[np.float64], fixed_body: Volume, moving_body: Volume) -> float:
    """Share of the fixed body that ``matrix`` sends into the moving body, in [0, 1]."""
    world = fixed_body.grid.to_world(body_index(fixed_body))
    points = moving_body.grid.to_index(world @ matrix[:3, :3].T + matrix[:3, 3])
    index = np.round(points).astype(int)
    inside = ((index >= 0) & (index < moving_body.grid.shape)).all(axis=1)
    x, y, z = index[inside].T
    return float(np.count_nonzero(moving_body.array[x, y, z]) / len(index))


def body_index(body: Volume) -> NDArray[np.float64]:
    """Voxel indices (n, 3) of the body on a lattice of at most some 200 000 voxels of the image.

    An empty body counts as the whole image.
    """
    mask = np.asarray(body.array, bool)
    step = math.ceil((mask.size / _POINTS) ** (1 / 3))
    for picked, stride in ((mask[::step, ::step, ::step], step), (mask, 1)):
        found = np.argwhere(picked)
        if len(found):
            return np.asarray(found * float(stride), np.float64)
    whole = np.argwhere(np.ones_like(mask[::step, ::step, ::step]))
    return np.asarray(whole * float(step), np.float64)


def _place(body: Volume) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre of gravity and extent of a body along the world's axes, mm."""
    points = body.grid.to_world(body_index(body))
    # percentiles: a stray voxel of the mask must not stretch the body
    low, high = np.percentile(points, [0.5, 99.5], axis=0)
    extent = np.maximum(high - low, max(body.grid.spacing))
    return np.asarray(points.mean(axis=0), np.float64), np.asarray(extent, np.float64)
