"""What may be given to a model: a path, a nibabel or SimpleITK image, or a volume of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import NDArray

from labelferry.errors import UserError
from labelferry.io.nifti import read_image
from labelferry.volume import Grid, Volume

ImageLike = Path | str | Volume | SpatialImage | Any
"""``Any`` stands for ``SimpleITK.Image``, which is not imported here."""


def as_volume(image: ImageLike) -> Volume:
    """A scalar 3-D image as a float32 volume on its own grid (RAS mm, any orientation).

    SimpleITK's world is LPS; its first two world axes are turned. Raises ``UserError`` for an image
    that is not three-dimensional and scalar, or has no finite voxel, and for anything else.
    """
    if isinstance(image, Volume):
        return image.with_array(_finite(image.array))
    if isinstance(image, str | Path):
        return read_image(Path(image)).volume
    if isinstance(image, SpatialImage):
        return _from_nibabel(image)
    if type(image).__module__.partition(".")[0] == "SimpleITK":
        return _from_simpleitk(image)
    raise UserError(
        "not an image that can be predicted",
        seen=type(image).__name__,
        allowed="a path, a nibabel image, a SimpleITK image, a labelferry Volume",
    )


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
    return Volume(_finite(array), Grid(tuple(shape), image.affine))


def _from_simpleitk(image: Any) -> Volume:
    import SimpleITK

    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise UserError(
            "not a scalar 3-D image",
            seen=f"{image.GetDimension()} axes, {image.GetNumberOfComponentsPerPixel()} components",
        )
    array = SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0)
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    lps_to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
    return Volume(_finite(array), Grid(array.shape, lps_to_ras @ affine))


def _finite(array: NDArray[Any]) -> NDArray[np.float32]:
    finite = np.isfinite(array)
    if not finite.any():
        raise UserError("no voxel is a finite number", fix="export the image again")
    if not finite.all():
        array = np.where(finite, array, array[finite].min())
    limit = np.finfo(np.float32).max
    clipped: NDArray[np.float32] = np.clip(array, -limit, limit).astype(np.float32)
    return clipped
