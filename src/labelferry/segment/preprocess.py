"""nnU-Net's preprocessing of one case that already lies on the working grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from labelferry.errors import UserError

BoundingBox = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
Normalise = Callable[[NDArray[np.float32], NDArray[Any] | None], NDArray[np.float32]]
_OUTSIDE = -1  # nnU-Net's label of voxels outside the image


def preprocess(
    channels: NDArray[np.float32], plans: dict[str, Any]
) -> tuple[NDArray[np.float32], BoundingBox]:
    """Crop to non-zero and normalise, exactly as nnU-Net does in training and prediction.

    ``channels`` is (c, z, y, x) on the working grid, whose spacing is that of the plans, so that
    nnU-Net's resampling has nothing to do. Returns the array and the box that it covers.
    """
    data, _, box = _run(channels, None, plans)
    return data, box


def preprocess_example(
    channels: NDArray[np.float32], labels: NDArray[np.uint8], plans: dict[str, Any]
) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
    """The same for training, with labels (z, y, x); -1 marks voxels outside the image."""
    data, labels_out, _ = _run(channels, labels, plans)
    return data, labels_out


def _run(
    channels: NDArray[np.float32], labels: NDArray[np.uint8] | None, plans: dict[str, Any]
) -> tuple[NDArray[np.float32], NDArray[np.int16], BoundingBox]:
    # the steps of nnU-Net's preprocessor one by one: to load that itself takes longer than a case
    if not channels.any():
        raise UserError("the image is zero everywhere: there is nothing to learn from or to see")
    seen: NDArray[np.bool_] = np.any(channels, axis=0)
    box = nonzero_box(seen)
    inside = tuple(slice(*part) for part in box)
    (configuration,) = plans["configurations"].values()
    masks = configuration["use_mask_for_norm"]
    if labels is None and not any(masks):
        seg = np.zeros((0, 0, 0), np.int16)  # nothing asks for it
    else:
        image = ndimage.binary_fill_holes(seen[inside])
        seg = np.zeros(image.shape, np.int16) if labels is None else labels[inside].astype(np.int16)
        seg[(seg == 0) & ~image] = _OUTSIDE
    data = np.array(channels[(slice(None), *inside)], np.float32, order="C")
    for channel, name in enumerate(configuration["normalization_schemes"]):
        intensities = plans["foreground_intensity_properties_per_channel"][str(channel)]
        data[channel] = normaliser(name, masks[channel], intensities)(data[channel], seg)
    return data, seg, box


def nonzero_box(image: NDArray[Any]) -> BoundingBox:
    """The smallest box (start, stop) round the voxels (z, y, x) that are not zero.

    All of an image that is zero everywhere.
    """
    seen = np.asarray(image if image.dtype == np.bool_ else image != 0)
    plane = np.any(seen, axis=0)
    lines = np.any(seen, axis=(1, 2)), np.any(plane, axis=1), np.any(plane, axis=0)
    found = [np.flatnonzero(line) for line in lines]
    if not len(found[0]):
        found = [np.arange(size) for size in image.shape]
    z, y, x = ((int(index[0]), int(index[-1]) + 1) for index in found)
    return z, y, x


def normaliser(name: str, masked: bool, intensities: Mapping[str, float]) -> Normalise:
    """nnU-Net's own normalisation of one channel, by its name: (image, labels) → image.

    Where it is ``masked`` it counts the voxels alone whose label is not negative.
    """
    from nnunetv2.preprocessing.normalization import default_normalization_schemes as schemes

    known = (
        schemes.CTNormalization,
        schemes.ZScoreNormalization,
        schemes.NoNormalization,
        schemes.RescaleTo01Normalization,
    )
    (scheme,) = (scheme for scheme in known if scheme.__name__ == name)
    run: Normalise = scheme(use_mask_for_norm=masked, intensityproperties=dict(intensities)).run
    return run


def add_context(data: NDArray[np.float32], context: int) -> NDArray[np.float32]:
    """Give each slice its ``context`` neighbours on both sides as further channels.

    (c, z, y, x) → (c·(2·context+1), z, y, x), from the lowest neighbour to the highest; beyond the
    first and the last slice these are repeated.
    """
    if not context:
        return data
    depth = data.shape[1]
    index = np.arange(depth)
    shifted = [
        data[:, np.clip(index + offset, 0, depth - 1)] for offset in range(-context, context + 1)
    ]
    return np.concatenate(shifted)
