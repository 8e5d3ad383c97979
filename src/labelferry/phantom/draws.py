"""Small random draws that the anatomy is made of. None depends on the size of the grid."""

from __future__ import annotations

import math

import numpy as np

Point = tuple[float, float, float]


def normal(rng: np.random.Generator, sd: float) -> float:
    """One draw from a normal distribution of mean 0."""
    return float(rng.normal(0.0, sd))


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """One draw between ``low`` and ``high``."""
    return float(rng.uniform(low, high))


def jitter(rng: np.random.Generator, sd: float) -> Point:
    """A random displacement in mm."""
    return normal(rng, sd), normal(rng, sd), normal(rng, sd)


def size(rng: np.random.Generator) -> float:
    """A factor for an organ's radii: log-normal, 9 %."""
    return math.exp(normal(rng, 0.09))


def moved(point: Point, by: Point) -> Point:
    """A point moved by a displacement."""
    return point[0] + by[0], point[1] + by[1], point[2] + by[2]
