"""Draw a subject as a scanner would show it: CT in three phases, MRI as T1, T2 and DWI."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from labelferry.phantom.anatomy import Subject
from labelferry.phantom.contrast import (
    CT_PHASES,
    CtPhase,
    MrKind,
    MrSequence,
    ct_table,
    mr_table,
)
from labelferry.phantom.draws import Point, normal, uniform
from labelferry.phantom.frame import Floats, PhantomGrid, smooth_field
from labelferry.phantom.tissues import ORGANS, Tissue
from labelferry.volume import Segmentation, Volume

_PADDING_HU = -1024
_CT_ROUGH = (Tissue.LIVER, Tissue.SPLEEN, Tissue.BOWEL, Tissue.STOMACH_CONTENT, Tissue.MUSCLE)
_MR_ROUGH = (Tissue.BOWEL, Tissue.STOMACH_CONTENT, Tissue.MUSCLE)
_TEXTURE_MM: Point = (3.84, 3.84, 3.0)


@dataclass(frozen=True, eq=False)
class Rendering:
    """One image of a subject."""

    image: Volume = field(repr=False)
    """int16; Hounsfield units, or the MRI's arbitrary units."""
    labels: Segmentation = field(repr=False)
    """Where the organs are in this image: distortion moves them along."""
    kind: str
    """Phase of the CT or kind of the MRI sequence."""


@dataclass(frozen=True)
class _Scanner:
    """What differs between the sequences besides the contrast."""

    blur_mm: Point
    bias_sd: float
    noise_sd: float
    distortion_mm: float


_SCANNERS: dict[MrSequence, _Scanner] = {
    "T1": _Scanner((1.6, 1.6, 2.0), 0.16, 0.022, 0.0),
    "T2": _Scanner((1.6, 1.6, 2.0), 0.20, 0.030, 0.0),
    # echo-planar: low resolution, stretched and squeezed from front to back
    "DWI": _Scanner((3.2, 3.2, 2.5), 0.22, 0.050, 4.5),
}


def render_ct(rng: np.random.Generator, subject: Subject) -> Rendering:
    """A CT (Hounsfield units) in a random phase: texture, blur, noise, circular field of view."""
    phase: CtPhase = ("nc", "art", "pv", "pv")[int(rng.integers(4))]
    table = _ct_values(rng, phase)
    raster, tissues = subject.raster, subject.tissues
    depth = np.full(len(Tissue), 4, np.float32)
    depth[list(_CT_ROUGH)] = 9
    image = table[tissues] + _texture(rng, raster) * depth[tissues]
    image = _blurred(image, raster, (1.44, 1.44, 1.75))
    noise = _normalised(_blurred(_white(rng, raster), raster, (1.92, 1.92, 0.0)))
    image += noise * np.float32(uniform(rng, 8, 22))
    image[_outside_circle(raster, uniform(rng, 172, 190))] = _PADDING_HU
    volume = Volume(_integers(image, _PADDING_HU, 1500), subject.grid)
    return Rendering(volume, subject.labels, phase)


def render_mr(
    rng: np.random.Generator, subject: Subject, sequence: MrSequence, *, distorted: bool = True
) -> Rendering:
    """An MRI of a random kind of ``sequence``, in arbitrary units.

    Texture, partial volume, distortion (DWI; not with ``distorted`` false), bias field, Rician
    noise and a random gain.
    """
    scanner = _SCANNERS[sequence]
    kind, table = _mr_values(rng, sequence)
    raster, tissues = subject.raster, subject.tissues
    depth = np.full(len(Tissue), 0.06, np.float32)
    depth[list(_MR_ROUGH)] = 0.14
    image = table[tissues] * (1 + _texture(rng, raster) * depth[tissues])
    labels = subject.labels
    if scanner.distortion_mm and distorted:
        shift = smooth_field(rng, raster.shape, (6, 5, 5), scanner.distortion_mm)
        image = _shifted(image, shift / raster.spacing[1], order=1)
        labels = labels.with_array(_shifted(labels.array, shift / raster.spacing[1], order=0))
    image = _blurred(image, raster, scanner.blur_mm)
    image *= np.exp(smooth_field(rng, raster.shape, (4, 4, 3), scanner.bias_sd))
    sd = np.float32(scanner.noise_sd * uniform(rng, 0.7, 1.4))
    # the magnitude of a complex signal with normal noise in both parts: Rician
    image = np.hypot(image + sd * _white(rng, raster), sd * _white(rng, raster))
    image *= np.float32(uniform(rng, 200, 1500))
    return Rendering(Volume(_integers(image, 0, 32767), subject.grid), labels, kind)


