"""The protocol ``flare24``: what the challenge's own script finds, its quirks included."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from labelferry.errors import UserError
from labelferry.evaluate.scores import Score
from labelferry.evaluate.scoring import Pair, Protocol, pairs, volumes
from labelferry.io.nifti import read_bytes
from labelferry.organs import LabelScheme, OrganSet, convert_labels
from labelferry.volume import Grid, Segmentation

_LEAST_DICE = 0.2
_DECIMALS = 4
_Z = 2


def score(
    prediction: Segmentation | None,
    truth: Segmentation,
    annotated: frozenset[int],
    organs: OrganSet,
) -> dict[str, Score]:
    """Scores of one case, by the rules of the script.

    * both masks empty: DSC = NSD = 1; exactly one empty: 0 and 0;
    * a tube (aorta, inferior vena cava, esophagus) is scored on slices first:last of the truth
      along the third axis of the array, without the last one (where the script stops, on a truth of
      one slice, it is scored on that slice);
    * a DSC below 0.2 makes NSD 0;
    * DSC and NSD are rounded to four decimals;
    * no prediction: 0 and 0 for every organ (the script stops there).

    HD95 and the volumes are not part of the script and are not rounded.
    """
    scores = {}
    for organ, pair in pairs(prediction, truth, annotated):
        rules, grid = organs[organ], truth.grid
        predicted, true = pair.voxels()
        sizes = volumes((predicted, true), grid, predicted=prediction is not None)
        if prediction is None or bool(predicted) != bool(true):
            found = Score(0.0, 0.0, None, *sizes)
        elif not predicted:
            found = Score(1.0, 1.0, None, *sizes)
        else:
            if rules.tube:
                pair = _without_the_last_slice(pair)
            dsc, nsd, hd95 = pair.measure(grid.spacing, rules.tolerance_mm)
            assert dsc is not None  # the truth's first slice is always scored
            nsd = 0.0 if nsd is None or dsc < _LEAST_DICE else nsd
            found = Score(_rounded(dsc), _rounded(nsd), hd95, *sizes)
        scores[rules.name] = found
    return scores


def _without_the_last_slice(pair: Pair) -> Pair:
    first, last = pair.range(_Z)
    return pair.on(_Z, first, max(last, first + 1))


def _rounded(value: float) -> float:
    return float(np.round(value, _DECIMALS))


def _read_truth(path: Path, organs: OrganSet, numbering: LabelScheme | None) -> Segmentation:
    found = read_bytes(path)
    if numbering is None:
        return found
    return found.with_array(convert_labels(found.array, numbering, organs))


def _read_prediction(path: Path, truth: Grid, organs: OrganSet) -> Segmentation:
    """The prediction's array on the truth's grid: only the shapes must agree."""
    prediction = read_bytes(path)
    if prediction.grid.shape != truth.shape:
        raise UserError(
            "the prediction has another shape than the truth",
            seen="×".join(map(str, prediction.grid.shape)),
            allowed="×".join(map(str, truth.shape)),
            fix="predict on the grid of the image that the truth was drawn on",
        )
    return Segmentation(prediction.array, truth)


flare24 = Protocol("flare24", score, _read_truth, _read_prediction, every_organ=True)
