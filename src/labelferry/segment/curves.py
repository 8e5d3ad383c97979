"""Random intensity curves: the contrast of a CT replaced by one that no scanner ever made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_KNOTS = 8
_KEEP = 0.2
_DARK_BACKGROUND = 0.8
_BACKGROUND = 0.03
_TABLE = 1024
_BIAS_NODES = 4
_BIAS_SD = 0.4
_BLUR_MAX = 1.0
_NOISE_MAX = 0.1


@dataclass(frozen=True, eq=False)
class Curve:
    """A continuous, not necessarily monotonic map of [0, 1] to [0, 1], tabulated."""

    table: NDArray[np.float32]

    def __call__(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """Map values; those outside [0, 1] take the value at the nearer end."""
        index = np.clip(values * (len(self.table) - 1) + 0.5, 0, len(self.table) - 1)
        return np.asarray(self.table[index.astype(np.int32)])


def draw_curve(rng: np.random.Generator) -> Curve:
    """Draw a curve: 8 random heights joined by lines, or (1 in 5) the identity.

    In 4 of 5 curves what was black (air) stays black, as in nearly all MRI.
    """
    heights = rng.random(_KNOTS)
    if rng.random() < _KEEP:
        heights = np.linspace(0, 1, _KNOTS)
    table = np.interp(np.linspace(0, _KNOTS - 1, _TABLE), np.arange(_KNOTS), heights)
    if rng.random() < _DARK_BACKGROUND:
        table[: int(_BACKGROUND * _TABLE)] = 0
    return Curve(table.astype(np.float32))


@dataclass(frozen=True, eq=False)
class Scanner:
    """What an MR scanner does to a contrast: an uneven coil, blur and noise."""

    bias: NDArray[np.float32]
    """Coarse log gains, one axis per spatial axis of a patch."""
    blur: float
    """Gaussian sigma in voxels, in plane; 0 is none."""
    noise: float
    """SD of the noise, relative to the image's range."""
    seed: int
    """Of the noise itself."""
    thick: float = 0.0
    """Gaussian sigma in slices, across them: how far slices reach into each other; 0 is none."""
    rician: bool = True
    """Rician noise, as of a magnitude image, or Gaussian."""

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Apply to an image (c, [z,] y, x) in [0, 1]; dark stays dark but for the noise.

        Without z the channels are neighbouring slices of one image.
        """
        size = image.shape[1:]
        factors = [n / m for n, m in zip(size, self.bias.shape, strict=True)]
        field = ndimage.zoom(self.bias, factors, order=1, mode="nearest", grid_mode=True)
        out = image * np.exp(field)[None]
        if self.blur:
            out = ndimage.gaussian_filter(out, (*[0.0] * (out.ndim - 2), self.blur, self.blur))
        if self.thick and out.shape[-3] > 1:
            out = ndimage.gaussian_filter1d(out, self.thick, axis=-3, mode="nearest")
        rng = np.random.default_rng(self.seed)
        draws = rng.standard_normal((2, *out.shape), dtype=np.float32) * self.noise
        if not self.rician:
            return np.asarray(out + draws[0], np.float32)
        return np.asarray(np.hypot(out + draws[0], draws[1]), np.float32)

    def to_json(self) -> dict[str, Any]:
        """All parameters."""
        return {
            "bias": self.bias.tolist(),
            "blur": self.blur,
            "thick": self.thick,
            "noise": self.noise,
            "rician": self.rician,
            "seed": self.seed,
        }


def draw_scanner(rng: np.random.Generator, axes: int) -> Scanner:
    """Draw the effects for a patch of so many spatial axes."""
    nodes = (_BIAS_NODES,) * axes
    bias = rng.normal(0, _BIAS_SD * rng.random(), nodes).astype(np.float32)
    blur = float(rng.uniform(0, _BLUR_MAX)) if rng.random() < 0.5 else 0.0
    return Scanner(bias, blur, float(rng.uniform(0, _NOISE_MAX)), int(rng.integers(2**31)))


def repaint(
    patch: NDArray[np.float32],
    limits: tuple[float, float],
    histogram: NDArray[np.float64],
    curve: Curve,
    scanner: Scanner | None = None,
) -> NDArray[np.float32]:
    """Apply a curve to a patch of a normalised image, and normalise the result anew.

    ``limits`` are the whole image's smallest and largest value and ``histogram`` the shares of
    equal bins between them: mean and SD of the repainted image follow from these alone, so a patch
    gets the same normalisation as the whole image would (the scanner's effects apart).
    """
    low, high = limits
    width = max(high - low, 1e-6)
    middles = (np.arange(len(histogram)) + 0.5) / len(histogram)
    painted = curve(middles)
    mean = float((histogram * painted).sum())
    deviation = float(np.sqrt((histogram * (painted - mean) ** 2).sum()))
    seen = curve((patch - low) / width)
    if scanner is not None:
        seen = scanner(seen)
    return np.asarray((seen - mean) / max(deviation, 1e-3), np.float32)
