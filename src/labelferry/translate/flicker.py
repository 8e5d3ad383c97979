"""How evenly a translation runs from slice to slice: a slice of another style stands out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelferry.translate.explain import Floats

_LEAST_SHARE = 0.1
_LEAST_STEP = 1e-3
_TONES = 4


@dataclass(frozen=True)
class Flicker:
    """Steps between neighbouring slices of a fake beside those of its source."""

    ratio: float
    """Step of the fake over that of the source, in the median over the pairs of neighbours: 1 is
    as smooth as the source; no unit."""
    slices: tuple[float | None, ...]
    """For each slice how far its style is from that of both neighbours, in usual steps of the
    source: 0 is the same style. None where there is too little body."""

    def standing_out(self, limit: float) -> tuple[int, ...]:
        """The slices (indices along z) above a limit."""
        return tuple(
            z for z, value in enumerate(self.slices) if value is not None and value > limit
        )


def flicker(fake: Floats, expected: Floats, body: NDArray[np.bool_]) -> Flicker | None:
    """Compare slices (x, y, z) within the body; None for fewer than three slices.

    ``expected`` is the source with the fake's intensities
    (:func:`labelferry.translate.explain.explain`). The step of a pair of slices is
    mean |fake(z+1) - fake(z)| over the voxels that are body in both, likewise for ``expected``. The
    style of a slice is the mean of fake - expected in each quarter of the expected intensities: a
    slice that is darker, or of another contrast, has another style, noise and anatomy have not.
    Two styles differ by their root mean square, and a slice by the smaller of its two differences.
    """
    both = body[:, :, 1:] & body[:, :, :-1]
    count = both.sum((0, 1))
    if body.shape[2] < 3 or not count.any():
        return None
    steps = []
    for array in (fake, expected):
        step = np.abs(np.diff(array.astype(np.float32), axis=2)) * both
        steps.append(step.sum((0, 1)) / np.maximum(count, 1))
    seen = count >= _LEAST_SHARE * count.max()
    usual = max(float(np.median(steps[1][seen])), _LEAST_STEP)
    ratio = float(np.median(steps[0][seen] / np.maximum(steps[1][seen], _LEAST_STEP)))
    styles = _styles(fake, expected, body)
    between = np.sqrt(np.mean((styles[1:] - styles[:-1]) ** 2, axis=1)) / usual
    slices: list[float | None] = []
    for z in range(body.shape[2]):
        near = [float(between[k]) for k in (z - 1, z) if 0 <= k < len(seen) and seen[k]]
        slices.append(min(near, default=None))
    return Flicker(ratio, tuple(slices))


def _styles(fake: Floats, expected: Floats, body: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(z, quarters of the intensities): mean fake - expected; 0 where a slice has no such voxel."""
    place = np.nonzero(body)[2]
    inside = expected[body]
    cuts = np.quantile(inside, np.arange(1, _TONES) / _TONES)
    cell = place * _TONES + np.searchsorted(cuts, inside)
    size = body.shape[2] * _TONES
    total = np.bincount(cell, fake[body].astype(np.float64) - inside, size)
    return np.asarray(total / np.maximum(np.bincount(cell, minlength=size), 1)).reshape(-1, _TONES)
