"""Analytic shapes in a subject's coordinates, as masks; only their boxes are computed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from labelferry.phantom.draws import Point
from labelferry.phantom.frame import Floats, Frame

Mask = NDArray[np.bool_]


def ellipsoid(frame: Frame, centre: Point, radii: Point, angles: Point = (0, 0, 0)) -> Mask:
    """The inside of an ellipsoid: centre and radii in mm, turned about z, x, y (degrees)."""
    turn = _rotation(angles)
    half = np.sqrt(((turn * np.asarray(radii)[:, None]) ** 2).sum(axis=0))
    box = _box(frame, np.asarray(centre) - half, np.asarray(centre) + half)
    x, y, z = (
        part[box] - float(c) for part, c in zip((frame.x, frame.y, frame.z), centre, strict=True)
    )
    total = np.zeros(x.shape, np.float32)
    for row, radius in zip(turn.tolist(), radii, strict=True):
        a, b, c = (float(value / radius) for value in row)
        total += (a * x + b * y + c * z) ** 2
    mask = np.zeros(frame.shape, np.bool_)
    mask[box] = total < 1
    return mask


def tube(frame: Frame, points: Sequence[Point], radii: Sequence[float], inset: float = 0.0) -> Mask:
    """The inside of a tube along ``points`` whose radius (mm) changes linearly between them.

    ``inset`` (mm) makes every radius smaller: the lumen inside a wall of that thickness.
    """
    mask = np.zeros(frame.shape, np.bool_)
    ends = list(zip(points, radii, strict=True))
    for (start, first), (stop, last) in pairwise(ends):
        reach = max(first, last) - inset
        box = _box(frame, np.minimum(start, stop) - reach, np.maximum(start, stop) + reach)
        mask[box] |= _segment(frame, box, start, stop, first - inset, last - inset)
    return mask


def superellipse(frame: Frame, half_width: float, half_depth: float, front: float = 0.0) -> Floats:
    """Squircle-like distance in the axial plane, 1 on the outline: the trunk is neither round nor
    square. ``front`` (mm) moves the outline forwards."""
    power = np.float32(2.3)
    across = np.abs(frame.x) / np.float32(half_width)
    deep = np.abs(frame.y - np.float32(front)) / np.float32(half_depth)
    return np.asarray(across**power + deep**power, np.float32)


def _rotation(angles: Point) -> NDArray[np.float64]:
    """Subject → ellipsoid's own axes: about z, then x, then y."""
    about_z, about_x, about_y = np.deg2rad(angles)
    turn = np.eye(3)
    for (i, j), angle in (((0, 1), about_z), ((1, 2), about_x), ((0, 2), about_y)):
        step = np.eye(3)
        step[i, i] = step[j, j] = np.cos(angle)
        step[i, j], step[j, i] = np.sin(angle), -np.sin(angle)
        turn = step @ turn
    return turn


def _box(
    frame: Frame, low: NDArray[np.float64], high: NDArray[np.float64]
) -> tuple[slice, slice, slice]:
    margin = 0.01  # mm, for the rounding of float32 coordinates
    a, b, c = (float(v) - margin for v in low)
    d, e, f = (float(v) + margin for v in high)
    return frame.box((a, b, c), (d, e, f))


def _segment(
    frame: Frame,
    box: tuple[slice, slice, slice],
    start: Point,
    stop: Point,
    first: float,
    last: float,
) -> Mask:
    """Whether a voxel lies nearer to the segment than the radius at its foot."""
    x, y, z = (
        part[box] - float(s) for part, s in zip((frame.x, frame.y, frame.z), start, strict=True)
    )
    dx, dy, dz = (float(b - a) for a, b in zip(start, stop, strict=True))
    along = (x * dx + y * dy + z * dz) / (dx * dx + dy * dy + dz * dz)
    np.clip(along, 0, 1, out=along)
    distance = np.sqrt((x - along * dx) ** 2 + (y - along * dy) ** 2 + (z - along * dz) ** 2)
    return np.asarray(distance < first + along * (last - first), np.bool_)
