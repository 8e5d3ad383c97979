"""The thirteen organs as random analytic shapes. Numbers are mm in the subject's coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from labelferry.phantom.draws import Point, jitter, moved, normal, size, uniform
from labelferry.phantom.frame import Frame
from labelferry.phantom.shapes import Mask, ellipsoid, tube
from labelferry.phantom.tissues import Tissue
from labelferry.phantom.trunk import Trunk

KIDNEYS = (Tissue.RIGHT_KIDNEY, Tissue.LEFT_KIDNEY)


@dataclass(frozen=True, eq=False)
class OrganShapes:
    """Masks of the grid's shape; they may overlap, and an organ may be absent."""

    masks: Mapping[Tissue, Mask] = field(repr=False)
    """Each organ, clipped to where it can be."""
    sinuses: Mapping[Tissue, Mask] = field(repr=False)
    """Fat and urine in the middle of each kidney."""
    lumen: Mask = field(repr=False)
    """Inside of the stomach's wall."""
    absent: frozenset[Tissue]
    """Organs that this subject lacks."""


def draw_organs(rng: np.random.Generator, frame: Frame, trunk: Trunk) -> OrganShapes:
    """Random organs in a trunk."""
    kidneys, sinuses = {}, {}
    liver = _liver(rng, frame, trunk)
    spleen = _spleen(rng, frame, trunk)
    for organ in KIDNEYS:
        kidneys[organ], sinuses[organ] = _kidney(rng, frame, organ)
    stomach_at = jitter(rng, 5)
    stomach, lumen = _stomach(rng, frame, trunk, stomach_at)
    within = {
        Tissue.LIVER: liver,
        Tissue.SPLEEN: spleen,
        **kidneys,
        Tissue.STOMACH: stomach,
        Tissue.DUODENUM: _duodenum(rng, frame, stomach_at),
        Tissue.PANCREAS: _pancreas(rng, frame),
        Tissue.RIGHT_ADRENAL: _adrenal(rng, frame, (33, -36, 28), side=1),
        Tissue.LEFT_ADRENAL: _adrenal(rng, frame, (-34, -36, 24), side=-1),
        Tissue.GALLBLADDER: _gallbladder(rng, frame),
    }
    through = {
        Tissue.AORTA: _aorta(rng, frame),
        Tissue.VENA_CAVA: _vena_cava(rng, frame),
        Tissue.OESOPHAGUS: _oesophagus(rng, frame),
    }
    masks = {organ: mask & trunk.cavity for organ, mask in within.items()}
    masks |= {organ: mask & trunk.body for organ, mask in through.items()}
    return OrganShapes(masks, sinuses, lumen, _absent(rng))


def _absent(rng: np.random.Generator) -> frozenset[Tissue]:
    """Gallbladder in 12 %, one kidney in 5 %, spleen in 4 % of the subjects."""
    gone = set()
    gallbladder, kidney, spleen = rng.random(3)
    which = KIDNEYS[int(rng.integers(2))]
    if gallbladder < 0.12:
        gone.add(Tissue.GALLBLADDER)
    if kidney < 0.05:
        gone.add(which)
    if spleen < 0.04:
        gone.add(Tissue.SPLEEN)
    return frozenset(gone)


def _liver(rng: np.random.Generator, frame: Frame, trunk: Trunk) -> Mask:
    """Two lobes, hollowed from below by the neighbours, clipped by the diaphragm."""
    by, s = jitter(rng, 4), size(rng)
    height, reach = (64 + normal(rng, 6)) * s, uniform(rng, 55, 85) * s
    right = ellipsoid(frame, moved((62, 0, 32), by), (72 * s, 78 * s, height), (0, 0, -12))
    left = ellipsoid(frame, moved((0, 42, 52), by), (reach, 32 * s, 26 * s), (0, 0, 10))
    hollow = ellipsoid(frame, moved((15, -25, -20), by), (58, 62, 60))
    clear = trunk.abdomen & trunk.under_dome(frame, 3)
    return np.asarray((right | left) & ~hollow & clear, np.bool_)


def _spleen(rng: np.random.Generator, frame: Frame, trunk: Trunk) -> Mask:
    by, s = jitter(rng, 5), size(rng)
    radii = (27 * s, 48 * s, 46 * s * uniform(rng, 0.85, 1.3))
    whole = ellipsoid(frame, moved((-88, -38, 42), by), radii, (-28, -15, -10))
    hilum = ellipsoid(frame, (-58, -12, 42), (26, 30, 48))
    under = frame.z < trunk.left_dome - 3
    return np.asarray(whole & ~hilum & trunk.abdomen & under, np.bool_)


