"""The protocol ``strict``, the default: FLARE24's measures without the script's quirks."""

from __future__ import annotations

from pathlib import Path

from labelferry.errors import UserError
from labelferry.evaluate.scores import Score
from labelferry.evaluate.scoring import Pair, Protocol, pairs, volumes
from labelferry.io.nifti import check_both_oriented, is_oriented, read_labels
from labelferry.organs import OrganSet
from labelferry.volume import Grid, Segmentation, canonical_grid, reorient

_SLACK_MM = 1e-5
"""Headers hold 32-bit spacings: five voxels of 0.4 mm must not lie beyond 2 mm by rounding."""


def score(
    prediction: Segmentation | None,
    truth: Segmentation,
    annotated: frozenset[int],
    organs: OrganSet,
) -> dict[str, Score]:
    """Scores of the annotated organs of one case.

    * an organ that the truth does not annotate is left out: it is unknown, not absent;
    * no prediction: 0, for every annotated organ;
    * empty in both: undefined, and left out of every mean;
    * empty in one of them: 0;
    * a tube (aorta, inferior vena cava, esophagus) is scored from the first to the last axial slice
      of the truth, both included: how far it is drawn is the annotator's choice;
    * else DSC, and NSD at the organ's own tolerance in mm.

    Volumes are those of the whole organs. Voxels are taken as boxes of the grid's spacing; a
    sheared grid is scored as if it were not.
    """
    scores = {}
    for organ, pair in pairs(prediction, truth, annotated):
        rules, grid = organs[organ], truth.grid
        predicted, true = pair.voxels()
        sizes = volumes((predicted, true), grid, predicted=prediction is not None)
        if prediction is None:
            scores[rules.name] = Score(0.0, 0.0, None, *sizes)
            continue
        if rules.tube and predicted and true:
            pair = _on_its_slices(pair, grid)
        dsc, nsd, hd95 = pair.measure(grid.spacing, rules.tolerance_mm + _SLACK_MM)
        if dsc is not None and nsd is None:
            nsd = 0.0
        scores[rules.name] = Score(dsc, nsd, hd95, *sizes)
    return scores


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


def _on_its_slices(pair: Pair, grid: Grid) -> Pair:
    """From the first to the last slice of the truth along the axis from foot to head."""
    axis = next(n for n, name in enumerate(grid.axes) if name in "SI")
    first, last = pair.range(axis)
    return pair.on(axis, first, last + 1)


def _read_prediction(path: Path, truth: Grid, organs: OrganSet) -> Segmentation:
    return on_grid_of(read_labels(path, organs), truth)


def _check_headers(prediction: Path, truth: Path) -> None:
    """Where one of the two has no orientation, its left side could be the other's right one."""
    known = {"prediction": is_oriented(prediction), "truth": is_oriented(truth)}
    check_both_oriented(known, "write both with the header of their image")


strict = Protocol("strict", score, read_labels, _read_prediction, check_headers=_check_headers)
