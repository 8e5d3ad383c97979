"""Which voxels the student sees: the least work at which its labels lose little (``auto``; ours).

Work is counted and loss measured before anything is trained, and without truth: the shares that
the organs of pseudo-labels have of such voxels are brought back and compared with these labels. No
network of these voxels can do better on them; what it does worse besides is not in that. A narrower
network cannot be judged so: the width is the configuration's.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from labelferry.evaluate.overlap import dice
from labelferry.predict.window import windows
from labelferry.segment.config import NetworkConfig
from labelferry.segment.flop import window_flop
from labelferry.segment.plans import topology
from labelferry.volume import Segmentation, through_grid

Spacing = tuple[float, float, float]
Lost = Mapping[int, float]
"""1 − DSC of each organ."""

SCHEMA = 1
_STEP = 2**0.25
_COARSEST = 2.0
"""The ladder ends at so many times the coarsest working axis."""
_LEAST_PATCH = 4


@dataclass(frozen=True)
class Setting:
    """What all candidates have in common."""

    network: NetworkConfig
    """The configured one; a candidate differs in its patch."""
    working: Spacing
    """The run's voxels, mm, (x, y, z)."""
    extents: Sequence[Spacing]
    """Size of each image of the cohort, mm, (x, y, z)."""
    images: int
    """Input channels, a 2-D network's neighbours not counted."""
    classes: int
    step: float
    """Of the windows, as in ``PredictConfig``."""


@dataclass(frozen=True)
class Candidate:
    """A student's voxels and window, and what an image costs with them."""

    spacing: Spacing
    """mm, (x, y, z)."""
    patch: tuple[int, ...]
    """Voxels, (z, y, x) or (y, x), as ``NetworkConfig`` takes it."""
    windows: float
    """Of an image, in the mean over the cohort; none left out."""
    gflop: float
    """Of all these windows."""


@dataclass(frozen=True)
class Choice:
    """What the search has chosen, and what it has looked at."""

    chosen: Candidate
    working: Candidate
    """The voxels of the run, with the configured patch."""
    candidates: tuple[Candidate, ...]
    """By rising work."""
    lost: Mapping[Spacing, Lost]
    """Of the spacings that were looked at."""
    allowed: float
    """Points of DSC."""

    @property
    def gain(self) -> float:
        """How many times less work."""
        return self.working.gflop / self.chosen.gflop

    def to_json(self, names: Mapping[int, str]) -> dict[str, Any]:
        """The table of candidates, JSON-able; ``names`` of the organs."""
        return {
            "schema_version": SCHEMA,
            "allowed_points": self.allowed,
            "working": self._row(self.working, names),
            "candidates": [self._row(one, names) for one in self.candidates],
        }

    def _row(self, one: Candidate, names: Mapping[int, str]) -> dict[str, Any]:
        lost = self.lost.get(one.spacing)
        return {
            "spacing_mm": one.spacing,
            "patch": one.patch,
            "windows": round(one.windows, 2),
            "gflop": round(one.gflop, 3),
            "lost_points": None if lost is None else round(points(lost), 3),
            "lost_by_organ": {names[k]: round(100 * v, 2) for k, v in (lost or {}).items()},
            "chosen": one == self.chosen,
        }


def choose_spacing(setting: Setting, lost: Callable[[Spacing], Lost], *, allowed: float) -> Choice:
    """The candidate of least work whose spacing loses at most ``allowed`` points of DSC.

    ``lost`` is asked at most once a spacing, and never of the working one, which loses nothing.
    Larger voxels are taken to lose more, so that each answer settles half of the ladder's rest.
    """
    seen: dict[Spacing, Lost] = {setting.working: {}}

    def too_coarse(spacing: Spacing) -> bool:
        if spacing not in seen:
            seen[spacing] = lost(spacing)
        return points(seen[spacing]) > allowed

    found, steps = candidates(setting), ladder(setting.working)
    fine = steps[: bisect_left(steps, True, lo=1, key=too_coarse)]
    one = next(one for one in found if one.spacing in fine and not too_coarse(one.spacing))
    base = candidate(setting, setting.working, setting.network.patch)
    return Choice(one, base, tuple(found), seen, allowed)


