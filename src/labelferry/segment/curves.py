"""Random intensity curves: the contrast of a CT replaced by one that no scanner ever made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_KNOTS = 8
_KEEP = 0.2
_DARK_BACKGROUND = 0.8
_BACKGROUND = 0.03
_TABLE = 1024


@dataclass(frozen=True, eq=False)
class Curve:
    """A smooth, not necessarily monotonic map of [0, 1] to [0, 1], tabulated."""

    table: NDArray[np.float32]

    def __call__(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """Map values; those outside [0, 1] take the value at the nearer end."""
        index = np.clip(values * (len(self.table) - 1) + 0.5, 0, len(self.table) - 1)
        return np.asarray(self.table[index.astype(np.int32)])


def draw_curve(rng: np.random.Generator) -> Curve:
    """Draw a curve: 8 random heights joined smoothly, or (1 in 5) the identity.

    In 4 of 5 curves what was black (air) stays black, as in nearly all MRI.
    """
    heights = rng.random(_KNOTS)
    if rng.random() < _KEEP:
        heights = np.linspace(0, 1, _KNOTS)
    position = np.linspace(0, _KNOTS - 1, _TABLE)
    left = np.minimum(position.astype(int), _KNOTS - 2)
    share = position - left
    share = share * share * (3 - 2 * share)
    table = heights[left] * (1 - share) + heights[left + 1] * share
    if rng.random() < _DARK_BACKGROUND:
        table[: int(_BACKGROUND * _TABLE)] = 0
    return Curve(table.astype(np.float32))


def repaint(
    patch: NDArray[np.float32],
    limits: tuple[float, float],
    histogram: NDArray[np.float64],
    curve: Curve,
) -> NDArray[np.float32]:
    """Apply a curve to a patch of a normalised image, and normalise the result anew.

    ``limits`` are the whole image's smallest and largest value and ``histogram`` the shares of
    equal bins between them: mean and SD of the repainted image follow from these alone, so a patch
    gets the same normalisation as the whole image would.
    """
    low, high = limits
    width = max(high - low, 1e-6)
    middles = (np.arange(len(histogram)) + 0.5) / len(histogram)
    painted = curve(middles)
    mean = float((histogram * painted).sum())
    deviation = float(np.sqrt((histogram * (painted - mean) ** 2).sum()))
    out = (curve((patch - low) / width) - mean) / max(deviation, 1e-3)
    return np.asarray(out, np.float32)
