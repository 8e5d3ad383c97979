"""Which part of the body images show, from their outline alone: CT and MRI should show the same.

A translator learns whatever tells one side from the other. Where the CT run from the neck to the
thighs and the MRI show the liver, the section itself becomes part of the style.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelferry.organs import OrganSet
from labelferry.translate.explain import Spacing

LEVELS = 10
"""Heights at which the profile of the body's area is compared, from the lowest up."""
_MOST_EXTENT = 1.5
_MOST_AREA = 1.6
_MOST_PROFILE = 0.35
_LEAST_OF_ORGANS = 0.8
_FEW_SLICES = 10


@dataclass(frozen=True)
class Section:
    """What one image shows of the body."""

    extent_mm: float
    """Height of the body in the image, along z."""
    area_cm2: float
    """Median area of the body over its slices."""
    profile: tuple[float, ...]
    """Area at ``LEVELS`` heights, over its mean."""
    slices: int
    """Axial slices with body."""
    organs_mm: float | None = None
    """Height of all its labelled organs together; None without labels."""
    cut: frozenset[int] = frozenset()
    """Organs whose label reaches the first or the last slice of the image."""


def section(
    body: NDArray[np.bool_], spacing: Spacing, labels: NDArray[np.uint8] | None = None
) -> Section:
    """Measure a body mask (x, y, z); ``labels`` are organ ids on the same grid."""
    areas = body.sum((0, 1)) * spacing[0] * spacing[1] / 100
    (seen,) = np.nonzero(areas)
    if len(seen) == 0:
        return Section(0.0, 0.0, (1.0,) * LEVELS, 0)
    inside = areas[seen[0] : seen[-1] + 1]
    at = (np.arange(LEVELS) + 0.5) / LEVELS * len(inside) - 0.5
    profile = np.interp(at, np.arange(len(inside)), inside)
    heights, cut = None, frozenset[int]()
    if labels is not None and labels.any():
        (high,) = np.nonzero(labels.any((0, 1)))
        heights = float(high[-1] + 1 - high[0]) * spacing[2]
        cut = frozenset(int(o) for o in np.unique(labels[:, :, [0, -1]]) if o)
    return Section(
        len(inside) * spacing[2],
        float(np.median(inside)),
        tuple(float(v) for v in profile / profile.mean()),
        len(seen),
        heights,
        cut,
    )


def compare_sections(
    source: Sequence[Section], target: Mapping[str, Sequence[Section]], organs: OrganSet
) -> tuple[str, ...]:
    """Warnings in words: each target domain beside the source, and sides with few slices.

    Medians over cases are compared. An extent 1.5 times, a body area 1.6 times as large, and a
    profile that is off by 0.35 of the mean area are told, as is an MRI lower than 0.8 of the height
    that the labelled organs take up in the CT.
    """
    notes = list(_few("source", source))
    for domain, sections in target.items():
        few = tuple(_few(f"target domain {domain}", sections))
        notes += few or (_differences(domain, source, sections) if source and sections else ())
    often = [
        organs[organ].name
        for organ in sorted(organs.ids)
        if source
        and not organs[organ].tube  # these always run on
        and sum(organ in one.cut for one in source) > len(source) / 2
    ]
    if often:
        notes.append(f"Most CT end within {', '.join(often)}: these are seen in part only.")
    return tuple(notes)


def _few(side: str, sections: Sequence[Section]) -> Iterable[str]:
    count = sum(one.slices for one in sections)
    if sections and count < _FEW_SLICES:
        yield (
            f"The {side} has {count} slice{'s' if count != 1 else ''} in all: a translator learns "
            f"these by heart. Add cases."
        )


def _differences(
    domain: str, source: Sequence[Section], target: Sequence[Section]
) -> Iterable[str]:
    why = "the translator would learn the section as style; crop the larger to the other's section"
    ct, mr = (statistics.median(one.extent_mm for one in side) for side in (source, target))
    area_ct, area_mr = (statistics.median(o.area_cm2 for o in side) for side in (source, target))
    heights = [one.organs_mm for one in source if one.organs_mm is not None]
    organs_mm = statistics.median(heights) if heights else 0.0
    if max(ct, mr) > _MOST_EXTENT * min(ct, mr):
        yield f"CT show {ct:.0f} mm of the body, {domain} {mr:.0f} mm: {why}."
    if max(area_ct, area_mr) > _MOST_AREA * min(area_ct, area_mr):
        yield (
            f"The body's cross-section is {area_ct:.0f} cm² in CT, {area_mr:.0f} cm² in {domain}: "
            f"another part of the body, or cut at the sides; {why}."
        )
    off = _profile_distance(source, target)
    if off > _MOST_PROFILE:
        yield (
            f"Along the body, CT and {domain} widen and narrow at other heights (profiles differ "
            f"by {off:.2f} of the mean area): other sections; {why}."
        )
    if mr < _LEAST_OF_ORGANS * organs_mm:
        yield (
            f"The labelled organs take up {organs_mm:.0f} mm in CT, {domain} show {mr:.0f} mm: "
            f"they cannot show all of them."
        )


def _profile_distance(source: Sequence[Section], target: Sequence[Section]) -> float:
    one, two = (np.median([o.profile for o in side], axis=0) for side in (source, target))
    return float(np.abs(one - two).mean())
