"""How alike CT and MRI of one anatomy are in each anatomy space: correlation within the body.

``python -m benchmarks.spaces``: phantom patients, each as CT, T1, T2 and DWI on one grid (3.2 x 3.2
x 5 mm). DWI is distorted as ever, so its anatomy is only nearly the same. ``--bias SD`` lays a
further coil field over the MRI (SD of the log gain, nodes about 100 mm apart). Besides the
product's own spaces stand those that were tried and not taken.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from labelferry.anatomy.body import body_mask
from labelferry.anatomy.config import AnatomyConfig
from labelferry.anatomy.intensity import scale_intensity
from labelferry.anatomy.space import anatomy_space, gradient_magnitude
from labelferry.cases import Modality
from labelferry.phantom.anatomy import draw_subject
from labelferry.phantom.contrast import MR_SEQUENCES
from labelferry.phantom.frame import PhantomGrid, smooth_field
from labelferry.phantom.render import render_ct, render_mr
from labelferry.phantom.tissues import Tissue

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Space = Callable[[Floats, tuple[float, float, float], Mask], Floats]

NAMES = ("CT", *MR_SEQUENCES)
PAIRS = tuple(itertools.combinations(NAMES, 2))
PLAIN = AnatomyConfig()


def product(**values: object) -> Space:
    config = PLAIN.model_copy(update=values)
    return lambda image, spacing, body: anatomy_space(image, spacing, body, config)


def smoothed(image: Floats, spacing: tuple[float, float, float]) -> Floats:
    sigma = [mm / d for mm, d in zip(PLAIN.smoothing_mm, spacing, strict=True)]
    return np.asarray(ndimage.gaussian_filter(image, sigma, mode="nearest"), np.float32)


def normalised_gradient(image: Floats, spacing: tuple[float, float, float], body: Mask) -> Floats:
    """Haber and Modersitzki 2006, with one edge parameter: the median gradient."""
    found = gradient_magnitude(smoothed(image, spacing), spacing)
    return np.asarray(found / np.hypot(found, np.median(found[body])), np.float32)


def coherence(image: Floats, spacing: tuple[float, float, float], body: Mask) -> Floats:
    """Structure tensor over 3 mm: how much one direction leads, (λ1 - λ2) / trace."""
    smooth = smoothed(image, spacing)
    slopes = [
        ndimage.correlate1d(smooth, [-0.5, 0, 0.5], axis, mode="nearest") / spacing[axis]
        for axis in range(3)
    ]
    tensor = np.zeros((*image.shape, 3, 3), np.float32)
    sigma = [3.0 / d for d in spacing]
    for i, j in itertools.combinations_with_replacement(range(3), 2):
        part = ndimage.gaussian_filter(slopes[i] * slopes[j], sigma, mode="nearest")
        tensor[..., i, j] = tensor[..., j, i] = part
    values = np.linalg.eigvalsh(tensor)
    whole = values.sum(-1)
    found = (values[..., 2] - values[..., 1]) / (whole + 0.1 * np.median(whole[body]))
    return np.asarray(found, np.float32)


def mind(image: Floats, spacing: tuple[float, float, float], body: Mask) -> Floats:
    """Heinrich 2012: mean dissimilarity of a patch (Gaussian of 1 voxel) to its six neighbours."""
    steps = [np.roll((1 if n % 2 else -1, 0, 0), n // 2) for n in range(6)]
    apart = np.stack(
        [
            ndimage.gaussian_filter(
                (image - ndimage.shift(image, step, order=0, mode="nearest")) ** 2, 1.0
            )
            for step in steps
        ]
    )
    usual = apart.mean(0)
    middle = usual[body].mean()
    alike = np.exp(-apart / np.clip(usual, 1e-3 * middle, 1e3 * middle))
    return np.asarray(1 - alike.mean(0) / alike.max(0), np.float32)


def phase_congruency(image: Floats, spacing: tuple[float, float, float], body: Mask) -> Floats:
    """Kovesi 1999, monogenic: log-Gabor filters of 10, 20 and 40 mm and their Riesz transform."""
    size = [fft.next_fast_len(n + 16) for n in image.shape]
    padded = np.pad(
        image, [(0, m - n) for m, n in zip(size, image.shape, strict=True)], mode="reflect"
    )
    spectrum = fft.fftn(padded)
    lines = [fft.fftfreq(n, d).astype(np.float32) for n, d in zip(size, spacing, strict=True)]
    waves = np.meshgrid(*lines, indexing="ij")
    radius = np.sqrt(sum(np.square(wave) for wave in waves))
    radius[0, 0, 0] = 1
    part = tuple(slice(n) for n in image.shape)
    total, energy = np.zeros((4, *image.shape), np.float32), np.zeros(image.shape, np.float32)
    for mm in (10, 20, 40):
        gabor = np.exp(-(np.log(radius * mm) ** 2) / (2 * np.log(0.55) ** 2))
        gabor[0, 0, 0] = 0
        four = [gabor, *(gabor * 1j * wave / radius for wave in waves)]
        found = np.stack([fft.ifftn(spectrum * each).real[part] for each in four])
        total += found
        energy += np.sqrt((found**2).sum(0))
    aligned = np.sqrt((total**2).sum(0))
    return np.asarray(aligned / (energy + np.median(energy[body])), np.float32)


SPACES: dict[str, Space] = {
    "image itself": product(sobel="none"),
    "Sobel 3-D, as the paper": product(smoothing_mm=(0.0, 0.0, 0.0), gradient_gamma=1.0),
    "Sobel 3-D, default": product(),
    "Sobel 3-D, local": product(gradient_scale="local"),
    "Sobel 2-D, default": product(sobel="2d"),
    "Sobel 2-D, local": product(sobel="2d", gradient_scale="local"),
    "normalised gradient": normalised_gradient,
    "coherence": coherence,
    "MIND": mind,
    "phase congruency": phase_congruency,
}


def patients(count: int, bias: float) -> Iterator[tuple[dict[str, tuple[Floats, Mask]], Mask]]:
    """Plain images with the body that each shows, and the true body within CT's field of view."""
    for number in range(count):
        subject = draw_subject(np.random.default_rng((1, number)), PhantomGrid())
        images = {}
        body = subject.tissues != Tissue.AIR
        for place, name in enumerate(NAMES):
            rng = np.random.default_rng((1, number, place))
            kind: Modality = "CT" if name == "CT" else "MR"
            if name == "CT":
                array = render_ct(rng, subject).image.array.astype(np.float32)
                body &= ndimage.binary_erosion(array > array.min(), np.ones((3, 3, 1)))
            else:
                array = render_mr(rng, subject, name).image.array.astype(np.float32)
                array = array * np.exp(smooth_field(rng, array.shape, (3, 3, 2), bias))
            own = body_mask(array, subject.grid.spacing, kind)
            images[name] = scale_intensity(array, own, kind, PLAIN), own
        yield images, np.stack([ndimage.binary_fill_holes(b) for b in body.transpose(2, 0, 1)], -1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--bias", type=float, default=0.0)
    given = parser.parse_args()
    found = {name: np.zeros((given.count, len(PAIRS))) for name in SPACES}
    seconds = dict.fromkeys(SPACES, 0.0)
    for number, (images, body) in enumerate(patients(given.count, given.bias)):
        for name, space in SPACES.items():
            start = time.process_time()
            seen = {
                each: space(image, PhantomGrid().spacing, own)
                for each, (image, own) in images.items()
            }
            seconds[name] += time.process_time() - start
            found[name][number] = [
                np.corrcoef(seen[a][body], seen[b][body])[0, 1] for a, b in PAIRS
            ]
    heads = [f"{a}–{b}" for a, b in PAIRS]
    print(f"{given.count} phantom patients, further bias {given.bias:g}")
    print("| space | " + " | ".join(heads) + " | mean | CPU s |")
    print("|---" * (len(PAIRS) + 3) + "|")
    for name, values in found.items():
        cells = [f"{v:.2f}" for v in values.mean(0)] + [f"{values.mean():.3f}"]
        each = seconds[name] / (given.count * len(NAMES))
        print(f"| {name} | " + " | ".join(cells) + f" | {each:.3f} |")


if __name__ == "__main__":
    main()