def points(lost: Lost) -> float:
    """Points of DSC lost in the mean over organs; 0 without any."""
    return 100 * statistics.mean(lost.values()) if lost else 0.0


def ladder(working: Spacing) -> list[Spacing]:
    """Ever larger voxels: the finest axes first, until all are alike, then all together."""
    finest, coarsest = min(working), max(working)
    count = math.floor(math.log(_COARSEST * coarsest / finest, _STEP) + 1e-9)
    floors = [finest * _STEP**n for n in range(1, count + 1)]
    steps = [working]
    for floor in floors:
        x, y, z = (max(mm, round(floor, 2)) for mm in working)
        steps.append((x, y, z))
    return steps


def candidates(setting: Setting) -> list[Candidate]:
    """All that is thought of, by rising work; of equal work the finer voxels first.

    At each spacing the patch has the configured millimetres, or as many voxels: on each axis, or
    in all, where what one axis of the image does not need goes to the others. So no network sees
    less round a voxel, and no step of its training is larger, but for the rounding of patches. None
    exceeds the image, be it the median one or the largest.
    """
    patch, axes = setting.network.patch, setting.network.dimensions
    found = set()
    for spacing in ladder(setting.working):
        mm, old = spacing[::-1][-axes:], setting.working[::-1][-axes:]
        as_far = [math.ceil(n * a / b) for n, a, b in zip(patch, old, mm, strict=True)]
        for measure in (np.median, np.max):
            size = _shape(measure(setting.extents, axis=0).tolist(), spacing)[-axes:]
            for wanted in (as_far, patch, _spread(patch, size)):
                fits = (max(_LEAST_PATCH, min(n, m)) for n, m in zip(wanted, size, strict=True))
                found.add(candidate(setting, spacing, tuple(fits)))
    return sorted(found, key=lambda one: (one.gflop, one.spacing, one.patch))


def _spread(patch: Sequence[int], size: Sequence[int]) -> list[int]:
    """A patch of as many voxels within an image of ``size``, its first axes the first to grow."""
    spread = [min(n, m) for n, m in zip(patch, size, strict=True)]
    for axis, whole in enumerate(size):
        others = math.prod(spread) // spread[axis]
        spread[axis] = min(whole, math.prod(patch) // others)
    return spread


def candidate(setting: Setting, spacing: Spacing, patch: tuple[int, ...]) -> Candidate:
    """What an image costs with these voxels and this patch."""
    network = setting.network.model_copy(update={"patch": patch})
    rounded = topology(network, spacing[::-1])[2]
    sizes = (1, *rounded)[-3:]
    counts = []
    for extent in setting.extents:
        shape = [max(n, m) for n, m in zip(_shape(extent, spacing), sizes, strict=True)]
        counts.append(len(windows(shape, rounded, setting.step)))
    flop = window_flop(network, spacing[::-1], setting.images, setting.classes)
    count = statistics.mean(counts)
    return Candidate(spacing, patch, count, count * flop / 1e9)


def round_trip(labels: Segmentation, spacing: Spacing, organs: Iterable[int]) -> dict[int, float]:
    """1 − DSC of each of the organs that ``labels`` hold, after a way to ``spacing`` and back."""
    back = through_grid(labels, labels.grid.resampled(spacing))
    lost = {}
    for organ in sorted(labels.held.intersection(organs)):
        share = dice(back.array == organ, labels.array == organ)
        assert share is not None, "the organ is in the labels"
        lost[organ] = 1 - share
    return lost


def mean_lost(cases: Iterable[Lost]) -> dict[int, float]:
    """Each organ's mean over the cases that hold it."""
    gathered: dict[int, list[float]] = {}
    for lost in cases:
        for organ, value in lost.items():
            gathered.setdefault(organ, []).append(value)
    return {organ: statistics.mean(values) for organ, values in sorted(gathered.items())}


def _shape(extent: Sequence[float], spacing: Spacing) -> list[int]:
    """Voxels (z, y, x) of an image."""
    return [max(1, round(mm / step)) for mm, step in zip(extent, spacing, strict=True)][::-1]
