"""Whether the organs of a label map lie as its header says: right of, before and above each other.

A mirrored or wrongly labelled file looks right slice by slice; only the places of the organs to
each other tell.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from labelferry.organs import OrganSet
from labelferry.volume import Segmentation

Point = NDArray[np.float64]

_LEAST_MM = 15.0
"""Organs nearer to each other along an axis than this say nothing."""
_ORDER: tuple[tuple[int, str, str], ...] = (
    (0, "liver", "spleen"),
    (0, "liver", "stomach"),
    (0, "gallbladder", "spleen"),
    (0, "gallbladder", "left kidney"),
    (0, "right kidney", "left kidney"),
    (0, "right kidney", "spleen"),
    (0, "right adrenal gland", "left adrenal gland"),
    (1, "liver", "right kidney"),
    (1, "stomach", "left kidney"),
    (1, "stomach", "aorta"),
    (1, "pancreas", "aorta"),
    (1, "gallbladder", "right kidney"),
    (1, "pancreas", "left kidney"),
    (2, "liver", "right kidney"),
    (2, "liver", "left kidney"),
    (2, "spleen", "left kidney"),
    (2, "spleen", "right kidney"),
    (2, "right adrenal gland", "right kidney"),
    (2, "left adrenal gland", "left kidney"),
    (2, "esophagus", "duodenum"),
    (2, "esophagus", "right kidney"),
    (2, "esophagus", "left kidney"),
    (2, "stomach", "duodenum"),
    (2, "spleen", "duodenum"),
)
"""Axis (R, A, S) and two organs: the first lies further along the axis than the second."""
_PREDICTED_PAIRS = 3
"""Labels that a network made may be wrong: it takes as many pairs to believe them."""
ONE_PIECE = 0.8
"""Share of an organ's voxels that its largest piece holds."""
SWAPPED = (
    "left and right are swapped",
    "front and back are swapped",
    "head and foot are swapped",
)
"""What is said of each axis (R, A, S)."""


def voxel_counts(
    labels: Segmentation, image: NDArray[np.float32] | None = None
) -> NDArray[np.float64]:
    """Number of voxels of each value 0…255; with an image, the sum of its intensities there."""
    total = np.zeros(256, np.float64)
    for z in range(labels.array.shape[2]):  # counting all at once takes eight times the memory
        plane = labels.array[:, :, z].ravel()
        weights = None if image is None else image[:, :, z].ravel()
        total += np.bincount(plane, weights=weights, minlength=256)
    return total


def centroids(labels: Segmentation, organs: OrganSet) -> dict[str, Point]:
    """The centre of each organ that a label map holds, in RAS mm."""
    array = labels.array
    held = [int(v) for v in np.flatnonzero(voxel_counts(labels)) if v in organs.ids]
    boxes = ndimage.find_objects(array)
    found = {}
    for value in held:
        box = boxes[value - 1]
        mask = array[box] == value
        index = [_mean_index(mask, axis) + box[axis].start for axis in range(3)]
        found[organs[value].name] = labels.grid.to_world(np.array(index))
    return found


def _mean_index(mask: NDArray[np.bool_], axis: int) -> float:
    counts = mask.sum(axis=tuple(other for other in range(3) if other != axis))
    return float(np.average(np.arange(len(counts)), weights=counts))


def contradictions(places: Mapping[str, Point]) -> list[str]:
    """What a label map says against its header or itself, in words; usually nothing.

    ``places`` are centres in RAS mm. Beside what :func:`turned` says, a pair of one organ's two
    sides that alone lies the wrong way round is called swapped labels.
    """
    said = turned(places)
    if any(SWAPPED[0] in text for text in said):
        return said
    wrong = [(first, second) for first, second, step in _steps(places, 0) if step < -_LEAST_MM]
    return said + [
        f"the {first} lies left of the {second}: are their labels swapped?"
        for first, second in wrong
        if first.startswith("right") and second.startswith("left")
    ]


def turned(places: Mapping[str, Point], least: int = 2) -> list[str]:
    """Which axes the organs' places say to be swapped in the header, in words.

    An axis is called swapped where at least ``least`` pairs of organs lie the wrong way round along
    it and none the right way.
    """
    said = []
    for axis, words in enumerate(SWAPPED):
        steps = _steps(places, axis)
        wrong = [(first, second) for first, second, step in steps if step < -_LEAST_MM]
        if len(wrong) >= least and all(step <= _LEAST_MM for _, _, step in steps):
            first, second = wrong[0]
            side = ("left of", "behind", "below")[axis]
            said.append(f"by the header, the {first} lies {side} the {second}: {words}")
    return said


def turned_in_prediction(
    labels: Segmentation, organs: OrganSet, believed: Collection[str] | None = None
) -> list[str]:
    """The same of labels that a network predicted (``believed``: of these organs alone)."""
    places = centroids(labels, organs)
    if believed is not None:
        places = {name: place for name, place in places.items() if name in believed}
    return turned_by_wholes(places, lambda name: _in_one_piece(labels, organs.named(name).id))


def turned_by_wholes(places: Mapping[str, Point], is_whole: Callable[[str], bool]) -> list[str]:
    """The same of places in a prediction, which may be wrong: it takes more pairs, and organs in
    one piece. ``is_whole`` is asked of each organ where places say anything at all."""
    if not turned(places, _PREDICTED_PAIRS):
        return []  # nearly always, and no organ need be taken apart
    whole = {name: place for name, place in places.items() if is_whole(name)}
    return turned(whole, _PREDICTED_PAIRS)


def _in_one_piece(labels: Segmentation, value: int) -> bool:
    parts, number = ndimage.label(labels.array == value)
    sizes = np.bincount(parts.ravel(), minlength=number + 1)[1:]
    return bool(sizes.max() >= ONE_PIECE * sizes.sum())


def _steps(places: Mapping[str, Point], axis: int) -> list[tuple[str, str, float]]:
    """How far the first organ of each pair lies beyond the second along an axis."""
    return [
        (first, second, float(places[first][axis] - places[second][axis]))
        for which, first, second in _ORDER
        if which == axis and first in places and second in places
    ]
