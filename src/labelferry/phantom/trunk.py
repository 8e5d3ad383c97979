"""The trunk without its organs: skin, fat, wall, ribs, spine, muscles, bowel, chest.

Centres and radii are in mm of the subject's coordinates.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from labelferry.phantom.draws import Point, normal, uniform
from labelferry.phantom.frame import Floats, Frame, smooth_field
from labelferry.phantom.shapes import Mask, ellipsoid, superellipse, tube
from labelferry.phantom.tissues import Tissue

_DISC_EVERY = 36.0
_VERTEBRA = 28.0


@dataclass(frozen=True, eq=False)
class Trunk:
    """What the organs are placed in. All arrays have the grid's shape."""

    tissues: NDArray[np.uint8] = field(repr=False)
    """Tissue map; the spine and the organs are painted into it later."""
    body: Mask = field(repr=False)
    """Within the skin."""
    cavity: Mask = field(repr=False)
    """Within the muscular wall."""
    abdomen: Mask = field(repr=False)
    """The part of the cavity that neither lung nor heart takes."""
    wall: Floats = field(repr=False)
    """Distance from the axis of the trunk, 1 on the outer face of the wall."""
    right_dome: Floats = field(repr=False)
    """Height (mm) of the right half of the diaphragm above each voxel's x, y."""
    left_dome: Floats = field(repr=False)

    def under_dome(self, frame: Frame, gap: float) -> Mask:
        """Below the diaphragm of the voxel's own side by at least ``gap`` mm."""
        dome = np.where(frame.x > 0, self.right_dome, self.left_dome)
        return np.asarray(frame.z < dome - gap, np.bool_)


def draw_trunk(rng: np.random.Generator, frame: Frame) -> Trunk:
    """A random trunk."""
    half_width, half_depth = uniform(rng, 140, 152), uniform(rng, 96, 106)
    fat = uniform(rng, 8, 26)
    fat_front = fat * uniform(rng, 0.6, 1.0)
    thickness = uniform(rng, 8, 12)

    body = superellipse(frame, half_width, half_depth) < 1
    wall = superellipse(frame, half_width - fat, half_depth - fat_front, 2)
    lining = superellipse(
        frame, half_width - fat - thickness, half_depth - fat_front - thickness, 2
    )
    cavity = lining < 1
    tissues = np.zeros(frame.shape, np.uint8)
    tissues[body] = Tissue.FAT
    tissues[wall < 1] = Tissue.MUSCLE
    tissues[cavity] = Tissue.FAT
    tissues[_ribs(frame, wall, lining)] = Tissue.CORTICAL_BONE
    _paint_muscles(tissues, frame)
    _paint_bowel(rng, tissues, frame, cavity)
    _paint_colon(rng, tissues, frame, cavity)

    right, left = (_dome(rng, frame, side) for side in (1, -1))
    chest = _paint_chest(tissues, frame, cavity, right, left)
    return Trunk(tissues, body, cavity, cavity & ~chest, wall, right, left)


def _ribs(frame: Frame, wall: Floats, lining: Floats) -> Mask:
    """Oblique rings in the wall, from a little above the navel upwards, open in front."""
    ring = np.mod(frame.z - 0.5 * frame.y, 32) < 11
    high = frame.z > -25 - 0.2 * np.abs(frame.x)
    sides = (frame.y < 70) & (np.abs(frame.x) > 35)
    return np.asarray((wall < 1) & (lining > 0.95) & ring & high & sides, np.bool_)


def _paint_muscles(tissues: NDArray[np.uint8], frame: Frame) -> None:
    for side in (1, -1):
        back = ellipsoid(frame, (side * 36, -78, 0), (30, 18, 400))
        psoas = ellipsoid(frame, (side * 34, -52, -60), (17, 18, 75))
        tissues[back | psoas] = Tissue.MUSCLE
    for side in (1, -1):
        # the crura start a little left of the middle, where the aorta passes
        crus = [(side * 14 - 4, -30, 100), (side * 18 - 2, -44, 20), (side * 14, -48, -20)]
        tissues[tube(frame, crus, [4, 5, 4])] = Tissue.MUSCLE


