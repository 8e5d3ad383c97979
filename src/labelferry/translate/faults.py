"""Fakes with known faults, to try the audit on: phantom CT under a random contrast, no training."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import PchipInterpolator

from labelferry.anatomy.config import AnatomyConfig
from labelferry.anatomy.prepare import prepare, prepare_labels
from labelferry.anatomy.space import anatomy_space
from labelferry.phantom.anatomy import draw_subject
from labelferry.phantom.frame import PhantomGrid
from labelferry.phantom.render import render_ct
from labelferry.translate.explain import Floats, Scene, Spacing

Space = Literal["plain", "anatomy"]
Fault = Literal["none", "deformed", "erased"]

BUMP_MM = 30.0
"""Radius of the sphere that a local deformation stays within."""
ERASED_ML = 5.0
"""Least volume of an organ that is erased."""
_CURVE_POINTS = 6
_NOISE = {"plain": 0.03, "anatomy": 0.05}


def trial_scene(
    seed: tuple[int, ...], space: Space, fault: Fault = "none", mm: float = 5.0
) -> Scene:
    """A phantom CT, and a fake of it in which a fault is the only change of anatomy.

    ``plain``: a random smooth intensity curve, not monotonic, and noise. ``anatomy``: the anatomy
    space of the CT with a random exponent, and noise. ``deformed`` shifts a random point of a
    random organ by ``mm`` in a random direction, smoothly to nothing at ``BUMP_MM``; ``erased``
    fills an organ of ``ERASED_ML`` and more with the texture round it.
    """
    rng = np.random.default_rng(seed)
    subject = draw_subject(rng, PhantomGrid())
    rendering = render_ct(rng, subject)
    config = AnatomyConfig()
    ready = prepare(rendering.image, "CT", config)
    labels = prepare_labels(rendering.labels, ready).array
    scene = Scene(
        ready.image.array,
        ready.anatomy.array,
        ready.image.array,
        ready.body.array,
        labels,
        ready.image.grid.spacing,
        space == "anatomy",
    )
    fake = scene.fake
    if space == "plain":
        points = rng.random(_CURVE_POINTS)
        curve = PchipInterpolator(np.linspace(0, 1, _CURVE_POINTS), points)
        fake = np.asarray(curve(fake), np.float32)
        fake = (fake - points.min()) / np.float32(np.ptp(points))
    scene = replace(scene, fake=fake)
    if fault == "deformed":
        fake = deformed(scene, rng, mm)
    elif fault == "erased":
        fake = erased(scene, rng)
    if space == "anatomy":
        fake = anatomy_space(fake, scene.spacing, scene.body, config) ** rng.uniform(0.6, 1.6)
    noise = _NOISE[space] * rng.standard_normal(fake.shape)
    return replace(scene, fake=np.asarray(np.clip(fake + noise, 0, 1), np.float32))


def deformed(scene: Scene, rng: np.random.Generator, mm: float) -> Floats:
    """The fake, smoothly shifted by ``mm`` at a random voxel of a random organ."""
    organ = rng.choice(np.unique(scene.labels[scene.labels > 0]))
    places = np.argwhere(scene.labels == organ)
    centre = places[int(rng.integers(len(places)))]
    direction = rng.standard_normal(3)
    direction /= np.linalg.norm(direction)
    index = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in scene.fake.shape), indexing="ij")
    away = [(i - c) * d for i, c, d in zip(index, centre, scene.spacing, strict=True)]
    reach = np.minimum(np.sqrt(sum(a**2 for a in away)) / BUMP_MM, 1)
    shift = mm * (1 - reach**2) ** 2
    where = [
        i + shift * np.float32(part / d)
        for i, part, d in zip(index, direction, scene.spacing, strict=True)
    ]
    moved = ndimage.map_coordinates(scene.fake, where, order=1, mode="nearest")
    return np.asarray(moved, np.float32)


def erased(scene: Scene, rng: np.random.Generator) -> Floats:
    """The fake without one organ, filled with the values and the texture of its surroundings."""
    ml = np.bincount(scene.labels.ravel()) * float(np.prod(scene.spacing)) / 1000
    large = [organ for organ in range(1, len(ml)) if ml[organ] >= ERASED_ML]
    inside = ndimage.binary_dilation(
        scene.labels == rng.choice(large), np.ones((3, 3, 1), np.bool_)
    )
    shell = ndimage.binary_dilation(inside, iterations=2) & ~inside
    filled = scene.fake.copy()
    around = _spread(scene.fake, shell, scene.spacing)
    grain = scene.fake - ndimage.gaussian_filter(scene.fake, (1, 1, 0.5))
    sd = 1.4826 * float(np.median(np.abs(grain[shell])))
    filled[inside] = around[inside] + sd * rng.standard_normal(int(inside.sum()))
    return np.asarray(np.clip(filled, 0, 1), np.float32)


def _spread(image: Floats, shell: NDArray[np.bool_], spacing: Spacing) -> Floats:
    """Everywhere the value of the nearest voxel of the shell, smoothed."""
    nearest = ndimage.distance_transform_edt(
        ~shell, sampling=spacing, return_distances=False, return_indices=True
    )
    spread = ndimage.gaussian_filter(image[tuple(nearest)], (1.5, 1.5, 0.8))
    return np.asarray(spread, np.float32)


def auc(clean: NDArray[np.float64], faulty: NDArray[np.float64]) -> float:
    """Area under the ROC curve: how often a faulty fake scores above a clean one; ties half."""
    higher = (faulty[:, None] > clean[None, :]).mean()
    same = (faulty[:, None] == clean[None, :]).mean()
    return float(higher + same / 2)
