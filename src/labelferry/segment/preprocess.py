"""nnU-Net's preprocessing of one case that already lies on the working grid."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from labelferry.errors import UserError

BoundingBox = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
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
    filled = ndimage.binary_fill_holes(channels.any(axis=0))
    (z, y, x) = ((part.start, part.stop) for part in ndimage.find_objects(filled.view(np.uint8))[0])
    inside = (slice(*z), slice(*y), slice(*x))
    image = filled[inside]
    seg = np.zeros(image.shape, np.int16) if labels is None else labels[inside].astype(np.int16)
    seg[(seg == 0) & ~image] = _OUTSIDE
    data = channels[(slice(None), *inside)].astype(np.float32)
    return np.ascontiguousarray(_normalise(data, seg[None], plans)), seg, (z, y, x)


def _normalise(
    data: NDArray[np.float32], seg: NDArray[Any], plans: dict[str, Any]
) -> NDArray[np.float32]:
    """Each channel by nnU-Net's own scheme, as its preprocessor does."""
    from nnunetv2.preprocessing.normalization.default_normalization_schemes import (
        CTNormalization,
        ZScoreNormalization,
    )

    schemes = {scheme.__name__: scheme for scheme in (CTNormalization, ZScoreNormalization)}
    (configuration,) = plans["configurations"].values()
    for channel, name in enumerate(configuration["normalization_schemes"]):
        scheme = schemes[name](
            use_mask_for_norm=configuration["use_mask_for_norm"][channel],
            intensityproperties=plans["foreground_intensity_properties_per_channel"][str(channel)],
        )
        data[channel] = scheme.run(data[channel], seg[0])
    return data


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
