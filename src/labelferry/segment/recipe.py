"""How nnU-Net brings a whole image to its network, and labels back, without its detours.

The steps are those of its preprocessor and its export: transpose, crop to what is not zero,
normalise, resample; and all of it undone. No label map is made up and resampled on the way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from labelferry.segment.preprocess import BoundingBox, nonzero_box, normaliser
from labelferry.segment.resampling import Resampling, resample_image, resampled_shape


@dataclass(frozen=True, eq=False)
class Ready:
    """An image as the network sees it, and the way back."""

    data: NDArray[np.float32]
    """(1, z, y, x), axes in the plans' order."""
    spacing: tuple[float, ...]
    """Of ``data``, mm."""
    shape: tuple[int, ...]
    """Voxels of the cropped image before it was resampled."""
    old_spacing: tuple[float, ...]
    """Of the cropped image, mm."""
    box: BoundingBox
    """Where the cropped image lies in the whole one."""
    whole: tuple[int, ...]
    """Voxels of the whole image, axes in the plans' order."""
    back: tuple[int, ...]
    """The order of the axes that undoes the plans' order."""

    def restore(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Labels of ``shape`` on the whole image, with its own order of axes."""
        out = np.zeros(self.whole, np.uint8)
        out[tuple(slice(*part) for part in self.box)] = labels
        return out.transpose(self.back)


@dataclass(frozen=True)
class Recipe:
    """What plans of nnU-Net say about one channel."""

    patch: tuple[int, ...]
    """The network's window, (z, y, x) or (y, x)."""
    spacing: tuple[float, ...]
    """The network's voxels in mm; a 2-D network takes the slices as they are."""
    scheme: str
    """The name of the normalisation."""
    masked: bool
    """Whether it counts the filled non-zero voxels alone."""
    intensities: Mapping[str, float]
    """Of the organs of the data set, for the CT scheme."""
    image: Resampling
    scores: Resampling
    order: tuple[int, ...]
    """The image's axes in the order in which the network sees them."""
    back: tuple[int, ...]

    def prepare(self, image: NDArray[np.float32], spacing: Sequence[float]) -> Ready:
        """An image (z, y, x) with ``spacing`` in mm as the network sees it."""
        seen = image.transpose(self.order)
        old_spacing = tuple(float(spacing[axis]) for axis in self.order)
        box = nonzero_box(seen)
        part = np.array(seen[tuple(slice(*part) for part in box)], np.float32, order="C")
        normalise = normaliser(self.scheme, self.masked, self.intensities)
        part = normalise(part, _outside(part) if self.masked else None)
        new_spacing = (*old_spacing[: 3 - len(self.spacing)], *self.spacing)
        shape = resampled_shape(part.shape, old_spacing, new_spacing)
        data = resample_image(part, shape, old_spacing, new_spacing, self.image)
        return Ready(data[None], new_spacing, part.shape, old_spacing, box, seen.shape, self.back)


def recipe_of(plans: Mapping[str, Any], configuration: Mapping[str, Any]) -> Recipe:
    """The recipe in checked plans and one of their configurations, inheritance resolved."""
    intensities = plans.get("foreground_intensity_properties_per_channel", {})
    return Recipe(
        patch=tuple(int(n) for n in configuration["patch_size"]),
        spacing=tuple(float(mm) for mm in configuration["spacing"]),
        scheme=configuration["normalization_schemes"][0],
        masked=bool(configuration["use_mask_for_norm"][0]),
        intensities=intensities.get("0", {}),
        image=Resampling.of(configuration["resampling_fn_data_kwargs"]),
        scores=Resampling.of(configuration["resampling_fn_probabilities_kwargs"]),
        order=tuple(plans["transpose_forward"]),
        back=tuple(plans["transpose_backward"]),
    )


def _outside(part: NDArray[np.float32]) -> NDArray[np.int8]:
    """nnU-Net's label map of an image without one: -1 outside the filled non-zero voxels."""
    return np.where(ndimage.binary_fill_holes(part != 0), 0, -1).astype(np.int8)
