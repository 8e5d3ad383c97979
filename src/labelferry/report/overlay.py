"""Organs over a picture: a light fill, a strong outline, and a number in each larger organ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from labelferry.report.colours import RGB
from labelferry.report.planes import MARKERS, PlaneName

FILL_ALPHA = 70
NUMBERED_PX = 90
"""Organs of at least this many pixels carry their number, so that colour is not alone."""


def draw_base(
    grey: NDArray[np.uint8], plane: PlaneName, size: tuple[int, int], text_px: int
) -> NDArray[np.uint8]:
    """A grey picture of ``size`` (width, height) with the sides of the patient written into it.

    They are part of the picture, not of the page, so that a copied picture keeps them.
    """
    picture = Image.fromarray(np.ascontiguousarray(grey)).resize(size, Image.Resampling.BICUBIC)
    white, rim = _markers(plane, size, text_px)
    out = np.asarray(picture).astype(np.uint16)  # 255 × 255 fits
    # white letters in a black rim, as a share of each pixel
    out = out * (255 - rim) // 255
    drawn: NDArray[np.uint8] = np.maximum(out, white).astype(np.uint8)
    return drawn


@cache
def _markers(
    plane: PlaneName, size: tuple[int, int], text_px: int
) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    marks = MARKERS[plane]
    texts = (marks.left, marks.right, marks.top, marks.bottom)
    layers = []
    for stroke in (0, 2):
        picture = Image.new("L", size)
        draw = ImageDraw.Draw(picture)
        for text, place in zip(texts, marker_places(size, text_px), strict=True):
            draw.text(place, text, 255, font(text_px), "mm", stroke_width=stroke, stroke_fill=255)
        layers.append(np.asarray(picture).astype(np.uint16))
    return layers[0], layers[1]


def marker_places(size: tuple[int, int], text_px: int) -> tuple[tuple[float, float], ...]:
    """Middles of the left, right, top and bottom marker."""
    (width, height), edge = size, 0.75 * text_px
    return (
        (edge, height / 2),
        (width - edge, height / 2),
        (width / 2, edge),
        (width / 2, height - edge),
    )


def draw_overlay(
    labels: NDArray[Any], n: int, size: tuple[int, int], text_px: int
) -> NDArray[np.uint16]:
    """Palette indices of ``size``: organ i of n is filled with i and outlined with n + i.

    Each organ's mask is enlarged linearly and the largest share wins, as in ``resample_labels``.
    2n + 1 is the dark rim of the numbers, 2n + 2 … 2n + 4 their white in three strengths.
    """
    owner = np.zeros(size[::-1], np.uint16)
    share = np.full(size[::-1], 127, np.uint8)  # below half, background
    for organ in np.unique(labels):
        if not 1 <= organ <= n:
            continue
        mask = np.where(labels == organ, 255, 0).astype(np.uint8)
        grown = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.BILINEAR))
        wins = grown > share
        owner[wins], share[wins] = organ, grown[wins]
    drawn = np.where((owner > 0) & _on_border(owner), owner + n, owner).astype(np.uint16)
    _number(drawn, owner, n, text_px)
    return drawn


def _on_border(owner: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Pixels with another owner among their eight neighbours."""
    padded = np.pad(owner, 1, mode="edge")
    height, width = owner.shape
    border = np.zeros(owner.shape, bool)
    for row in range(3):
        for column in range(3):
            border |= padded[row : row + height, column : column + width] != owner
    return border


def _number(drawn: NDArray[np.uint16], owner: NDArray[np.uint16], n: int, text_px: int) -> None:
    """Write each larger organ's number into ``drawn``, at its innermost point."""
    taken = list(marker_places(owner.shape[::-1], text_px))
    for organ, where in enumerate(ndimage.find_objects(owner), start=1):
        if where is None:
            continue
        # every second pixel is exact enough for the place of a number, and four times as fast
        mask = np.pad(owner[where][::2, ::2] == organ, 1)
        if 4 * mask.sum() < NUMBERED_PX:
            continue
        depth = ndimage.distance_transform_edt(mask)
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
        place = (where[1].start + 2 * (float(column) - 1), where[0].start + 2 * (float(row) - 1))
        if all(math.dist(place, other) > 1.2 * text_px for other in taken):
            taken.append(place)
            _stamp(drawn, place, _glyph(organ, max(8, text_px - 3)), 2 * n + 1)


def _stamp(
    drawn: NDArray[np.uint16], middle: tuple[float, float], glyph: NDArray[np.uint8], first: int
) -> None:
    height, width = glyph.shape
    left, top = round(middle[0] - width / 2), round(middle[1] - height / 2)
    rows = slice(max(0, top), min(drawn.shape[0], top + height))
    columns = slice(max(0, left), min(drawn.shape[1], left + width))
    part = glyph[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    view = drawn[rows, columns]
    view[part > 0] = first + part[part > 0].astype(np.uint16) - 1


@cache
def _glyph(number: int, px: int) -> NDArray[np.uint8]:
    """A number: 0 nothing, 1 rim, 2 … 4 white in three strengths."""
    picture = Image.new("L", (px * len(str(number)) + 6, px + 6))
    middle = (picture.width / 2, picture.height / 2)
    ImageDraw.Draw(picture).text(middle, str(number), 255, font(px), "mm")
    white = np.asarray(picture)
    out = np.where(ndimage.maximum_filter(white, 3) > 100, 1, 0).astype(np.uint8)
    return np.where(white >= 64, 1 + white // 64, out).astype(np.uint8)


def palette(colours: Sequence[RGB]) -> NDArray[np.uint8]:
    """Red, green, blue, alpha of each index of :func:`draw_overlay`."""
    n = len(colours)
    table = np.zeros((2 * n + 5, 4), np.uint8)
    table[1 : n + 1, :3] = table[n + 1 : 2 * n + 1, :3] = np.array(colours, np.uint8)
    table[1 : n + 1, 3] = FILL_ALPHA
    table[n + 1 : 2 * n + 1, 3] = 255
    table[2 * n + 1] = (0, 0, 0, 150)
    table[2 * n + 2 :, :3] = 255
    table[2 * n + 2 :, 3] = (110, 180, 255)
    return table


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """The font of all letters in pictures."""
    # matplotlib ships this font, so the pictures look the same on every machine
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"
    return ImageFont.truetype(str(path), size)
