"""Carry labels and images from the moving case to the fixed one (end of paper 2.2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from labelferry.match.affine import moved
from labelferry.match.case import TargetCase
from labelferry.volume import Grid, Segmentation, Volume, resample, resample_labels

_SMOOTHING_MM = 5.0


def carry(labels: Segmentation, fixed: Grid, matrix: NDArray[np.float64]) -> Segmentation:
    """The moving case's labels on the fixed grid, uint8.

    ``matrix`` maps fixed world to moving world. Each organ's mask is interpolated linearly through
    the composed affine, once, and the largest share wins; outside the moving image is background.
    """
    return resample_labels(moved(labels, matrix), fixed)


def carry_image(image: Volume, fixed: Grid, matrix: NDArray[np.float64]) -> Volume:
    """The moving case's image on the fixed grid, float32; 0 outside the moving image."""
    return resample(moved(image, matrix), fixed, fill=0.0)


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
    sigma = [_SMOOTHING_MM / mm for mm in case.body.grid.spacing]
    return case.body.with_array(ndimage.gaussian_filter(array, sigma, mode="nearest"))
