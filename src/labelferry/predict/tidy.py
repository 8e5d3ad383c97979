"""What holds of an organ whatever the network says: one piece, and of one signal (both ours)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from labelferry.organs import OrganSet
from labelferry.predict.config import PredictConfig
from labelferry.volume import Volume, smoothed

_NOISE_MM = 2.0
"""Noise and small vessels below this size darken no organ."""


def tidy(
    labels: NDArray[np.uint8], image: Volume, organs: OrganSet, config: PredictConfig
) -> NDArray[np.uint8]:
    """``labels`` (x, y, z) without what ``config`` says that no organ is.

    ``image``: the prepared image in [0, 1], over the same extent with voxels of any size.
    """
    if config.solid_signal:
        labels = drop_dark(labels, image, organs, config.solid_signal)
    return keep_largest(labels) if config.largest_component else labels


def drop_dark(
    labels: NDArray[np.uint8], image: Volume, organs: OrganSet, share: float
) -> NDArray[np.uint8]:
    """Without what is darker than ``share`` of the median of a solid organ that it is labelled as.

    Trained on any contrast, a network knows an organ by its shape and neighbours, and draws it on
    into lung, fat without signal or gas. Holes of an axial slice stay: cysts, vessels, the pelvis.
    """
    boxes = ndimage.find_objects(labels, max_label=len(organs))
    found = [(o.id, box) for o, box in zip(organs, boxes, strict=True) if o.solid and box]
    if not found:
        return labels
    seen = _sampled(smoothed(image.array, _NOISE_MM, image.grid), labels.shape)
    out = labels.copy()
    for organ, box in found:
        own = labels[box] == organ
        bright = own & (seen[box] >= share * np.median(seen[box][own]))
        for z in range(bright.shape[2]):
            bright[:, :, z] = ndimage.binary_fill_holes(bright[:, :, z])
        out[box][own & ~bright] = 0
    return out


def keep_largest(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Only the largest connected part (faces touch) of each organ; any axes."""
    out = np.zeros_like(labels)
    for organ, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        parts, count = ndimage.label(labels[box] == organ)
        sizes = np.bincount(parts.ravel(), minlength=count + 1)
        sizes[0] = 0
        out[box][parts == sizes.argmax()] = organ
    return out


def _sampled(array: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """``array`` at the voxel centres of a grid of ``shape`` over its extent, linearly."""
    if array.shape == shape:
        return array
    whole = torch.from_numpy(np.ascontiguousarray(array, np.float32))[None, None]
    return functional.interpolate(whole, shape, mode="trilinear", align_corners=False)[0, 0].numpy()
