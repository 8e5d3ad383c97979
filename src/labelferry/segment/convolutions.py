"""Random convolutions: a CT behind a shallow network of random weights (GIN).

Ouyang et al., "Causality-inspired single-source domain generalization for medical image
segmentation", IEEE TMI 2022. Unlike an intensity curve, which maps equal values to equal values, a
network with kernels also answers to texture and edges: two organs of the same Hounsfield units, as
liver and spleen often are, come out different.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from labelferry.segment.curves import Scanner

_LAYERS = 4
_HIDDEN = 2
_KERNELS = (1, 3)
_DARK_AIR = 0.8
_AIR = 0.03
_RANGE = (1.0, 99.0)
"""Percentiles within the body that become 0 and 1, as those of a real MRI do."""


@dataclass(frozen=True, eq=False)
class Convolutions:
    """A network of random weights, and how much of its answer is blended with the image."""

    weights: tuple[NDArray[np.float32], ...]
    """Kernels of each layer, (out, in, k, k)."""
    shifts: tuple[NDArray[np.float32], ...]
    """Biases of each layer, (out,)."""
    alpha: float
    """Share of the image itself, in [0, 1]; the network's answer has the rest."""
    dark_air: bool
    """Whether what was black (air) becomes the darkest of all, as in nearly all MRI."""

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Apply in plane to each slice of an image (…, y, x) in [0, 1]; same shape, any range.

        The blend has the Frobenius norm of the image.
        """
        height, width = image.shape[-2:]
        flat = torch.from_numpy(np.ascontiguousarray(image.reshape(-1, 1, height, width)))
        seen = flat
        for number, (weight, shift) in enumerate(zip(self.weights, self.shifts, strict=True)):
            reach = weight.shape[-1] // 2
            padded = functional.pad(seen, [reach] * 4, mode="replicate") if reach else seen
            seen = functional.conv2d(padded, torch.from_numpy(weight), torch.from_numpy(shift))
            if number < len(self.weights) - 1:
                seen = functional.leaky_relu(seen)
        blend = self.alpha * flat + (1 - self.alpha) * seen
        blend = blend * (flat.norm() / blend.norm().clamp_min(1e-6))
        return np.asarray(blend.numpy().reshape(image.shape))


def draw_convolutions(rng: np.random.Generator) -> Convolutions:
    """Draw a network: 4 layers, 2 hidden channels, kernels of 1 or 3 pixels, normal weights."""
    channels = (1, *[_HIDDEN] * (_LAYERS - 1), 1)
    weights, shifts = [], []
    for before, after in itertools.pairwise(channels):
        k = int(rng.choice(_KERNELS))
        weights.append(rng.standard_normal((after, before, k, k), dtype=np.float32))
        shifts.append(rng.standard_normal(after, dtype=np.float32))
    dark_air = bool(rng.random() < _DARK_AIR)
    return Convolutions(tuple(weights), tuple(shifts), float(rng.random()), dark_air)


def convolve(
    patch: NDArray[np.float32],
    limits: tuple[float, float],
    inside: NDArray[np.bool_],
    convolutions: Convolutions,
    scanner: Scanner | None = None,
) -> NDArray[np.float32]:
    """Apply to a patch (c, [z,] y, x) of a normalised image, and normalise the result anew.

    ``limits`` are the whole image's smallest and largest value; ``inside`` ([z,] y, x) is false
    where the patch leaves the image: there the result is 0. What the network makes of the rest of
    the image is not known, so that mean and SD are the patch's own.
    """
    low, high = limits
    unit = np.clip((patch - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
    shown = np.broadcast_to(inside, unit.shape)
    seen = convolutions(unit)
    air = unit <= _AIR
    tissue = seen[shown & ~air]
    if tissue.size == 0:
        return np.zeros_like(patch)
    darkest, brightest = np.percentile(tissue, _RANGE)
    seen = np.clip((seen - darkest) / max(brightest - darkest, 1e-6), 0, 1).astype(np.float32)
    if convolutions.dark_air:
        seen[air] = 0
    if scanner is not None:
        seen = scanner(seen)
    out = (seen - seen[shown].mean()) / max(float(seen[shown].std()), 1e-3)
    return np.where(shown, out, 0).astype(np.float32)
