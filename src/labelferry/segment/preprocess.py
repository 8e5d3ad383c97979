"""nnU-Net's preprocessing of one case that already lies on the working grid."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelferry.errors import UserError

BoundingBox = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


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
) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """The same for training, with labels (z, y, x); -1 marks voxels outside the image."""
    data, labels_out, _ = _run(channels, labels, plans)
    return data, labels_out


def _run(
    channels: NDArray[np.float32], labels: NDArray[np.uint8] | None, plans: dict[str, Any]
) -> tuple[NDArray[np.float32], NDArray[np.int8], BoundingBox]:
    from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(plans)
    (name,) = plans["configurations"]
    configuration = manager.get_configuration(name)
    seg = None if labels is None else labels[None].astype(np.int16)
    if not channels.any():
        raise UserError("the image is zero everywhere: there is nothing to learn from or to see")
    data, seg, box = crop_to_nonzero(channels.astype(np.float32), seg)
    preprocessor = DefaultPreprocessor(verbose=False)
    data = preprocessor._normalize(
        data, seg, configuration, manager.foreground_intensity_properties_per_channel
    )
    (z, y, x) = ((int(lo), int(hi)) for lo, hi in box)
    return np.ascontiguousarray(data, np.float32), seg[0].astype(np.int8), (z, y, x)


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
