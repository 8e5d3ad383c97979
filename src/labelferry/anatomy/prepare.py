"""From a volume as it lies on the disk to the working grid, in plain and in anatomy space."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from labelferry.anatomy.body import body_mask
from labelferry.anatomy.config import AnatomyConfig
from labelferry.anatomy.intensity import check_contrast, scale_intensity
from labelferry.anatomy.space import anatomy_space
from labelferry.cases import Modality
from labelferry.errors import UserError
from labelferry.volume import (
    Box,
    Grid,
    Segmentation,
    Volume,
    bounding_box,
    canonical,
    crop,
    resample,
    resample_labels,
)


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image on the working grid; the three volumes share it."""

    image: Volume
    """Plain space: float32 in [0, 1], canonical axes."""
    anatomy: Volume
    """Anatomy space: float32 in [0, 1]."""
    body: Volume
    """Bool mask of the patient."""
    canonical: Grid
    """The canonical grid of the whole input."""
    box: Box
    """The body's box in ``canonical``; ``image.grid`` is
    ``canonical.cropped(box).resampled(spacing)``."""
    scaled: Volume | None = None
    """Plain space within ``box`` on the input's own voxels; None where a run's files are read."""


def prepare(
    volume: Volume, modality: Modality, config: AnatomyConfig, *, case: str | None = None
) -> Prepared:
    """Orient, crop to the body, scale, resample and filter a volume of any orientation.

    Intensities are clipped before resampling, and the gradient is taken after it, since it
    depends on the spacing. The result is a function of its arguments alone. Raises ``UserError``
    (naming ``case``) for an image without contrast and for a CT that is not in Hounsfield units.
    """
    check_contrast(volume.array, modality, case)
    whole = canonical(volume)
    mask = body_mask(whole.array, whole.grid.spacing, modality, case=case)
    box = bounding_box(mask, [math.ceil(config.margin_mm / mm) for mm in whole.grid.spacing])
    part = crop(whole, box)
    inside = mask[box.slices]
    try:
        scaled = scale_intensity(part.array, inside, modality, config)
    except UserError as error:
        raise UserError(error.what, case=case, seen=error.seen, fix=error.fix) from error
    grid = part.grid.resampled(config.spacing)
    image = np.clip(resample(part.with_array(scaled), grid).array, 0, 1).astype(np.float32)
    body = resample(part.with_array(inside.astype(np.float32)), grid).array > 0.5
    if not body.any():
        body = np.ones(grid.shape, bool)
    edges = anatomy_space(image, grid.spacing, body, config)
    plain, anatomy, patient = (Volume(array, grid) for array in (image, edges, body))
    return Prepared(plain, anatomy, patient, whole.grid, box, part.with_array(scaled))


def prepare_labels(
    labels: Segmentation, prepared: Prepared, *, case: str | None = None
) -> Segmentation:
    """A label map of the same image on the working grid, as uint8 organ ids.

    The label map may be stored in another orientation. Raises ``UserError`` where it does not
    cover the image's voxels: it is never moved by its world position, which would lose it.
    """
    whole = canonical(labels)
    image = prepared.canonical
    tolerance = max(0.01, 0.1 * min(image.spacing))
    if whole.grid.shape != image.shape:
        raise UserError(
            "label map and image differ in shape (canonical axes)",
            case=case,
            seen=f"label {whole.grid.shape}",
            allowed=f"image {image.shape}",
            fix="export the label map on the image's grid",
        )
    if not whole.grid.matches(image, tolerance):
        raise UserError(
            "label map and image lie at different places",
            case=case,
            seen=f"label origin {_origin(whole.grid)}, {whole.grid.distance(image):.1f} mm away",
            allowed=f"image origin {_origin(image)}",
            fix="export the label map with the image's geometry",
        )
    part = crop(Segmentation(whole.array, image), prepared.box)
    return resample_labels(part, prepared.image.grid)


def _origin(grid: Grid) -> str:
    return "(" + ", ".join(f"{v:.1f}" for v in grid.affine[:3, 3]) + ") mm"
