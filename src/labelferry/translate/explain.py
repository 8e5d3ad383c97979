"""What a source image says of its translation: the part of a fake that its source predicts.

A translator sees the source alone, so a faithful fake is a function of what lies at the same place
in the source: its intensity and its edges, there and round it. That function is fitted to the
volume itself by robust least squares. What is left over shows where the fake has anatomy of its
own. No contrast is assumed, and none of the fitted weights is kept. The organ at a place is no
part of the function: an organ that the fake lacks would be expected to be lacking.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float32]
Spacing = tuple[float, float, float]

AUDIT_SPACING = (3.2, 3.2, 5.0)
"""Voxels in mm, (x, y, z), on which fakes are judged, about: finer images are averaged to them."""

_ROUNDS = 3
_RIDGE = 1.0
_MOST_VOXELS = 60_000
"""The fit sees so many voxels of a body at most, evenly chosen."""


@dataclass(frozen=True, eq=False)
class Scene:
    """A source, its labels and what was made of it, all (x, y, z) on one grid."""

    image: Floats = field(repr=False)
    """Plain source in [0, 1]."""
    edges: Floats = field(repr=False)
    """Source in anatomy space, in [0, 1]."""
    fake: Floats = field(repr=False)
    """The translation, in [0, 1], of whichever space."""
    body: NDArray[np.bool_] = field(repr=False)
    labels: NDArray[np.uint8] = field(repr=False)
    """Organ ids of the source."""
    spacing: Spacing
    """mm"""
    in_edges: bool = False
    """Whether the fake is in anatomy space."""


@dataclass(frozen=True, eq=False)
class Explained:
    """The fake as its source predicts it."""

    expected: Floats = field(repr=False)
    deviation: Floats = field(repr=False)
    """Standard deviation of fake - expected that is usual at such a place; never 0."""

    def residual(self, scene: Scene) -> Floats:
        """fake - expected in usual deviations; 0 outside the body."""
        return np.asarray((scene.fake - self.expected) * scene.body / self.deviation, np.float32)


def coarsened(scene: Scene) -> tuple[Scene, tuple[int, int, int]]:
    """A scene on voxels of about ``AUDIT_SPACING``, and how many old voxels make a new one."""
    pairs = zip(AUDIT_SPACING, scene.spacing, scene.body.shape, strict=True)
    x, y, z = (min(n, max(1, round(wanted / have))) for wanted, have, n in pairs)
    by = (x, y, z)
    if by == (1, 1, 1):
        return scene, by
    a, b, c = (mm * n for mm, n in zip(scene.spacing, by, strict=True))
    middle = tuple(
        slice(n // 2, (size // n) * n, n) for n, size in zip(by, scene.body.shape, strict=True)
    )
    return (
        Scene(
            _averaged(scene.image, by),
            _averaged(scene.edges, by),
            _averaged(scene.fake, by),
            _averaged(scene.body, by) >= 0.5,
            np.ascontiguousarray(scene.labels[middle]),
            (a, b, c),
            scene.in_edges,
        ),
        by,
    )


def explain(scene: Scene) -> Explained:
    """Fit the fake by its source within the body; outside, the fake itself is expected."""
    if not scene.body.any():
        return Explained(scene.fake, np.ones_like(scene.fake))
    columns, wanted = _columns(scene), scene.fake[scene.body]
    found, scale = _fit(columns, wanted, _ROUNDS)
    expected = scene.fake.copy()
    expected[scene.body] = found
    square = np.minimum((wanted - found) ** 2, np.float32(9 * scale**2))
    usual, _ = _fit(columns, square, 1)
    deviation = np.full(scene.fake.shape, scale, np.float32)
    deviation[scene.body] = np.sqrt(np.maximum(usual, np.float32((0.5 * scale) ** 2)))
    return Explained(expected, deviation)


def smooth(array: NDArray[Any], mm: float, spacing: Spacing) -> Floats:
    """Gaussian of ``mm`` standard deviation."""
    sigma = [mm / d for d in spacing]
    return np.asarray(
        ndimage.gaussian_filter(np.asarray(array, np.float32), sigma, mode="nearest", truncate=2.5),
        np.float32,
    )


def _averaged(array: NDArray[Any], by: tuple[int, int, int]) -> Floats:
    x, y, z = (size // n for size, n in zip(array.shape, by, strict=True))
    part = np.asarray(array[: x * by[0], : y * by[1], : z * by[2]], np.float32)
    return np.asarray(part.reshape(x, by[0], y, by[1], z, by[2]).mean((1, 3, 5)), np.float32)


def _columns(scene: Scene) -> Floats:
    """What may decide the value of a faithful fake: (voxels of the body, columns)."""
    body, mm = scene.body, scene.spacing
    image = scene.image[body]
    parts = [
        _steps(image, 24),
        _steps(smooth(scene.image, 4, mm)[body], 12),
        _steps(smooth(scene.image, 9, mm)[body], 8),
        _steps(scene.edges[body], 12),
        _steps(smooth(scene.edges, 6, mm)[body], 6),
    ]
    size = np.maximum(np.array(body.shape) - 1, 1)
    lines = [np.asarray(i, np.float32) for i in (2 * np.argwhere(body) / size - 1).T]
    shading = [*lines, *(lines[i] * lines[j] for i in range(3) for j in range(i, 3))]
    shading += [line * image for line in shading]  # a bias field, added and multiplied
    return np.concatenate([*parts, np.stack(shading, -1)], axis=-1, dtype=np.float32)


def _steps(values: Floats, count: int) -> Floats:
    """Values in [0, 1] as ``count`` hat functions: any curve of theirs is a sum of columns."""
    place = np.clip(values, 0, 1) * (count - 1)
    left = np.minimum(place.astype(np.intp), count - 2)
    right_share = place - left
    out = np.zeros((values.size, count), np.float32)
    every = np.arange(values.size)
    out[every, left] = 1 - right_share
    out[every, left + 1] = right_share
    return out


def _fit(columns: Floats, wanted: Floats, rounds: int) -> tuple[Floats, float]:
    """Robust ridge regression (Cauchy weights): the prediction and the spread about it.

    Sums are taken in single precision, several times as fast: the ridge keeps them well apart.
    """
    every = max(1, -(-len(wanted) // _MOST_VOXELS))
    x = np.ascontiguousarray(columns[::every])
    middle = np.float32(wanted.mean(dtype=np.float64))
    y = wanted[::every] - middle
    weights: Floats = np.ones(len(y), np.float32)
    scale = 1e-3
    found = np.zeros(x.shape[1], np.float32)
    for _ in range(rounds):
        heavy: Floats = x * weights[:, None]
        normal = (heavy.T @ x).astype(np.float64) + _RIDGE * np.eye(x.shape[1])
        found = np.linalg.solve(normal, (heavy.T @ y).astype(np.float64)).astype(np.float32)
        rest = y - x @ found
        scale = float(1.4826 * np.median(np.abs(rest))) + 1e-3
        weights = np.asarray(1 / (1 + (rest / (3 * scale)) ** 2), np.float32)
    return np.asarray(columns @ found + middle, np.float32), scale