def _paint_bowel(
    rng: np.random.Generator, tissues: NDArray[np.uint8], frame: Frame, cavity: Mask
) -> None:
    """Loops of small bowel below the organs, a quarter of them with gas in front."""
    for _ in range(int(rng.integers(16, 24))):
        start = (uniform(rng, -85, 85), uniform(rng, -10, 70), uniform(rng, -100, -25))
        radius = uniform(rng, 11, 19)
        stop = (
            start[0] + normal(rng, 18), start[1] + normal(rng, 10), start[2] + normal(rng, 10),
        )  # fmt: skip
        gassy = rng.random() < 0.25
        loop, ends = [start, stop], [radius, radius]
        tissues[tube(frame, loop, ends) & cavity] = Tissue.BOWEL
        if gassy:
            gas = tube(frame, loop, ends, inset=4) & cavity & (frame.y > start[1])
            tissues[gas] = Tissue.GAS


def _paint_colon(
    rng: np.random.Generator, tissues: NDArray[np.uint8], frame: Frame, cavity: Mask
) -> None:
    ascending: list[Point] = [(90, -10, -110), (92, 8, -60), (82, 5, -25)]
    transverse: list[Point] = [(80, 20, -22), (40, 68, -30), (-20, 72, -25), (-75, 40, 10)]
    descending: list[Point] = [(-92, -12, 20), (-96, -25, -30), (-94, -20, -110)]
    for path in (ascending, transverse, descending):
        radii = [uniform(rng, 14, 19)] * len(path)
        pockets = smooth_field(rng, frame.shape, (8, 6, 6), 1.0) > 0.3
        tissues[tube(frame, path, radii) & cavity] = Tissue.BOWEL
        tissues[tube(frame, path, radii, inset=5) & cavity & pockets] = Tissue.GAS


def _dome(rng: np.random.Generator, frame: Frame, side: int) -> Floats:
    """Height of one half of the diaphragm: a paraboloid; the right one stands higher."""
    top = uniform(rng, 72, 84) if side > 0 else uniform(rng, 66, 80)
    across = ((frame.x - side * 65) / 85) ** 2 * 38
    deep = ((frame.y - 5) / 80) ** 2 * 40
    return np.asarray(top - across - deep, np.float32)


def _paint_chest(
    tissues: NDArray[np.uint8], frame: Frame, cavity: Mask, right: Floats, left: Floats
) -> Mask:
    """Lungs, heart and diaphragm. Returns where lungs and heart are."""
    height = frame.z - np.where(frame.x > 0, right, left)
    lateral = cavity & (np.abs(frame.x) > 22)
    lung = lateral & (height > 0)
    heart = ellipsoid(frame, (-22, 30, 118), (50, 42, 34)) & cavity
    tissues[lung] = Tissue.LUNG
    tissues[heart] = Tissue.MUSCLE
    tissues[lateral & (np.abs(height) < 4) & ~heart] = Tissue.MUSCLE
    return np.asarray(lung | heart, np.bool_)


def paint_spine(
    tissues: NDArray[np.uint8], labels: NDArray[np.uint8], trunk: Trunk, frame: Frame
) -> None:
    """Vertebrae, discs, arches and the canal. Organs keep their voxels, except in the canal."""
    free = labels == 0
    level = np.mod(frame.z, _DISC_EVERY)
    column = ellipsoid(frame, (0, -62, 0), (22, 18, 500))
    marrow = ellipsoid(frame, (0, -62, 0), (19, 15, 500))
    canal = ellipsoid(frame, (0, -84, 0), (9, 8, 500))
    cord = ellipsoid(frame, (0, -84, 0), (4.5, 4, 500))

    arch = tube(frame, [(0, -88, -300), (0, -88, 300)], [13, 13])
    spinous = (np.abs(frame.x) < 4) & (frame.y < -84) & (frame.y > -106) & (level < 22)
    tissues[(arch | spinous) & free & (trunk.wall < 1.02)] = Tissue.CORTICAL_BONE
    vertebra = column & free & (level < _VERTEBRA)
    tissues[column & free] = Tissue.DISC
    tissues[vertebra] = Tissue.CORTICAL_BONE
    tissues[vertebra & marrow] = Tissue.MARROW
    labels[canal] = 0
    tissues[canal] = Tissue.FLUID
    tissues[cord] = Tissue.MUSCLE
