"""What every protocol shares: how it reads a case, and how one organ is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from labelferry.evaluate.boxes import EMPTY, around, boxes
from labelferry.evaluate.nearest import Mask, Spacing
from labelferry.evaluate.overlap import dice
from labelferry.evaluate.scores import Score
from labelferry.evaluate.surface import surface_distances
from labelferry.organs import LabelScheme, OrganSet
from labelferry.volume import Grid, Segmentation

ScoreCase = Callable[
    [Segmentation | None, Segmentation, frozenset[int], OrganSet], dict[str, Score]
]
"""From a prediction (None: there is none) on the grid of the truth, the truth, and the ids that the
truth annotates, to the scores by organ name, in the order of the ids."""


@dataclass(frozen=True)
class Protocol:
    """The rules by which a case is read and scored. It can be called as its ``score``."""

    name: str
    score: ScoreCase = field(repr=False)
    read_truth: Callable[[Path, OrganSet, LabelScheme | None], Segmentation] = field(repr=False)
    """The truth; the last argument says how its values are numbered (None: by the organs' ids)."""
    read_prediction: Callable[[Path, Grid, OrganSet], Segmentation] = field(repr=False)
    """The prediction on the truth's grid; raises ``UserError`` where it does not lie there."""
    check_headers: Callable[[Path, Path], None] | None = field(default=None, repr=False)
    """Raises ``UserError`` where the files of a prediction and its truth contradict each other."""
    every_organ: bool = False
    """Whether each case annotates every organ, whatever its table says."""

    def __call__(
        self,
        prediction: Segmentation | None,
        truth: Segmentation,
        annotated: frozenset[int],
        organs: OrganSet,
    ) -> dict[str, Score]:
        """The scores of one case."""
        return self.score(prediction, truth, annotated, organs)


@dataclass(frozen=True, eq=False)
class Pair:
    """One organ as predicted and as it is, in the box round both; empty where it is in neither."""

    prediction: Mask = field(repr=False)
    truth: Mask = field(repr=False)

    def on(self, axis: int, start: int, stop: int) -> Pair:
        """The same organ on the slices ``start`` to ``stop`` (exclusive) along an axis."""
        part = (slice(None),) * axis + (slice(start, stop),)
        return Pair(self.prediction[part], self.truth[part])

    def range(self, axis: int) -> tuple[int, int]:
        """First and last slice of the truth along an axis; it must not be empty."""
        others = tuple(other for other in range(3) if other != axis)
        found = np.flatnonzero(self.truth.any(axis=others))
        return int(found[0]), int(found[-1])

    def voxels(self) -> tuple[int, int]:
        """Number of voxels, predicted and true."""
        return int(np.count_nonzero(self.prediction)), int(np.count_nonzero(self.truth))

    def measure(
        self, spacing: Spacing, tolerance_mm: float
    ) -> tuple[float | None, float | None, float | None]:
        """DSC, NSD, and HD95 in mm; NSD and HD95 are undefined with an empty mask."""
        predicted, true = self.voxels()
        if not predicted or not true:
            return dice(self.prediction, self.truth), None, None
        distances = surface_distances(self.prediction, self.truth, spacing)
        return (
            dice(self.prediction, self.truth),
            distances.within(tolerance_mm),
            distances.hausdorff(),
        )


def pairs(
    prediction: Segmentation | None, truth: Segmentation, organs: frozenset[int]
) -> Iterator[tuple[int, Pair]]:
    """Each of ``organs`` with its masks, one after the other (the memory of one organ)."""
    most = max(organs, default=0)
    true = boxes(truth.array, most)
    predicted = {} if prediction is None else boxes(prediction.array, most)
    for organ in sorted(organs):
        found = [side[organ] for side in (predicted, true) if organ in side]
        box = around(found[0], found[-1]) if found else EMPTY
        there = truth.array[box] == organ
        if prediction is None:
            yield organ, Pair(np.zeros_like(there), there)
        else:
            yield organ, Pair(prediction.array[box] == organ, there)


def volumes(voxels: tuple[int, int], grid: Grid, *, predicted: bool) -> tuple[float | None, float]:
    """Volumes in mL of ``Pair.voxels``; the first is undefined where nothing was ``predicted``."""
    mine, true = (number * grid.voxel_mm3 / 1000 for number in voxels)
    return mine if predicted else None, true
