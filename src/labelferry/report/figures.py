"""Pictures of a case: three planes, and a stack of axial slices for the slider.

A grey base (WebP or JPEG) and the organs (PNG with transparency) stay apart, so that the page can
switch organs on and off. A stack is one tall picture, slice under slice; the page shows a window
of it.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, features
from scipy import ndimage

from labelferry.organs import OrganSet
from labelferry.report.config import ReportConfig
from labelferry.report.data import CaseView, Layer
from labelferry.report.planes import (
    MARKERS,
    NORMAL_AXIS,
    PLANES,
    PlaneName,
    centre,
    on_grid,
    picture_plane,
    plane_mm,
    slice_indices,
    to_grey,
)
from labelferry.volume import Grid

BASES: tuple[Layer, ...] = ("image", "anatomy", "fake")
LABELS: tuple[Layer, ...] = ("result", "pseudo_label", "truth")
"""Organ layers; the first that a case has is shown first and leads the choice of slices."""

FILL_ALPHA = 70
WEBP_LIMIT = 16383
TALLEST = 4
"""A coronal picture is at most this many times as tall as the axial one is long."""
NUMBERED_PX = 90
"""Organs of at least this many pixels carry their number, so that colour is not alone."""


@dataclass(frozen=True)
class PlanePicture:
    """One plane: bases and organ overlays of one size, as data URIs."""

    name: PlaneName
    width: int
    height: int
    count: int
    """Number of slices that lie under each other; 1 without a slider."""
    bases: dict[Layer, str]
    overlays: dict[Layer, str]


@dataclass(frozen=True)
class CasePictures:
    """All pictures of a case."""

    planes: tuple[PlanePicture, ...]
    start: int
    """Index of the first axial slice shown."""
    heights_mm: tuple[float, ...]
    """World z of each slice."""
    lines: tuple[float, ...]
    """Where each slice crosses the coronal and sagittal pictures: share of the height from top."""
    present: dict[Layer, frozenset[int]]
    """Organ ids in each organ layer."""


def case_pictures(
    case: CaseView, organs: OrganSet, config: ReportConfig, slider: bool
) -> CasePictures | None:
    """Draw a case; None when it has no layer at all. Without ``slider`` one axial slice."""
    layers = {name: case.layers[name] for name in (*BASES, *LABELS) if name in case.layers}
    if not layers:
        return None
    grid: Grid | None = None
    arrays: dict[Layer, NDArray[Any]] = {}
    for name, volume in layers.items():
        placed = on_grid(volume, grid, name in LABELS)
        grid, arrays[name] = placed.grid, placed.array
    assert grid is not None
    greys = {name: to_grey(arrays[name]) for name in BASES if name in arrays}
    greys = greys or {"image": np.zeros(grid.shape, np.uint8)}
    labels = {name: arrays[name] for name in LABELS if name in arrays}
    lead = next(iter(labels.values()), None)
    middle = centre(lead, grid.shape)
    slices: tuple[int, ...] = (middle[2],)
    if slider:
        slices = slice_indices(lead, grid.shape[2], config.slices_per_case, middle[2])
    planes = []
    for plane in PLANES:
        at = slices if plane == "axial" else (middle[NORMAL_AXIS[plane]],)
        planes.append(_draw_plane(plane, at, grid, greys, labels, organs, config))
    return CasePictures(
        planes=tuple(planes),
        start=slices.index(middle[2]),
        heights_mm=tuple(
            float(grid.to_world(np.array([middle[0], middle[1], k], float))[2]) for k in slices
        ),
        lines=tuple(1 - (k + 0.5) / grid.shape[2] for k in slices),
        present={
            name: frozenset(int(v) for v in np.unique(array)) & organs.ids
            for name, array in labels.items()
        },
    )


def _draw_plane(
    plane: PlaneName,
    at: Sequence[int],
    grid: Grid,
    greys: dict[Layer, NDArray[np.uint8]],
    labels: dict[Layer, NDArray[Any]],
    organs: OrganSet,
    config: ReportConfig,
) -> PlanePicture:
    # one scale for the three planes: a millimetre is as long in each of them
    across, tall = max(plane_mm(grid, "axial")), plane_mm(grid, "coronal")[1]
    scale = config.picture_px / max(across, tall / TALLEST)
    wide, high = plane_mm(grid, plane)
    size = max(1, round(wide * scale)), max(1, round(high * scale))
    text_px = max(9, round(0.042 * config.picture_px))
    bases = {
        name: _stack_grey(
            [draw_base(picture_plane(grey, plane, k), plane, size, text_px) for k in at],
            config.picture_quality,
        )
        for name, grey in greys.items()
    }
    overlays = {
        name: _stack_png(
            [draw_overlay(picture_plane(array, plane, k), organs, size, text_px) for k in at],
            organs,
        )
        for name, array in labels.items()
    }
    return PlanePicture(plane, *size, len(at), bases, overlays)


def draw_base(
    grey: NDArray[np.uint8], plane: PlaneName, size: tuple[int, int], text_px: int
) -> NDArray[np.uint8]:
    """A grey picture of ``size`` (width, height) with the sides of the patient written into it.

    They are part of the picture, not of the page, so that a copied picture keeps them.
    """
    picture = Image.fromarray(np.ascontiguousarray(grey)).resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    marks = MARKERS[plane]
    texts = (marks.left, marks.right, marks.top, marks.bottom)
    for text, place in zip(texts, _marker_places(size, text_px), strict=True):
        draw.text(place, text, 255, _font(text_px), "mm", stroke_width=2, stroke_fill=0)
    return np.asarray(picture)


def _marker_places(size: tuple[int, int], text_px: int) -> tuple[tuple[float, float], ...]:
    """Middles of the left, right, top and bottom marker."""
    (width, height), edge = size, 0.75 * text_px
    return (
        (edge, height / 2),
        (width - edge, height / 2),
        (width / 2, edge),
        (width / 2, height - edge),
    )


def draw_overlay(
    labels: NDArray[Any], organs: OrganSet, size: tuple[int, int], text_px: int
) -> NDArray[np.uint16]:
    """Palette indices of ``size``: organ i is filled with i and outlined with n + i.

    Each organ's mask is enlarged linearly and the largest share wins, as in ``resample_labels``.
    2n + 1 is the dark rim of the numbers, 2n + 2 … 2n + 4 their white in three strengths.
    """
    n = len(organs)
    owner = np.zeros(size[::-1], np.uint16)
    share = np.full(size[::-1], 127, np.uint8)  # below half, background
    for organ in np.intersect1d(labels, np.arange(1, n + 1)):
        mask = np.where(labels == organ, 255, 0).astype(np.uint8)
        grown = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.BILINEAR))
        wins = grown > share
        owner[wins], share[wins] = organ, grown[wins]
    inner = ndimage.minimum_filter(owner, 3) == ndimage.maximum_filter(owner, 3)
    drawn = np.where((owner > 0) & ~inner, owner + n, owner).astype(np.uint16)
    _number(drawn, owner, n, text_px)
    return drawn


def _number(drawn: NDArray[np.uint16], owner: NDArray[np.uint16], n: int, text_px: int) -> None:
    """Write each larger organ's number into ``drawn``, at its innermost point."""
    text = Image.new("L", drawn.shape[::-1])
    pen = ImageDraw.Draw(text)
    font = _font(max(8, text_px - 3))
    taken = list(_marker_places(owner.shape[::-1], text_px))
    for organ, where in enumerate(ndimage.find_objects(owner), start=1):
        if where is None:
            continue
        mask = np.pad(owner[where] == organ, 1)
        if mask.sum() < NUMBERED_PX:
            continue
        depth = ndimage.distance_transform_edt(mask)
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
        place = (where[1].start + float(column) - 1, where[0].start + float(row) - 1)
        if all(math.dist(place, other) > 1.2 * text_px for other in taken):
            taken.append(place)
            pen.text(place, str(organ), 255, font, "mm")
    white = np.asarray(text, np.uint16)
    drawn[(ndimage.maximum_filter(white, 3) > 100) & (white < 64)] = 2 * n + 1
    drawn[white >= 64] = (2 * n + 1 + white // 64)[white >= 64]


def palette(organs: OrganSet) -> NDArray[np.uint8]:
    """Red, green, blue, alpha of each index of :func:`draw_overlay`."""
    colours = np.array([organ.colour for organ in organs], np.uint8)
    n = len(organs)
    table = np.zeros((2 * n + 5, 4), np.uint8)
    table[1 : n + 1, :3] = table[n + 1 : 2 * n + 1, :3] = colours
    table[1 : n + 1, 3] = FILL_ALPHA
    table[n + 1 : 2 * n + 1, 3] = 255
    table[2 * n + 1] = (0, 0, 0, 150)
    table[2 * n + 2 :, :3] = 255
    table[2 * n + 2 :, 3] = (110, 180, 255)
    return table


def _stack_grey(slices: list[NDArray[np.uint8]], quality: int) -> str:
    picture = Image.fromarray(np.concatenate(slices))
    stream = io.BytesIO()
    # WebP is half as large, but has a limit of size and is not in every build of Pillow
    if features.check("webp") and picture.height <= WEBP_LIMIT:
        picture.convert("RGB").save(stream, "WEBP", quality=quality, method=2)
        return _data_uri(stream, "webp")
    picture.save(stream, "JPEG", quality=quality, optimize=True)
    return _data_uri(stream, "jpeg")


def _stack_png(slices: list[NDArray[np.uint16]], organs: OrganSet) -> str:
    stacked = np.concatenate(slices)
    table = palette(organs)
    stream = io.BytesIO()
    if len(table) <= 256:
        picture = Image.fromarray(stacked.astype(np.uint8))
        picture.putpalette(table[:, :3].tobytes())
        picture.save(stream, "PNG", optimize=True, transparency=table[:, 3].tobytes())
    else:  # more organs than a palette holds
        Image.fromarray(table[stacked]).save(stream, "PNG", optimize=True)
    return _data_uri(stream, "png")


def _data_uri(stream: io.BytesIO, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    # matplotlib ships this font, so the pictures look the same on every machine
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"
    return ImageFont.truetype(str(path), size)
