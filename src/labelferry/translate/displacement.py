"""Local displacement of a fake against what its source predicts (Lucas and Kanade 1981, in 3-D)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from labelferry.translate.explain import Explained, Floats, Scene, smooth

WINDOW_MM = 9.0
"""Standard deviation of the window in which one displacement is estimated."""
_USUAL_MM = 10.0
"""Where the image says nothing, a displacement is taken for normal with this deviation."""
_FLOOR = 0.2
_STYLE_UNIT = np.float32(0.1)
_STYLE_RIDGE = 0.01


@dataclass(frozen=True, eq=False)
class Displacement:
    """A displacement at every voxel."""

    mm: Floats = field(repr=False)
    """Its length."""
    share: Floats = field(repr=False)
    """Share in [0, 1] of what the source leaves unexplained there that it explains."""

    @property
    def score(self) -> Floats:
        """mm times share: far, and surely so."""
        return np.asarray(self.mm * self.share, np.float32)


def displacement(scene: Scene, explained: Explained) -> Displacement:
    """Estimate it from gradients: fake(x) - expected(x) is about grad expected(x) · d(x).

    Least squares in a Gaussian window of ``WINDOW_MM``, each voxel weighted by the deviation that
    is usual there. A brightness and a gain of the window are estimated with it, and what these
    explain is no displacement: a translator's shading is not anatomy. Beyond about a voxel it
    finds less than the true length; it finds where.
    """
    rest = explained.residual(scene)
    weight = np.asarray(scene.body / explained.deviation, np.float32)
    columns = [_slope(scene, explained, axis) for axis in range(3)]
    columns += [weight * _STYLE_UNIT, explained.expected * weight * _STYLE_UNIT]

    def window(array: Floats) -> Floats:
        return smooth(array, WINDOW_MM, scene.spacing)

    moments = np.empty((*rest.shape, 5, 5), np.float32)
    along = np.empty((*rest.shape, 5), np.float32)
    for i in range(5):
        along[..., i] = window(columns[i] * rest)
        for j in range(i, 5):
            moments[..., i, j] = moments[..., j, i] = window(columns[i] * columns[j])
    moments += np.diag(np.array([_USUAL_MM**-2] * 3 + [_STYLE_RIDGE] * 2, np.float32))
    whole = window(scene.body.astype(np.float32)) > 0.7  # too little is seen at the skin
    moments, along, power = moments[whole], along[whole], window(rest * rest)[whole]
    found, explains = _solved(moments, along)
    _, by_style = _solved(moments[:, 3:, 3:], along[:, 3:])
    left = np.maximum(power - by_style, 0) + np.float32(_FLOOR)
    mm, share = np.zeros_like(rest), np.zeros_like(rest)
    mm[whole] = np.sqrt((found[:, :3] ** 2).sum(-1))
    share[whole] = np.clip((explains - by_style) / left, 0, 1)
    return Displacement(mm, share)


def _solved(moments: Floats, along: Floats) -> tuple[Floats, Floats]:
    """The coefficients at every voxel, and how much of the residual's power they explain."""
    found = np.linalg.solve(moments, along[..., None])[..., 0]
    return np.asarray(found), np.asarray((along * found).sum(-1))


def _slope(scene: Scene, explained: Explained, axis: int) -> Floats:
    if explained.expected.shape[axis] < 2:
        return np.zeros_like(explained.expected)
    slope: NDArray[np.float32] = np.gradient(explained.expected, scene.spacing[axis], axis=axis)
    return np.asarray(slope * scene.body / explained.deviation, np.float32)
