"""A small analytic body: the same anatomy in any pose, contrast and grid."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from labelferry.match.case import TargetCase
from labelferry.organs import Organ, OrganSet
from labelferry.volume import Grid, Segmentation, Volume

ORGANS = OrganSet(
    (
        Organ(1, "liver"),
        Organ(2, "right kidney", pair=3),
        Organ(3, "left kidney", pair=2),
        Organ(4, "aorta"),
    )
)
PARTS = {  # centre and radii, mm
    1: ((55, 15, 20), (42, 45, 38)),
    2: ((48, -35, -35), (20, 18, 28)),
    3: ((-50, -35, -25), (20, 18, 28)),
    4: ((-6, -20, 0), (9, 9, 55)),
}
CONTRASTS = {"T1": (0.3, 0.7, 0.9, 0.9, 0.5), "T2": (0.75, 0.3, 0.95, 0.95, 0.1)}
SPACING = (5.0, 5.0, 6.0)
SHAPE = (58, 44, 34)


def grid(origin=(0.0, 0.0, 0.0), spacing=SPACING, shape=SHAPE, linear=None) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = np.diag(spacing) if linear is None else linear
    middle = affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    affine[:3, 3] = np.array(origin) - middle
    return Grid(shape, affine)


def case(
    name: str,
    contrast: str = "T1",
    pose=None,
    on: Grid | None = None,
    patient: str | None = None,
    seed: int = 0,
) -> TargetCase:
    """``pose`` maps this case's world to the anatomy's own millimetres (default: the same)."""
    on = grid() if on is None else on
    pose = np.eye(4) if pose is None else pose
    index = np.stack(np.meshgrid(*[np.arange(n) for n in on.shape], indexing="ij"), axis=-1)
    place = on.to_world(index.astype(float)) @ pose[:3, :3].T + pose[:3, 3]
    body = _inside(place, (0, 0, 0), (130, 95, 88))
    labels = np.zeros(on.shape, np.uint8)
    for organ, (centre, radii) in PARTS.items():
        labels[_inside(place, centre, radii)] = organ
    labels[~body] = 0
    levels = np.array(CONTRASTS[contrast], np.float32)
    image = np.where(body, levels[labels], 0).astype(np.float32)
    spine = _inside(place, (0, -65, 0), (18, 18, 200)) & body
    image[spine] = 0.15
    image = ndimage.gaussian_filter(image, 0.6)
    noise = np.random.default_rng(seed).normal(0, 0.02, on.shape)
    image = np.clip(image + noise * body, 0, 1).astype(np.float32)
    edges = ndimage.gaussian_gradient_magnitude(image, 0.8)
    anatomy = np.sqrt(np.clip(edges / np.percentile(edges[body], 99), 0, 1)).astype(np.float32)
    return TargetCase(
        id=name,
        patient=patient or name,
        domain=contrast,
        image=Volume(image, on),
        anatomy=Volume(anatomy, on),
        body=Volume(body, on),
        labels=Segmentation(labels, on),
    )


def pose(degrees=(0.0, 0.0, 0.0), scale=(1.0, 1.0, 1.0), shift=(0.0, 0.0, 0.0)) -> np.ndarray:
    matrix = np.eye(4)
    for axis, angle in enumerate(np.radians(degrees)):
        turn = np.eye(3)
        a, b = [i for i in range(3) if i != axis]
        turn[[a, a, b, b], [a, b, a, b]] = (
            np.cos(angle),
            -np.sin(angle),
            np.sin(angle),
            np.cos(angle),
        )
        matrix[:3, :3] = turn @ matrix[:3, :3]
    matrix[:3, :3] = matrix[:3, :3] @ np.diag(scale)
    matrix[:3, 3] = shift
    return matrix


def dice(a: np.ndarray, b: np.ndarray) -> float:
    both = [
        2 * np.sum((a == k) & (b == k)) / max(1, np.sum(a == k) + np.sum(b == k)) for k in PARTS
    ]
    return float(np.mean(both))


def _inside(place, centre, radii) -> np.ndarray:
    return (((place - np.array(centre)) / np.array(radii)) ** 2).sum(axis=-1) < 1
