"""What may be given to a model: a path, a nibabel or SimpleITK image, or a volume of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from nibabel.spatialimages import SpatialImage

from labelferry.errors import UserError
from labelferry.io.folders import holds_series
from labelferry.io.images import is_image, read_case, read_image
from labelferry.io.values import finite
from labelferry.volume import Grid, Volume

ImageLike = Path | str | Volume | SpatialImage | Any
"""``Any`` stands for ``SimpleITK.Image``, which is not imported here."""


def as_volume(image: ImageLike) -> Volume:
    """A scalar 3-D image as a float32 volume on its own grid (RAS mm, any orientation).

    A path is an image file, a DICOM file (its series), or a folder of one DICOM series. Raises
    ``UserError`` for an image that is not three-dimensional and scalar, or has no finite voxel, and
    for anything else.
    """
    if isinstance(image, Volume):
        return image.with_array(finite(image.array)[0])
    if isinstance(image, str | Path):
        return _from_path(Path(image))
    if isinstance(image, SpatialImage):
        return _from_nibabel(image)
    if type(image).__module__.partition(".")[0] == "SimpleITK":
        from labelferry.io.itk import volume_of

        return volume_of(image)[0]
    raise UserError(
        "not an image that can be predicted",
        seen=type(image).__name__,
        allowed="a path, a nibabel image, a SimpleITK image, a labelferry Volume",
    )


def _from_path(path: Path) -> Volume:
    if is_image(path) or not path.exists() or not holds_series(path):
        return read_image(path).volume
    from labelferry.io.series import one_series  # pydicom and SimpleITK take their time

    return read_case(one_series(path)).volume


def _from_nibabel(image: SpatialImage) -> Volume:
    shape = list(image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if len(shape) != 3 or image.affine is None:
        raise UserError("not a 3-D image", seen=f"shape {image.shape}", allowed="three axes")
    dtype = image.get_data_dtype()
    if dtype.fields is not None or dtype.kind == "c":
        raise UserError("a colour or complex image, not a scalar volume", seen=dtype)
    array = np.asanyarray(image.dataobj).reshape(shape)  # the header's scaling is applied
    return Volume(finite(array)[0], Grid(tuple(shape), image.affine))
