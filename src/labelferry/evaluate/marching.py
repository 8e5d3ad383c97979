"""The area of the surface inside a cube of eight voxel centres, for each of its 256 patterns.

Marching cubes (Lorensen and Cline 1987): the surface cuts every edge between an inside and an
outside corner at its middle. We derive the patterns instead of keeping a table of them:

* a pattern and its complement have the same surface, so that we cut off the corners in minority;
* on each face the cuts are joined two by two; where all four edges are cut, each corner of the
  minority is cut off by itself;
* the joined cuts close to polygons of three to six corners, which are split into triangles.

Triangles and squares are flat, as is the regular hexagon round one corner. For the two bent
polygons the split matters to the area: a pentagon is split from an end of its longest diagonal,
a hexagon into the triangle of every other corner and the three ears that are left. So split, the
areas are those of the surface Dice as it is commonly computed (Nikolov et al. 2021).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Corner = tuple[int, int, int]

CORNERS: tuple[Corner, ...] = tuple((i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1))
"""The eight corners of the cube; corner n sets bit n of a pattern's code."""

_MOST_TRIANGLES = 4


def surfel_areas(spacing: tuple[float, float, float]) -> NDArray[np.float64]:
    """Surface area in mm² of each code 0…255, for voxels of ``spacing`` mm.

    A surface element ("surfel") is all of the surface inside one cube.
    """
    x, y, z = spacing
    scaled = _area_vectors() * np.array([y * z, x * z, x * y])
    return np.asarray(np.linalg.norm(scaled, axis=2).sum(axis=1))


@lru_cache(maxsize=1)
def _area_vectors() -> NDArray[np.float64]:
    """Absolute area vectors (256, 4, 3) of the triangles of each code, in a cube of side 1.

    A triangle's component along an axis is its area seen along that axis, and so scales with the
    other two sides of the cube.
    """
    corners = np.zeros((256, _MOST_TRIANGLES, 3, 3))  # of triangles without area
    for code in range(1, 255):
        inside = {corner for n, corner in enumerate(CORNERS) if code >> n & 1}
        if len(inside) <= 4:
            triangles = [t for polygon in _polygons(inside) for t in _split(polygon)]
            corners[code, : len(triangles)] = triangles
            if len(inside) < 4:
                corners[255 - code] = corners[code]
    a, b, c = np.moveaxis(corners, 2, 0)
    table = np.asarray(np.abs(np.cross(b - a, c - a)) / 2)
    table.setflags(write=False)
    return table


@lru_cache(maxsize=1)
def _faces() -> tuple[tuple[Corner, ...], ...]:
    """The corners of each face, going round."""
    faces = []
    for axis in range(3):
        for side in (0, 1):
            ring = []
            for a, b in ((0, 0), (1, 0), (1, 1), (0, 1)):
                corner = [a, b]
                corner.insert(axis, side)
                ring.append((corner[0], corner[1], corner[2]))
            faces.append(tuple(ring))
    return tuple(faces)


def _polygons(cut_off: set[Corner]) -> list[NDArray[np.float64]]:
    """Closed polygons (corners, 3) that part the corners ``cut_off`` from the others."""
    joined: dict[Corner, list[Corner]] = {}
    for ring in _faces():
        # an edge is named by the sum of its ends: twice its middle
        edges = [_sum(ring[n], ring[(n + 1) % 4]) for n in range(4)]
        inside = [corner in cut_off for corner in ring]
        cuts = [n for n in range(4) if inside[n] != inside[(n + 1) % 4]]
        pairs = [(cuts[0], cuts[1])] if len(cuts) == 2 else []
        if len(cuts) == 4:
            pairs = [((n - 1) % 4, n) for n in range(4) if inside[n]]
        for first, second in pairs:
            joined.setdefault(edges[first], []).append(edges[second])
            joined.setdefault(edges[second], []).append(edges[first])
    polygons = []
    left = set(joined)
    while left:
        here: Corner | None = min(left)
        loop = []
        while here is not None:
            loop.append(here)
            left.discard(here)
            here = next((edge for edge in joined[here] if edge in left), None)
        polygons.append(np.array(loop, np.float64) / 2)
    return polygons


def _split(polygon: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Triangles (3, 3) of a polygon, as the module's text says."""
    size = len(polygon)
    if size == 6:
        chosen = [(0, 2, 4), (0, 1, 2), (2, 3, 4), (4, 5, 0)]
    else:
        apart = np.linalg.norm(polygon[:, None] - polygon[None], axis=2).max(axis=1)
        top = int(apart.argmax())
        chosen = [(top, (top + n) % size, (top + n + 1) % size) for n in range(1, size - 1)]
    return [polygon[list(triangle)] for triangle in chosen]


def _sum(a: Corner, b: Corner) -> Corner:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]
