"""Random contrasts: a labelled CT painted anew, one random brightness for each class of tissue."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from labelferry.segment.curves import Scanner, draw_scanner
from labelferry.segment.tissues import BEYOND, DETAIL, SOFT, Composition, Tissue, detail

_RELATED = 0.5
_SHARED = 0.15
_SHARED_SD = 0.02
_DARK_AIR = 0.95
_DARK_BONE = 0.6
_GAIN_MAX = 1.5
_TEXTURE_MAX = 0.15
_GRAIN = (0.6, 2.5)
_PARTIAL = (0.3, 0.7)
_THICK_MAX = 0.8
_RICIAN = 0.7
_WIDE = 0.29
"""SD of levels that fill [0, 1] evenly."""


@dataclass(frozen=True, eq=False)
class Contrast:
    """One random contrast: what each class looks like, and the scanner that saw it."""

    level: NDArray[np.float32]
    """Mean brightness of each class, about [0, 1]."""
    gain: NDArray[np.float32]
    """How the CT's own detail within a class shows; negative turns bright into dark."""
    texture: NDArray[np.float32]
    """SD of a random texture within each class."""
    grain: float
    """Gaussian sigma of that texture in voxels, in plane; 0 is white noise."""
    partial: float
    """Gaussian sigma of the classes' borders in voxels, in plane (partial volume)."""
    scanner: Scanner
    """Coil, blur, slice thickness, noise."""
    seed: int
    """Of the texture itself."""

    def to_json(self) -> dict[str, Any]:
        """All parameters; with the image they give the painted patch again."""
        return {
            "level": self.level.tolist(),
            "gain": self.gain.tolist(),
            "texture": self.texture.tolist(),
            "grain": self.grain,
            "partial": self.partial,
            "seed": self.seed,
            "scanner": self.scanner.to_json(),
        }


def draw_contrast(rng: np.random.Generator, classes: int, axes: int) -> Contrast:
    """Draw a contrast for so many classes and a patch of so many spatial axes."""
    level = _draw_levels(rng, classes)
    gain = rng.normal(0, _GAIN_MAX * rng.random(), classes)
    gain[Tissue.AIR] = 0
    gain = np.clip(gain, -level / DETAIL, level / DETAIL)  # no brightness below 0
    texture = level * rng.random(classes) * rng.uniform(0, _TEXTURE_MAX)
    grain = float(rng.uniform(*_GRAIN)) if rng.random() < 0.5 else 0.0
    partial = float(rng.uniform(*_PARTIAL))
    thick = float(rng.uniform(0, _THICK_MAX)) if rng.random() < 0.5 else 0.0
    rician = bool(rng.random() < _RICIAN)
    scanner = draw_scanner(rng, axes)
    # a contrast that uses little of the range would drown in the noise of one that fills it
    noise = scanner.noise * rng.random() * min(1.0, float(level.std()) / _WIDE)
    scanner = replace(scanner, noise=noise, thick=thick, rician=rician)
    return Contrast(
        level.astype(np.float32),
        gain.astype(np.float32),
        texture.astype(np.float32),
        grain,
        partial,
        scanner,
        seed=int(rng.integers(2**31)),
    )


def _draw_levels(rng: np.random.Generator, classes: int) -> NDArray[np.float64]:
    level = rng.random(classes)
    organs = np.arange(len(Tissue), classes)
    if rng.random() < _RELATED:  # soft tissues are more alike than fat, fluid and bone
        soft = [*SOFT, *organs]
        level[soft] = rng.normal(rng.uniform(0.15, 0.85), rng.uniform(0.05, 0.2), len(soft))
    partner = np.where(
        rng.random(len(organs)) < 0.5,
        rng.choice(SOFT, len(organs)),
        rng.integers(len(Tissue), classes, len(organs)),
    )
    shared = rng.random(len(organs)) < _SHARED
    level[organs[shared]] = level[partner[shared]] + rng.normal(0, _SHARED_SD, shared.sum())
    if rng.random() < _DARK_AIR:
        level[Tissue.AIR] = rng.uniform(0, 0.05)
    if rng.random() < _DARK_BONE:
        level[Tissue.DENSE] = rng.uniform(0, 0.2)
    return np.clip(level, 0, 1)


def paint(
    patch: NDArray[np.float32],
    classes: NDArray[np.int16],
    composition: Composition,
    contrast: Contrast,
) -> NDArray[np.float32]:
    """Paint a patch of a normalised CT and normalise the result as the whole image would be.

    ``patch`` and ``classes`` (…, y, x): one slice, neighbouring slices or a volume of one image;
    the contrast is the same everywhere. Voxels ``BEYOND`` the image become 0, as in prediction.
    """
    mean, deviation = moments(composition, contrast)
    seen = contrast.scanner(brightness(patch, classes, composition, contrast))
    out = (seen - np.float32(mean)) / np.float32(max(deviation, 1e-3))
    beyond = classes == BEYOND
    if beyond.any():
        out[beyond] = 0
    return np.asarray(out, np.float32)


def brightness(
    patch: NDArray[np.float32],
    classes: NDArray[np.int16],
    composition: Composition,
    contrast: Contrast,
) -> NDArray[np.float32]:
    """The painted patch before any scanner: levels with soft borders, detail, and texture."""
    index = classes.astype(np.intp)
    level, gain, texture, middle = (
        # beyond the image lies air
        np.append(values, values[Tissue.AIR]).astype(np.float32)[index]
        for values in (contrast.level, contrast.gain, contrast.texture, composition.middle)
    )
    mean, deviation = composition.scale
    fine = detail(patch * np.float32(deviation) + np.float32(mean), middle)
    # to smooth the image of levels is to mix the levels by smoothed class memberships
    seen = _blurred(level, contrast.partial) + gain * fine
    if contrast.texture.any():
        rng = np.random.default_rng(contrast.seed)
        grain = _blurred(rng.standard_normal(seen.shape, dtype=np.float32), contrast.grain)
        seen += texture * grain * np.float32(_restoring(contrast.grain))
    return np.asarray(seen, np.float32)


def moments(composition: Composition, contrast: Contrast) -> tuple[float, float]:
    """Mean and SD of the whole image under a contrast, from the shares of its classes alone.

    Exact but for soft borders, blur and the uneven coil; the mean of Rician noise is taken as
    sqrt(A² + π/2 σ²), which is exact in air and close to it elsewhere.
    """
    noise = contrast.scanner.noise
    level = contrast.level + contrast.gain * composition.drift
    power = level**2 + (contrast.gain * composition.spread) ** 2 + contrast.texture**2
    if contrast.scanner.rician:
        level = np.sqrt(level**2 + np.pi / 2 * noise**2)
        power = power + 2 * noise**2
    else:
        power = power + noise**2
    mean = float((composition.share * level).sum())
    return mean, float(np.sqrt(max((composition.share * power).sum() - mean**2, 0)))


def _blurred(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    if sigma <= 0:
        return image
    sigmas = [0.0] * (image.ndim - 2) + [sigma, sigma]
    return np.asarray(ndimage.gaussian_filter(image, sigmas, truncate=3.0, mode="nearest"))


def _restoring(sigma: float) -> float:
    """What gives white noise that was blurred in plane its SD of 1 back."""
    if sigma <= 0:
        return 1.0
    reach = int(3.0 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return float(weights.sum() ** 2 / (weights**2).sum())
