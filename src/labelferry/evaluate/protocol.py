"""The rules by which a case is scored. A protocol is a function; ``PROTOCOLS`` names them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray
from scipy import ndimage

from labelferry.errors import UserError
from labelferry.evaluate.overlap import dice
from labelferry.evaluate.results import UNDEFINED, ZERO, Score
from labelferry.evaluate.surface import nsd
from labelferry.organs import OrganSet
from labelferry.volume import Grid, Segmentation, canonical_grid, reorient

Protocol = Callable[[Segmentation | None, Segmentation, frozenset[int], OrganSet], dict[str, Score]]
"""From a prediction (None: there is none) on the grid of the truth, the truth, and the ids that the
truth annotates, to the scores by organ name."""

_SLACK_MM = 1e-5
"""Headers hold 32-bit spacings: five voxels of 0.4 mm must not lie beyond 2 mm by rounding."""


def strict(
    prediction: Segmentation | None,
    truth: Segmentation,
    annotated: frozenset[int],
    organs: OrganSet,
) -> dict[str, Score]:
    """Scores of the annotated organs of one case, by the rules of FLARE24.

    * an organ that the truth does not annotate is left out: it is unknown, not absent;
    * no prediction: 0, for every annotated organ;
    * empty in both: undefined, and left out of every mean;
    * empty in one of them: 0;
    * else DSC, and NSD at the organ's own tolerance in mm.

    Voxels are taken as boxes of the grid's spacing; a sheared grid is scored as if it were not.
    """
    if prediction is None:
        return {organs[organ].name: ZERO for organ in sorted(annotated)}
    predicted, true = _boxes(prediction.array), _boxes(truth.array)
    scores = {}
    for organ in sorted(annotated):
        name = organs[organ].name
        mine, other = predicted.get(organ), true.get(organ)
        if mine is None and other is None:
            scores[name] = UNDEFINED
        elif mine is None or other is None:
            scores[name] = ZERO
        else:
            box = _around(mine, other)
            masks = prediction.array[box] == organ, truth.array[box] == organ
            tolerance = organs[organ].tolerance_mm + _SLACK_MM
            scores[name] = Score(dice(*masks), nsd(*masks, truth.grid.spacing, tolerance))
    return scores


PROTOCOLS: Mapping[str, Protocol] = {"strict": strict}


def find_protocol(name: str) -> Protocol:
    """The protocol of a name; another name is refused."""
    if name not in PROTOCOLS:
        raise UserError("unknown protocol", seen=name, allowed=", ".join(PROTOCOLS))
    return PROTOCOLS[name]


def on_grid_of(prediction: Segmentation, truth: Grid) -> Segmentation:
    """The prediction with its axes in the order and direction of the truth's grid.

    Raises ``UserError`` with both geometries where the two do not cover the same voxels: nothing is
    resampled, since that would score the resampling.
    """
    if prediction.grid.matches(truth):
        return Segmentation(prediction.array, truth)
    if canonical_grid(prediction.grid).matches(canonical_grid(truth)):
        return reorient(prediction, truth)
    raise UserError(
        "the prediction lies on another grid than the truth",
        seen=describe(prediction.grid),
        allowed=describe(truth),
        fix="predict on the grid of the image that the truth was drawn on",
    )


def describe(grid: Grid) -> str:
    """A grid in words: shape, spacing, axes and place of the first voxel."""
    shape = "×".join(str(size) for size in grid.shape)
    spacing = "×".join(f"{size:.5g}" for size in grid.spacing)
    origin = ", ".join(f"{value:.5g}" for value in grid.affine[:3, 3])
    return f"shape {shape}, spacing {spacing} mm, axes {grid.axes}, first voxel at ({origin}) mm"


def _boxes(labels: NDArray[Any]) -> dict[int, tuple[slice, ...]]:
    """The box round each organ that is there."""
    found = ndimage.find_objects(labels)
    return {n: box for n, box in enumerate(found, start=1) if box is not None}


def _around(a: tuple[slice, ...], b: tuple[slice, ...]) -> tuple[slice, ...]:
    """The smallest box round two boxes."""
    return tuple(
        slice(min(p.start, q.start), max(p.stop, q.stop)) for p, q in zip(a, b, strict=True)
    )
