"""Colours of organs on the page that readers with and without colour vision can tell apart."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from labelferry.organs import OrganSet

RGB = tuple[int, int, int]

SAFE: tuple[RGB, ...] = (
    (176, 85, 39),
    (130, 157, 145),
    (212, 150, 199),
    (241, 166, 53),
    (253, 101, 88),
    (20, 158, 252),
    (244, 216, 34),
    (214, 221, 170),
    (15, 189, 107),
    (123, 114, 138),
    (161, 77, 181),
    (195, 210, 255),
    (54, 106, 243),
)
"""Found by annealing: the smallest distance of any two colours, under normal vision and under the
three deficiencies, is as large as possible, with more weight on organs that touch. In the order of
FLARE, where they stay near the usual hues (aorta red, vena cava blue, gallbladder green)."""

LEAST_DISTANCE = 15.0
"""ΔE (CIE 1976) below which two flat colours are easily mistaken for each other."""

_VISION = {
    "normal": np.eye(3),
    # full deficiency, on linear RGB: Machado, Oliveira and Fernandes 2009
    "protan": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deutan": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritan": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


def organ_colours(organs: OrganSet) -> tuple[RGB, ...]:
    """The colour of each organ on the page, in the order of the ids.

    The organs' own colours where every two of them can be told apart; else the safe ones, and
    beyond these lighter and darker shades of them (numbers in the pictures then tell organs apart).
    """
    own = tuple(organ.colour for organ in organs)
    if least_distance(own) >= LEAST_DISTANCE:
        return own
    return tuple(_shade(SAFE[i % len(SAFE)], i // len(SAFE)) for i in range(len(organs)))


def least_distance(colours: tuple[RGB, ...]) -> float:
    """Smallest ΔE (CIE 1976) of two of the colours under any of the four kinds of vision."""
    if len(colours) < 2:
        return float("inf")
    linear = _linear(np.array(colours, float) / 255)
    smallest = float("inf")
    for matrix in _VISION.values():
        lab = _lab(np.clip(linear @ matrix.T, 0, 1))
        pairs = [np.linalg.norm(lab[i] - lab[j]) for i, j in combinations(range(len(lab)), 2)]
        smallest = min(smallest, float(min(pairs)))
    return smallest


def _shade(colour: RGB, step: int) -> RGB:
    towards = 255 if step % 2 else 0
    share = min(0.75, 0.3 * ((step + 1) // 2))
    red, green, blue = (round(c + share * (towards - c)) for c in colour)
    return red, green, blue


def _linear(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _lab(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    xyz = linear @ _XYZ.T / (_XYZ @ np.ones(3))
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack(
        [116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=-1
    )
