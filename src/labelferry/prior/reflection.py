"""Which way round an anatomy lies: its organs' places, mirrored, against those of the source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from labelferry.prior.measure import OrganMeasure
from labelferry.prior.model import Prior
from labelferry.prior.plausibility import judge_measures

Flips = tuple[bool, bool, bool]
"""Which of the axes R, A, S are reversed."""
UNTURNED: Flips = (False, False, False)
EVERY_FLIP: tuple[Flips, ...] = tuple(
    (x, y, z) for x in (False, True) for y in (False, True) for z in (False, True)
)
"""All eight, beginning with none."""
_FEWEST = 4
"""Fewer organs may come to lie right by chance."""
_BELIEVED = 2.0
"""Mean position z up to which organs lie as in the source."""
_MARGIN = 1.0
"""By how much of it the flipped places must be better."""


def reflected(measures: Mapping[int, OrganMeasure], flips: Flips) -> dict[int, OrganMeasure]:
    """The measures of a label map whose voxels are reversed along some axes.

    Places alone change, each axis about its origin: a prior sees places relative to each other.
    """
    sign = np.where(flips, -1.0, 1.0)
    turned = {}
    for organ, m in measures.items():
        x, y, z = (float(v) for v in sign * m.centroid_mm)
        turned[organ] = replace(m, centroid_mm=(x, y, z))
    return turned


def position_z(measures: Mapping[int, OrganMeasure], prior: Prior) -> float:
    """Mean position z of the organs present; infinite where none can be judged."""
    rows = [row for row in judge_measures(measures, prior).organs.values() if row.present]
    return float(np.mean([row.position_z for row in rows])) if rows else np.inf


def likely_flips(measures: Mapping[int, OrganMeasure], prior: Prior) -> Flips:
    """The reversed axes under which the organs lie as in the source, and otherwise do not.

    None where they lie right as they are, where no reflection is believable, and where it is not
    clear: with fewer than four organs, or with places that are hardly better.
    """
    if sum(prior.get(organ) is not None for organ in measures) < _FEWEST:
        return UNTURNED
    z = {flips: position_z(reflected(measures, flips), prior) for flips in EVERY_FLIP}
    best = min(EVERY_FLIP, key=lambda flips: (z[flips], sum(flips)))
    return best if z[best] <= min(_BELIEVED, z[UNTURNED] - _MARGIN) else UNTURNED