def _ct_values(rng: np.random.Generator, phase: CtPhase) -> Floats:
    """The phase's table, partly on its way to another phase, with variation between subjects."""
    table = ct_table(phase)
    other = CT_PHASES[2] if phase != "pv" else CT_PHASES[1]
    table += np.float32(uniform(rng, -0.15, 0.35)) * (ct_table(other) - table)
    table[list(ORGANS)] += rng.normal(0, 8, len(ORGANS)).astype(np.float32)
    table[Tissue.BOWEL] += normal(rng, 25)
    drink = uniform(rng, 0, 150)
    if rng.random() < 1 / 3:  # positive oral contrast
        table[Tissue.STOMACH_CONTENT] += drink
    table[Tissue.LEFT_KIDNEY] = table[Tissue.RIGHT_KIDNEY]
    return table


def _mr_values(rng: np.random.Generator, sequence: MrSequence) -> tuple[MrKind, Floats]:
    """A kind of the sequence and its table, with variation between subjects."""
    chance = rng.random()
    if sequence == "T1":
        kind: MrKind = "T1 fat-saturated" if chance < 2 / 3 else "T1 in-phase"
    else:
        kind = sequence
    table = mr_table(kind)
    air = table[Tissue.AIR]
    if sequence == "T2" and chance < 0.3:  # with fat saturation
        table[Tissue.FAT] *= 0.35
    table *= np.exp(rng.normal(0, 0.10, len(Tissue))).astype(np.float32)
    table[Tissue.LEFT_KIDNEY] = table[Tissue.RIGHT_KIDNEY]
    table[Tissue.FAT] *= uniform(rng, 0.8, 1.2)
    table[Tissue.AIR] = air
    return kind, table


def _white(rng: np.random.Generator, raster: PhantomGrid) -> Floats:
    return rng.standard_normal(raster.shape, dtype=np.float32)


def _normalised(image: Floats) -> Floats:
    return np.asarray(image / image.std(), np.float32)


def _blurred(image: Floats, raster: PhantomGrid, millimetres: Point) -> Floats:
    return np.asarray(
        ndimage.gaussian_filter(image, raster.sigmas(millimetres), output=np.float32), np.float32
    )


def _texture(rng: np.random.Generator, raster: PhantomGrid) -> Floats:
    """Smooth random grain of deviation 1."""
    return _normalised(_blurred(_white(rng, raster), raster, _TEXTURE_MM))


def _shifted(array: NDArray[np.generic], shift: Floats, order: int) -> NDArray[np.generic]:
    """Each voxel's value comes from ``shift`` voxels further along y."""
    axes: Sequence[Floats] = np.meshgrid(
        *(np.arange(n, dtype=np.float32) for n in array.shape), indexing="ij"
    )
    where = [axes[0], axes[1] + shift, axes[2]]
    return np.asarray(ndimage.map_coordinates(array, where, order=order, mode="nearest"))


def _outside_circle(raster: PhantomGrid, radius: float) -> NDArray[np.bool_]:
    """Where an axial slice (x, y) lies outside the scanner's field of view; (x, y)."""
    x, y = (
        (np.arange(n) - (n - 1) / 2) * d
        for n, d in zip(raster.shape[:2], raster.spacing[:2], strict=True)
    )
    return np.asarray(np.hypot(x[:, None], y[None, :]) > radius, np.bool_)


def _integers(image: Floats, low: float, high: float) -> NDArray[np.int16]:
    """As scanners store it."""
    return np.asarray(np.rint(np.clip(image, low, high)), np.int16)
