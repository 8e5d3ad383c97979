"""One label map from several carried ones: each counts where its image agrees (Artaechevarria,
Munoz-Barrutia and Ortiz-de-Solorzano 2009)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from labelferry.volume import Grid, Segmentation, Volume, smoothed

Floats = NDArray[np.float32]
Part = tuple[Floats, Iterable[tuple[int, Floats]]]
"""The weight of a carried label at every voxel, and the share of each of its organs there."""

_WINDOW_MM = 12.0
_POWER = 2
_LEAST = 0.01
"""Nowhere is a label without a say: where no image agrees, all count alike."""
_LEAST_SHARE = 0.2


def local_agreement(fixed: Volume, carried: Volume) -> Floats:
    """Normalised cross-correlation in a Gaussian window of 12 mm round every voxel, in [-1, 1].

    Both on one grid, float32. Where either is constant in the window it is 0.
    """

    def mean(array: Floats) -> Floats:
        return smoothed(array, _WINDOW_MM, fixed.grid)

    a, b = (np.asarray(side.array, np.float32) for side in (fixed, carried))
    mean_a, mean_b = mean(a), mean(b)
    spread = (mean(a * a) - mean_a**2).clip(0) * (mean(b * b) - mean_b**2).clip(0)
    together = mean(a * b) - mean_a * mean_b
    flat = spread < 1e-12
    return np.where(flat, 0, np.clip(together / np.sqrt(np.where(flat, 1, spread)), -1, 1))


def weight(agreement: Floats) -> Floats:
    """How much a carried label counts at a voxel: the square of its agreement, if positive."""
    return np.asarray(agreement.clip(_LEAST) ** _POWER)


def fuse(parts: Iterable[Part], grid: Grid) -> Segmentation:
    """The organs where their weighted shares are largest, each as large as it is on average; uint8.

    Carried labels that do not quite meet would leave a thin organ nowhere with most of the votes.
    So an organ takes the voxels of its largest shares, as many as its shares sum to, but none
    below a share of 0.2; where organs meet, the one further above its own limit has the voxel.
    ``parts`` is read once, so that one carried label at a time is in memory, besides one array for
    each organ. Raises ``ValueError`` where there is no part.
    """
    total = np.zeros(grid.shape, np.float32)
    sums: dict[int, Floats] = {}
    for weights, shares in parts:
        total += weights
        for organ, share in shares:
            if organ not in sums:
                sums[organ] = np.zeros(grid.shape, np.float32)
            sums[organ] += weights * share
    if not total.any():
        raise ValueError("nothing to fuse")
    out = np.zeros(grid.shape, np.uint8)
    best = np.ones(grid.shape, np.float32)
    for organ in sorted(sums):
        share = sums.pop(organ)
        share /= total
        share /= _limit(share)
        wins = share >= best
        out[wins] = organ
        best[wins] = share[wins]
    return Segmentation(out, grid)


def _limit(share: Floats) -> float:
    """The share that as many voxels reach as the organ is large on average."""
    voxels = round(float(share.sum(dtype=np.float64)))
    if voxels == 0:
        return 1.0
    reached = np.partition(share.ravel(), -voxels)[-voxels]
    return max(float(reached), _LEAST_SHARE)
