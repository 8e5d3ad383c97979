"""The distance from points of a grid to the nearest of others, exact at every distance.

Two surfaces that are compared mostly lie within a few voxels of each other. So the steps to a
point's neighbours are tried in the order of their length, for many points at once, and who finds
nothing near by asks a k-d tree. A distance is always computed from whole steps: no error of
rounding may push it beyond a tolerance.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

Mask = NDArray[np.bool_]
Indices = NDArray[np.intp]
Floats = NDArray[np.float64]
Spacing = tuple[float, float, float]

_LOOKUPS = 1 << 17
"""Cells that are looked up at once: they and their indices stay in the cache."""


@dataclass(frozen=True)
class Reach:
    """How far neighbours are tried, on a grid whose axes have a spacing in mm."""

    spacing: Spacing
    turned: bool = False
    """Whether the axes stand in the reverse order: squares are added in the order x, y, z."""
    tried: int = 100
    """About how many neighbours are tried before the tree is asked."""

    @property
    def margins(self) -> tuple[int, int, int]:
        """How many cells without any point the grid must have on each side, along each axis."""
        a, b, c = (int(self.radius / size) for size in self.spacing)
        return a, b, c

    @property
    def radius(self) -> float:
        """Length in mm within which the neighbours are tried: the radius of their ball."""
        return float((self.tried * np.prod(self.spacing) / (4 / 3 * np.pi)) ** (1 / 3))

    def lengths(self, steps: Indices) -> Floats:
        """Lengths in mm of steps (n, 3) of voxels."""
        squares = (steps * np.asarray(self.spacing)) ** 2
        if self.turned:
            squares = squares[:, ::-1]
        return np.asarray(np.sqrt(squares[:, 0] + squares[:, 1] + squares[:, 2]))


@lru_cache(maxsize=64)
def neighbours(reach: Reach) -> tuple[Indices, Floats]:
    """Every step (n, 3) within reach, and its length in mm, the shortest first."""
    a, b, c = reach.margins
    sides = 2 * a + 1, 2 * b + 1, 2 * c + 1
    steps = np.indices(sides).reshape(3, -1).T - np.array([a, b, c])
    lengths = reach.lengths(steps)
    order = np.argsort(lengths, kind="stable")
    order = order[: np.searchsorted(lengths[order], reach.radius, side="right")]
    return steps[order], lengths[order]


def distances(start: Indices, to: Indices, shape: tuple[int, ...], reach: Reach) -> Floats:
    """Distance in mm of each cell ``start`` to the nearest of ``to``; infinite where that is empty.

    Both are flat indices into a grid of ``shape`` whose margins (``reach.margins``) hold none.
    """
    found = np.full(len(start), np.inf)
    if not len(to):
        return found
    there = np.zeros(int(np.prod(shape)), np.bool_)
    there[to] = True
    steps, lengths = neighbours(reach)
    offsets = steps @ np.array([shape[1] * shape[2], shape[2], 1])
    left, here, first = np.arange(len(start)), start, 0
    while len(left) and first < len(offsets):
        last = min(len(offsets), first + max(1, _LOOKUPS // len(left)))
        hit, length = _try(there, here, offsets[first:last], lengths[first:last])
        found[left[hit]] = length
        left, here, first = left[~hit], here[~hit], last
    if len(left):
        found[left] = _by_tree(here, to, shape, reach)
    return found


def _try(there: Mask, here: Indices, offsets: Indices, lengths: Floats) -> tuple[Mask, Floats]:
    """Which cells have a point at one of the offsets, and for those the first one's length."""
    if len(offsets) == 1:
        hit = there[here + offsets[0]]
        return hit, np.full(np.count_nonzero(hit), lengths[0])
    table = there[here[:, None] + offsets]
    first = table.argmax(axis=1)
    hit = table[np.arange(len(here)), first]
    return hit, lengths[first[hit]]


def _by_tree(start: Indices, to: Indices, shape: tuple[int, ...], reach: Reach) -> Floats:
    here, there = (np.transpose(np.unravel_index(cells, shape)) for cells in (start, to))
    tree = KDTree(there * reach.spacing, balanced_tree=False, compact_nodes=False)
    _, nearest = tree.query(here * reach.spacing)
    return reach.lengths(here - there[nearest])
