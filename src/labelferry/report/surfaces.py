"""Organs as shaded surfaces, seen from the front and from the back (the paper's Figure 3).

Marching cubes gives each organ's surface; a small rasteriser with a depth buffer draws it. No
window, no graphics card, and the same picture on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from labelferry.report.colours import RGB
from labelferry.report.overlay import font
from labelferry.volume import Segmentation, bounding_box, canonical

Floats = NDArray[np.float32]
View = Literal["front", "back"]
VIEWS: tuple[View, ...] = ("front", "back")

SAMPLES = 90
"""Voxels along the longest side of the organs when their surfaces are made."""
SMOOTHING = 0.75
"""Standard deviation of the smoothing before that, in voxels of the label map: no stairs between
slices."""
SUPERSAMPLING = 2
_LIGHTS = (((-0.45, 0.55, 0.70), 0.72), ((0.75, -0.10, 0.65), 0.22))
"""Directions (right, up, towards the reader) and strengths; the rest comes from all sides."""
_AMBIENT = 0.36
_GLOSS = 0.16
_CONTOUR_MM = 9.0
"""A step in depth that is drawn as a contour."""
_INK = (60, 66, 72)


@dataclass(frozen=True)
class Surface:
    """The surface of one organ: vertices and normals (n, 3) in mm, canonical RAS, faces (m, 3)."""

    organ: int
    vertices: Floats
    normals: Floats
    faces: NDArray[np.int32]


@dataclass(frozen=True)
class Frame:
    """What a picture shows, so that two label maps can be drawn alike."""

    middle: tuple[float, float, float]
    width_mm: float
    height_mm: float


def organ_surfaces(labels: Segmentation, n: int) -> list[Surface]:
    """The surfaces of the organs 1 … n of a label map; an organ that is absent has none."""
    from skimage.measure import marching_cubes

    labels = canonical(labels)
    spacing = np.array(labels.grid.spacing)
    filled = bounding_box(labels.array > 0) if labels.array.any() else None
    if filled is None:
        return []
    extent = (np.array(filled.stop) - np.array(filled.start)) * spacing
    voxel = max(float(extent.max()) / SAMPLES, float(spacing.min()) / 2)
    out = []
    for organ, where in enumerate(ndimage.find_objects(labels.array, max_label=n), start=1):
        if where is None:
            continue
        mask = np.pad((labels.array[where] == organ).astype(np.float32), 2)
        fine = ndimage.zoom(mask, spacing / voxel, order=1, grid_mode=True, mode="grid-constant")
        fine = ndimage.gaussian_filter(fine, np.maximum(SMOOTHING * spacing / voxel, 0.8))
        # a thin organ never reaches one half once it is smoothed
        level = min(0.5, 0.5 * float(fine.max()))
        if not 0 < level < float(fine.max()):
            continue
        vertices, faces, normals, _ = marching_cubes(fine, level)  # type: ignore[no-untyped-call]
        zoomed = np.array(mask.shape) / np.array(fine.shape)  # grid_mode: outer edges coincide
        index = (vertices + 0.5) * zoomed - 0.5 - 2 + np.array([s.start for s in where])
        world = labels.grid.to_world(index)
        out.append(
            Surface(
                organ, world.astype(np.float32), normals.astype(np.float32), faces.astype(np.int32)
            )
        )
    return out


def frame_of(surfaces: Sequence[Surface], margin: float = 0.06) -> Frame | None:
    """A frame around all surfaces, the same from the front and the back; None without any."""
    if not surfaces:
        return None
    low = np.min([s.vertices.min(axis=0) for s in surfaces], axis=0)
    high = np.max([s.vertices.max(axis=0) for s in surfaces], axis=0)
    size = (high - low) * (1 + 2 * margin)
    middle = (low + high) / 2
    return Frame((float(middle[0]), float(middle[1]), float(middle[2])), *map(float, size[[0, 2]]))


def draw_surfaces(
    surfaces: Sequence[Surface], colours: Sequence[RGB], frame: Frame, view: View, px: int
) -> NDArray[np.uint8]:
    """An RGBA picture whose longer side is ``px``; R and L stand where the patient's sides are.

    From the front the patient's right is on the left, as in the slices; from the back it is on the
    right. The projection is parallel: lengths can be compared.
    """
    scale = SUPERSAMPLING * px / max(frame.width_mm, frame.height_mm)
    width = SUPERSAMPLING * max(
        1, round(px * frame.width_mm / max(frame.width_mm, frame.height_mm))
    )
    height = SUPERSAMPLING * max(
        1, round(px * frame.height_mm / max(frame.width_mm, frame.height_mm))
    )
    depth = np.full(width * height, -np.inf, np.float32)
    shade = np.zeros((width * height, 3), np.float32)
    owner = np.zeros(width * height, np.int32)
    for surface in surfaces:
        points = _turned(surface.vertices - np.array(frame.middle, np.float32), view)
        normals = _turned(surface.normals, view)
        points[:, 0] = points[:, 0] * scale + width / 2
        points[:, 1] = height / 2 - points[:, 1] * scale
        found = _rasterise(points, normals, surface.faces, width, height, depth)
        if found is not None:
            pixels, facing = found
            shade[pixels] = _lit(facing, colours[surface.organ - 1])
            owner[pixels] = surface.organ
    picture = _contours(shade, depth, owner, width, height)
    small = Image.fromarray(picture).resize(
        (width // SUPERSAMPLING, height // SUPERSAMPLING), Image.Resampling.BOX
    )
    return _marked(small, view)


def _turned(vectors: Floats, view: View) -> Floats:
    """From RAS to (right, up, towards the reader) of the picture."""
    side = -1.0 if view == "front" else 1.0
    # seen a little from above, which tells front and back parts apart
    sin, cos = math.sin(math.radians(8)), math.cos(math.radians(8))
    towards = -side * vectors[:, 1]
    up = vectors[:, 2]
    return np.stack(
        [side * vectors[:, 0], cos * up - sin * towards, sin * up + cos * towards], axis=-1
    ).astype(np.float32)


def _rasterise(
    points: Floats,
    normals: Floats,
    faces: NDArray[np.int32],
    width: int,
    height: int,
    depth: Floats,
) -> tuple[NDArray[np.int64], Floats] | None:
    """Pixels that a surface wins, with its unit normals there; updates ``depth``."""
    corners = points[faces]  # (m, 3 corners, 3)
    # surfaces are closed: faces that look away lie behind others
    ahead = _cross(corners[:, 1, :2] - corners[:, 0, :2], corners[:, 2, :2] - corners[:, 0, :2])
    faces, corners = faces[ahead > 0], corners[ahead > 0]
    low = np.floor(corners[..., :2].min(axis=1)).astype(np.int64)
    span = np.ceil(corners[..., :2].max(axis=1)).astype(np.int64) - low
    pixels, depths, owners, weights = [], [], [], []
    # faces of like size are drawn together: each tries the same square of pixels
    size = np.maximum(span.max(axis=1), 1)
    size = np.where(size > 8, 2 ** np.ceil(np.log2(size)), size).astype(np.int64)
    for side in np.unique(size):
        for chosen in np.array_split(
            np.flatnonzero(size == side), max(1, math.ceil((size == side).sum() * side**2 / 4e6))
        ):
            if side > 4 * max(width, height) or not len(chosen):
                continue
            found = _inside(corners[chosen], low[chosen], int(side), width, height)
            pixels.append(found[0])
            depths.append(found[1])
            owners.append(chosen[found[2]])
            weights.append(found[3])
    if not pixels or not sum(map(len, pixels)):
        return None
    pixel, z, owner = np.concatenate(pixels), np.concatenate(depths), np.concatenate(owners)
    weight = np.concatenate(weights)
    np.maximum.at(depth, pixel, z)
    won = np.flatnonzero(z == depth[pixel])
    normal = np.einsum("kc,kcd->kd", weight[won], normals[faces[owner[won]]])
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    normal /= np.maximum(length, 1e-6)
    # whichever way round the surface was made, what is seen faces the reader
    return pixel[won], normal * np.where(normal[:, 2:] < 0, -1, 1).astype(np.float32)


def _inside(
    corners: Floats, low: NDArray[np.int64], side: int, width: int, height: int
) -> tuple[NDArray[np.int64], Floats, NDArray[np.int64], Floats]:
    """Pixel, depth, face and corner weights of every pixel middle that lies in a face."""
    steps = np.arange(side)
    offsets = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2)
    at = low[:, None, :] + offsets[None]  # (m, k, 2)
    middle = at.astype(np.float32) + 0.5
    a, b, c = (corners[:, None, i, :2] for i in range(3))
    area = _cross(b - a, c - a)
    area = np.where(np.abs(area) < 1e-9, np.float32(np.inf), area)
    u = _cross(c - b, middle - b) / area
    v = _cross(a - c, middle - c) / area
    w = 1 - u - v
    hit = (u >= 0) & (v >= 0) & (w >= 0) & np.isfinite(area)
    hit &= (at[..., 0] >= 0) & (at[..., 0] < width) & (at[..., 1] >= 0) & (at[..., 1] < height)
    face, k = np.nonzero(hit)
    weight = np.stack([u[face, k], v[face, k], w[face, k]], axis=-1).astype(np.float32)
    z = (weight * corners[face, :, 2]).sum(axis=1)
    return at[face, k, 1] * width + at[face, k, 0], z, face, weight


def _cross(p: Floats, q: Floats) -> Floats:
    cross: Floats = p[..., 0] * q[..., 1] - p[..., 1] * q[..., 0]
    return cross


def _lit(normals: Floats, colour: RGB) -> Floats:
    """Colours 0…255 of surface points by their unit normals (k, 3)."""
    light = np.full(len(normals), _AMBIENT, np.float32)
    gloss = np.zeros(len(normals), np.float32)
    for direction, strength in _LIGHTS:
        towards = np.array(direction, np.float32) / np.linalg.norm(direction)
        light += strength * np.clip(normals @ towards, 0, None)
        half = towards + np.array([0, 0, 1], np.float32)
        gloss += strength * np.clip(normals @ (half / np.linalg.norm(half)), 0, None) ** 24
    base = np.array(colour, np.float32) * np.minimum(light, 1.15)[:, None]
    lit: Floats = np.clip(base + 255 * _GLOSS * gloss[:, None], 0, 255)
    return lit


def _contours(
    shade: Floats, depth: Floats, owner: NDArray[np.int32], width: int, height: int
) -> NDArray[np.uint8]:
    """The picture with a thin dark line where organs meet or one part lies behind another."""
    far = depth.reshape(height, width)
    who = owner.reshape(height, width)
    edge = np.zeros((height, width), bool)
    for axis in (0, 1):
        near, behind = np.roll(far, 1, axis), np.roll(who, 1, axis)
        step = np.abs(np.where(who > 0, far, -1e4) - np.where(behind > 0, near, -1e4))
        here = (who != behind) | (step > _CONTOUR_MM)
        edge |= here | np.roll(here, -1, axis)
    seen = who > 0
    colour = shade.reshape(height, width, 3) * np.where(edge & seen, 0.45, 1.0)[..., None]
    return np.dstack([colour, np.where(seen, 255, 0)]).astype(np.uint8)


def _marked(picture: Image.Image, view: View) -> NDArray[np.uint8]:
    """R and L in the margins, beside the organs and not over them."""
    px = max(11, round(0.055 * max(picture.size)))
    band = round(1.5 * px)
    out = Image.new("RGBA", (picture.width + 2 * band, picture.height))
    out.paste(picture, (band, 0))
    draw = ImageDraw.Draw(out)
    for text, x in zip(
        "RL" if view == "front" else "LR", (band / 2, out.width - band / 2), strict=True
    ):
        draw.text((x, out.height / 2), text, (*_INK, 255), font(px), "mm")
    return np.asarray(out)
