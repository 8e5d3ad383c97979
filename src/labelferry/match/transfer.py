"""Carry labels and images from the moving case to the fixed one (end of paper 2.2)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from labelferry.match.affine import moved
from labelferry.match.case import TargetCase
from labelferry.volume import (
    Grid,
    Segmentation,
    Volume,
    largest_share,
    resample,
    resample_labels,
    smoothed,
)

_SMOOTHING_MM = 5.0


def carry(
    labels: Segmentation,
    fixed: Grid,
    matrix: NDArray[np.float64],
    shift: NDArray[np.float32] | None = None,
) -> Segmentation:
    """The moving case's labels on the fixed grid, uint8.

    ``matrix`` maps fixed world to moving world; ``shift`` is that of a ``Deformation``. Each
    organ's mask is interpolated linearly through the composed mapping, once, and the largest share
    wins; outside the moving image is background.
    """
    if shift is None:
        return resample_labels(moved(labels, matrix), fixed)
    shares = carried_shares(labels, fixed, matrix, shift)
    return Segmentation(largest_share(shares, fixed.shape), fixed)


def carried_shares(
    labels: Segmentation,
    fixed: Grid,
    matrix: NDArray[np.float64],
    shift: NDArray[np.float32] | None = None,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Each organ's share of every voxel of the fixed grid, in [0, 1], one organ at a time."""
    places = _places(labels.grid, fixed, matrix, shift)
    for organ in sorted(labels.held):
        yield organ, _sampled(np.asarray(labels.array == organ, np.float32), places)


def carry_image(
    image: Volume,
    fixed: Grid,
    matrix: NDArray[np.float64],
    shift: NDArray[np.float32] | None = None,
) -> Volume:
    """The moving case's image on the fixed grid, float32; 0 outside the moving image."""
    if shift is None:
        return resample(moved(image, matrix), fixed, fill=0.0)
    places = _places(image.grid, fixed, matrix, shift)
    return Volume(_sampled(np.asarray(image.array, np.float32), places), fixed)


def _places(
    moving: Grid, fixed: Grid, matrix: NDArray[np.float64], shift: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """(3, x, y, z): the index in the moving image where each voxel of the fixed grid looks."""
    index = np.indices(fixed.shape, np.float32)
    if shift is not None:
        index += shift
    inner = (np.linalg.inv(moving.affine) @ matrix @ fixed.affine).astype(np.float32)
    return np.asarray(
        np.tensordot(inner[:3, :3], index, axes=1) + inner[:3, 3][:, None, None, None]
    )


def _sampled(array: NDArray[np.float32], places: NDArray[np.float32]) -> NDArray[np.float32]:
    sampled = ndimage.map_coordinates(array, places, order=1, mode="constant", cval=0.0)
    return np.asarray(sampled, np.float32)


def registered_volume(case: TargetCase, space: str) -> Volume:
    """A or B of eq. 6 for one case: what ``MatchConfig.space`` says is laid on each other."""
    if space == "plain":
        return case.image
    if space == "anatomy":
        return case.anatomy
    return smoothed_masks(case)


def smoothed_masks(case: TargetCase) -> Volume:
    """Half the body's mask and half that of all organs, smoothed by 5 mm: float32 in [0, 1]."""
    array = 0.5 * np.asarray(case.body.array, np.float32)
    array += 0.5 * np.asarray(case.labels.array > 0, np.float32)
    return case.body.with_array(smoothed(array, _SMOOTHING_MM, case.body.grid))