def _kidney(rng: np.random.Generator, frame: Frame, organ: Tissue) -> tuple[Mask, Mask]:
    """A kidney and its sinus; the right one lies lower."""
    side, x, z = (1, 58, -25) if organ is Tissue.RIGHT_KIDNEY else (-1, -60, -12)
    by, s = jitter(rng, 4), size(rng)
    whole = ellipsoid(
        frame, moved((x, -47, z), by), (26 * s, 23 * s, 50 * s), (-side * 28, -12, side * 10)
    )
    sinus = ellipsoid(
        frame,
        moved((x - side * 14, -42, z), by),
        (13 * s, 9 * s, 20 * s),
        (-side * 28, 0, side * 10),
    )
    return whole, sinus


def _stomach(rng: np.random.Generator, frame: Frame, trunk: Trunk, by: Point) -> tuple[Mask, Mask]:
    """Fundus to pylorus, and the lumen within a wall of 5 mm."""
    s = size(rng) * uniform(rng, 0.85, 1.15)
    path: list[Point] = [
        (-55, -18, 72), (-66, 0, 55), (-64, 28, 32), (-45, 52, 10), (-15, 56, 2), (18, 44, 6),
    ]  # fmt: skip
    points = [moved(p, by) for p in path]
    radii = [26 * s, 30 * s, 27 * s, 22 * s, 17 * s, 10]
    clear = trunk.abdomen & (frame.z < trunk.left_dome - 2)
    return tube(frame, points, radii) & clear, tube(frame, points, radii, inset=5)


def _duodenum(rng: np.random.Generator, frame: Frame, stomach_at: Point) -> Mask:
    """The C from the pylorus round the head of the pancreas; the bulb follows the stomach."""
    rest = jitter(rng, 3)
    radius = uniform(rng, 10, 12.5)
    path: list[Point] = [
        (44, 28, 6), (52, -2, -8), (46, -16, -48), (8, -16, -60), (-26, -12, -48), (-36, 6, -28),
    ]  # fmt: skip
    points = [moved((20, 42, 5), stomach_at), *(moved(p, rest) for p in path)]
    return tube(frame, points, [radius] * len(points))


def _pancreas(rng: np.random.Generator, frame: Frame) -> Mask:
    by, s = jitter(rng, 3), size(rng)
    path: list[Point] = [
        (33, 2, -24), (26, 8, -6), (4, 14, 8), (-24, 6, 16), (-50, -14, 24), (-72, -24, 32),
    ]  # fmt: skip
    radii = [r * s for r in (15, 14, 9, 10, 10, 9)]
    return tube(frame, [moved(p, by) for p in path], radii)


def _aorta(rng: np.random.Generator, frame: Frame) -> Mask:
    s, dx = uniform(rng, 0.85, 1.2), normal(rng, 3)
    path: list[Point] = [
        (dx - 14, -40, 120), (dx - 10, -38, 60), (dx - 8, -30, 10), (dx - 8, -31, -40),
        (-6, -32, -130),
    ]  # fmt: skip
    return tube(frame, path, [r * s for r in (11, 11, 10, 9.5, 9)])


def _vena_cava(rng: np.random.Generator, frame: Frame) -> Mask:
    """Flattened from front to back; it ends in the heart."""
    s, dx = uniform(rng, 0.85, 1.2), normal(rng, 3)
    path: list[Point] = [
        (20 + dx, -20, 110), (22 + dx, -22, 70), (20 + dx, -27, 20), (18 + dx, -30, -40),
        (16, -31, -130),
    ]  # fmt: skip
    flat = replace(frame, y=np.asarray((frame.y + 28) * 1.2 - 28, np.float32))
    whole = tube(flat, path, [r * s for r in (12, 12, 11, 11, 10)])
    return np.asarray(whole & (frame.z < 94), np.bool_)


def _oesophagus(rng: np.random.Generator, frame: Frame) -> Mask:
    """From the chest to the cardia of the stomach."""
    path: list[Point] = [
        (-4 - normal(rng, 3), -22, 130), (-10, -18, 88), (-22, -12, 74), (-36, -10, 66),
    ]  # fmt: skip
    return tube(frame, path, [8.0] * 4)


def _adrenal(rng: np.random.Generator, frame: Frame, centre: Point, side: int) -> Mask:
    """Three limbs that meet: an upside-down Y."""
    at = moved(centre, jitter(rng, 2.5))
    radius = uniform(rng, 3.6, 4.6)
    hub = moved(at, (0, 8, 4))
    medial = tube(frame, [hub, moved(at, (side * 2, -10, -6))], [radius, radius])
    lateral = tube(frame, [hub, moved(at, (side * 11, -4, -12))], [radius, radius * 0.9])
    ridge = tube(frame, [hub, moved(at, (-side * 1, 0, 12))], [radius, radius])
    return medial | lateral | ridge


def _gallbladder(rng: np.random.Generator, frame: Frame) -> Mask:
    by, s = jitter(rng, 5), uniform(rng, 0.75, 1.2)
    return ellipsoid(frame, moved((48, 52, -2), by), (13 * s, 15 * s, 25 * s), (0, -28, -15))
