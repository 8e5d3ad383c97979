"""Pictures of a case: three planes, with a stack of axial slices for the slider.

A grey base (WebP or JPEG) and the organs (PNG with transparency) stay apart, so that the page can
lay several label maps over one image and switch organs off. A stack is one tall picture, slice
under slice; the page shows a window of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelferry.report.colours import RGB
from labelferry.report.config import ReportConfig
from labelferry.report.data import CaseRole, CaseView, Layer
from labelferry.report.encode import grey_uri, palette_uri
from labelferry.report.overlay import draw_base, draw_overlay, palette
from labelferry.report.planes import (
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
"""Grey layers; the fakes of single domains follow."""
LABELS: tuple[Layer, ...] = ("result", "pseudo_label", "truth")
"""Organ layers; the first that a case has leads the choice of slices."""
LESS_QUALITY = 20
"""By how much anatomy space and fake MRI are coarser: edges cost many bytes and say little."""
TALLEST = 4
"""A coronal picture is at most this many times as tall as the axial one is long."""


@dataclass(frozen=True)
class Panel:
    """One column of a case: a base, with or without organs on it."""

    title: str
    base: Layer
    organs: Layer | None = None


@dataclass(frozen=True)
class PlanePicture:
    """One plane: bases and organ overlays of one size, as data URIs."""

    name: PlaneName
    width: int
    height: int
    count: int
    """Number of slices that lie under each other; 1 but for the axial plane."""
    bases: dict[Layer, str]
    overlays: dict[Layer, str]


@dataclass(frozen=True)
class CasePictures:
    """All pictures of a case."""

    panels: tuple[Panel, ...]
    planes: tuple[PlanePicture, ...]
    start: int
    """Index of the first axial slice shown."""
    heights_mm: tuple[float, ...]
    """World z of each slice."""
    lines: tuple[float, ...]
    """Where each slice crosses the coronal and sagittal pictures: share of the height from top."""
    present: dict[Layer, frozenset[int]]
    """Organ ids in each organ layer."""


def case_panels(
    role: CaseRole, layers: Sequence[Layer], fakes: Mapping[Layer, str] | None = None
) -> list[Panel]:
    """The columns of a case, from what went in to the truth; ``fakes`` as in ``CaseView``."""
    wanted = (
        [
            Panel("CT", "image"),
            Panel("CT + label", "image", "truth"),
            Panel("Anatomy space", "anatomy"),
            Panel("Fake MRI", "fake"),
            Panel("Fake MRI + label", "fake", "truth"),
            *(
                Panel(f"Fake {name} + label", layer, "truth")
                for layer, name in (fakes or {}).items()
            ),
        ]
        if role == "source"
        else [
            Panel("Image", "image"),
            Panel("Anatomy space", "anatomy"),
            Panel("Fake MRI", "fake"),
            Panel("Pseudo-label", "image", "pseudo_label"),
            Panel("Result", "image", "result"),
            Panel("Truth", "image", "truth"),
        ]
    )
    return [p for p in wanted if p.base in layers and (p.organs is None or p.organs in layers)]


def case_pictures(
    case: CaseView, colours: Sequence[RGB], config: ReportConfig
) -> CasePictures | None:
    """Draw a case; None when it has no layer at all.

    ``colours`` has one colour for each organ; labels beyond it are not drawn.
    """
    bases = (*BASES, *case.fakes)
    layers = {name: case.layers[name] for name in (*bases, *LABELS) if name in case.layers}
    if not layers:
        return None
    grid: Grid | None = None
    arrays: dict[Layer, NDArray[Any]] = {}
    for name, volume in layers.items():
        placed = on_grid(volume, grid, name in LABELS)
        grid, arrays[name] = placed.grid, placed.array
    assert grid is not None
    greys = {name: to_grey(arrays[name]) for name in bases if name in arrays}
    if "image" not in greys:  # label maps need something to lie on
        greys["image"] = np.zeros(grid.shape, np.uint8)
    labels = {name: arrays[name] for name in LABELS if name in arrays}
    lead = next(iter(labels.values()), None)
    middle = centre(lead, grid.shape)
    slices = slice_indices(lead, grid.shape[2], config.slices_per_case, middle[2])
    planes = []
    for plane in PLANES:
        at = slices if plane == "axial" else (middle[NORMAL_AXIS[plane]],)
        planes.append(_draw_plane(plane, at, grid, greys, labels, colours, config))
    ids = frozenset(range(1, len(colours) + 1))
    return CasePictures(
        panels=tuple(case_panels(case.role, (*greys, *labels), case.fakes)),
        planes=tuple(planes),
        start=slices.index(middle[2]),
        heights_mm=tuple(
            float(grid.to_world(np.array([middle[0], middle[1], k], float))[2]) for k in slices
        ),
        lines=tuple(1 - (k + 0.5) / grid.shape[2] for k in slices),
        present={
            name: frozenset(int(v) for v in np.unique(array)) & ids
            for name, array in labels.items()
        },
    )


def _draw_plane(
    plane: PlaneName,
    at: Sequence[int],
    grid: Grid,
    greys: dict[Layer, NDArray[np.uint8]],
    labels: dict[Layer, NDArray[Any]],
    colours: Sequence[RGB],
    config: ReportConfig,
) -> PlanePicture:
    # one scale for the three planes: a millimetre is as long in each of them
    across, tall = max(plane_mm(grid, "axial")), plane_mm(grid, "coronal")[1]
    scale = config.picture_px / max(across, tall / TALLEST)
    wide, high = plane_mm(grid, plane)
    size = max(1, round(wide * scale)), max(1, round(high * scale))
    text_px = max(9, round(0.05 * config.picture_px))
    table, n = palette(colours), len(colours)
    bases = {
        name: grey_uri(
            np.concatenate(
                [draw_base(picture_plane(grey, plane, k), plane, size, text_px) for k in at]
            ),
            config.picture_quality - (0 if name == "image" else LESS_QUALITY),
        )
        for name, grey in greys.items()
    }
    overlays = {
        name: palette_uri(
            np.concatenate(
                [draw_overlay(picture_plane(array, plane, k), n, size, text_px) for k in at]
            ),
            table,
        )
        for name, array in labels.items()
    }
    return PlanePicture(plane, *size, len(at), bases, overlays)
