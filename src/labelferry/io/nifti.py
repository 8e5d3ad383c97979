"""NIfTI: the only place that opens image files of this kind.

The affine is the header's sform where its code is set, else its qform, else voxel sizes alone
(NIfTI-1 standard, methods 3, 2 and 1), as nibabel reads it.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from labelferry.errors import UserError
from labelferry.files import atomic_path
from labelferry.io.opening import load_array, opened, three_axes
from labelferry.io.values import finite
from labelferry.organs import LabelScheme, OrganSet, convert_labels, like_an_image
from labelferry.volume import Grid, Segmentation, Volume

SUFFIXES = (".nii.gz", ".nii")
_INTEGER_TOLERANCE = 0.01
_FARTHEST_MM = 1e7


@dataclass(frozen=True, eq=False)
class Image:
    """A scalar image as it lies on the disk: its volume and the header to write results with."""

    volume: Volume
    header: nibabel.Nifti1Header = field(repr=False)
    file_shape: tuple[int, ...]
    """Shape in the file; trailing axes of length 1 are dropped from the volume."""
    replaced: int = 0
    """Number of voxels that were not finite and became the smallest finite value."""


def stem(path: Path) -> str:
    """The file name without ``.nii`` or ``.nii.gz`` in any case; inner dots stay."""
    lower = path.name.lower()
    for suffix in SUFFIXES:
        if lower.endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def is_nifti(path: Path) -> bool:
    """Whether the name says NIfTI (hidden files and backups do not count)."""
    return path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")


def read_image(path: Path) -> Image:
    """Read a scalar image, scaled by the header's slope and intercept, as float32.

    Raises ``UserError`` for a missing, empty, truncated, colour or 4-D file, and for one without
    any finite voxel. Voxels that are not finite become the smallest finite value.
    """
    nii, data = load_array(path)
    try:
        array, replaced = finite(data)
    except UserError as error:
        raise error.at(path) from error
    volume = Volume(array, _grid(nii, array.shape, path))
    return Image(volume, nii.header.copy(), tuple(nii.shape), replaced)


def read_geometry(path: Path) -> Grid:
    """The grid of an image, from its header alone."""
    with opened(path) as (nii, _):
        return _grid(nii, three_axes(nii.shape, path), path)


def is_oriented(path: Path) -> bool:
    """Whether a file says where left and right are; see :func:`has_orientation`."""
    with opened(path) as (nii, _):
        return has_orientation(nii.header)


def read_labels(path: Path, organs: OrganSet, numbering: LabelScheme | None = None) -> Segmentation:
    """Read a label map of ``organs`` as uint8; ``numbering`` says how its values are numbered.

    Values within 0.01 of an integer are rounded; other values, and those that ``organs`` or the
    numbering does not hold, raise ``UserError`` naming the file and at most some tens of values.
    """
    return read_label_file(path, organs, numbering)[0]


def read_label_file(
    path: Path, organs: OrganSet, numbering: LabelScheme | None = None
) -> tuple[Segmentation, nibabel.Nifti1Header]:
    """The same with the file's header."""
    nii, data = load_array(path)
    return labels_of(data, _grid(nii, data.shape, path), path, organs, numbering), nii.header


def labels_of(
    data: NDArray[Any], grid: Grid, path: Path, organs: OrganSet, numbering: LabelScheme | None
) -> Segmentation:
    """The label map that voxels of any kind mean; ``UserError`` as for :func:`read_labels`."""
    is_integer = data.dtype.kind in "iu"
    if is_integer and numbering is None and data.min() >= 0 and data.max() <= len(organs):
        # nothing to complain of: no need to sort all voxels
        return Segmentation(data.astype(np.uint8), grid)
    values = np.unique(data)
    rounded = np.round(values)
    with np.errstate(invalid="ignore"):  # infinite values differ from themselves, too
        odd = values[~(np.abs(values - rounded) <= _INTEGER_TOLERANCE)]
    if len(odd):
        raise UserError(
            "label values are not integers",
            path=path,
            seen=_few(odd),
            allowed=f"0…{len(organs)}",
            fix="is this the image, or an interpolated label map?",
        )
    if numbering is not None:
        whole = data if is_integer else np.round(data).astype(np.int64)
        try:
            return Segmentation(convert_labels(whole, numbering, organs), grid)
        except UserError as error:
            raise error.at(path) from error
    unknown = [int(v) for v in rounded if not 0 <= v <= len(organs)]
    if unknown:
        raise UserError(
            "unexpected label values",
            path=path,
            seen=_few(np.array(unknown)),
            allowed=f"0…{len(organs)}",
            fix=like_an_image(unknown)
            or "convert them: --labels amos, btcv, chaos, totalsegmentator, or a JSON file of "
            "names and values; or give your own list of organs",
        )
    return Segmentation(np.round(data).astype(np.uint8), grid)


def read_bytes(path: Path) -> Segmentation:
    """Read a label map as unsigned bytes: every value is cut, not rounded, and nothing is checked.

    For the scores of a challenge whose script reads so. Values are scaled by the header's slope and
    intercept, cut towards 0 and taken modulo 256; what is not finite is 0. The grid has the voxel
    sizes of the header (``pixdim``) and no position: sform and qform are not looked at.
    """
    nii, data = load_array(path)
    array = np.empty(data.shape, np.uint8, order="F")
    for z in range(data.shape[2]):  # slice by slice: wide values would need eight times the memory
        plane = data[:, :, z]
        if plane.dtype.kind == "f":
            plane = np.where(np.isfinite(plane) & (np.abs(plane) < 2**62), plane, 0)
            plane = plane.astype(np.int64)
        array[:, :, z] = plane.astype(np.uint8)
    sizes = [abs(float(size)) for size in nii.header.get_zooms()[:3]]
    affine = np.diag([*(sizes + [1.0] * 3)[:3], 1.0])
    try:
        return Segmentation(array, Grid(array.shape, affine))
    except UserError as error:
        raise error.at(path) from error


def write_volume(path: Path, volume: Volume, *, oriented: bool = True) -> None:
    """Write a volume atomically, with sform and qform set to its affine (code 1, scanner).

    Without ``oriented`` it gets its voxel sizes and no orientation, as the file that it came from.
    """
    array = volume.array
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    image = nibabel.Nifti1Image(array, volume.grid.affine)
    image.header.set_xyzt_units("mm")
    if not oriented:
        bare = type_of(image.header)(array, None, image.header)
        bare.header.set_sform(None, code=0)
        bare.header.set_qform(None, code=0)
        _save(path, bare)
        return
    # qform cannot hold shear; it then keeps the nearest rotation while sform stays exact
    image.set_qform(volume.grid.affine, code=1, strip_shears=True)
    image.set_sform(volume.grid.affine, code=1)
    _save(path, image)


def header_of(grid: Grid) -> nibabel.Nifti1Header:
    """A header for images of other formats: float32, sform and qform (code 1) on their grid."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.float32)
    header.set_data_shape(grid.shape)
    header.set_xyzt_units("mm")
    header.set_qform(grid.affine, 1, strip_shears=True)
    header.set_sform(grid.affine, 1)
    return header


def write_labels_like(path: Path, labels: Segmentation, like: Image) -> None:
    """Write labels (on the image's own grid) with the image's header: geometry and codes kept.

    Free-text fields and extensions of the header may name a patient; they are left out.
    """
    header = like.header.copy()
    # a trailing axis of length 1 says nothing: label maps have three axes (or two, as the image)
    array = labels.array.astype(np.uint8).reshape(like.file_shape[:3])
    header.set_data_dtype(np.uint8)
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["cal_min"], header["cal_max"] = 0, 0
    for text in ("descrip", "aux_file", "db_name", "intent_name"):
        if text in header:
            header[text] = b""
    header.extensions.clear()
    if qform_distance(header, like.volume.grid) > min(like.volume.grid.spacing):
        # readers that prefer the qform would see the labels elsewhere
        header.set_qform(like.volume.grid.affine, int(header["qform_code"]), strip_shears=True)
    _save(path, type_of(header)(array, None, header))


def has_orientation(header: nibabel.Nifti1Header) -> bool:
    """Whether a header says where left and right are: the code of its sform or qform is set."""
    return bool(int(header["sform_code"]) or int(header["qform_code"]))


def check_both_oriented(known: Mapping[str, bool], fix: str) -> None:
    """Raise ``UserError`` where one of two files has an orientation and the other has none: which
    side of the one is which of the other would be a guess.

    ``known`` says it of each by what it is called; ``fix`` may speak of ``{bare}`` and ``{other}``.
    """
    if len(set(known.values())) > 1:
        bare, other = sorted(known, key=lambda name: known[name])
        raise UserError(
            f"the {bare} has no orientation (sform and qform codes are 0), but the {other} has",
            fix=fix.format(bare=bare, other=other),
        )


def qform_distance(header: nibabel.Nifti1Header, grid: Grid) -> float:
    """How far apart, in mm, a header's qform and sform place a corner; 0 where one is unset."""
    if not int(header["sform_code"]) or not int(header["qform_code"]):
        return 0.0
    try:
        with np.errstate(all="ignore"):  # wild numbers are far away, too
            apart = grid.distance(Grid(grid.shape, header.get_qform()))
        return apart if np.isfinite(apart) else float("inf")
    except (HeaderDataError, ValueError, UserError):
        return float("inf")  # a qform that is no rotation


def type_of(header: nibabel.Nifti1Header) -> type[nibabel.Nifti1Image]:
    """The image class that belongs to a header (NIfTI-1 or NIfTI-2)."""
    is_two = isinstance(header, nibabel.Nifti2Header)
    return nibabel.Nifti2Image if is_two else nibabel.Nifti1Image


def _save(path: Path, image: nibabel.Nifti1Image) -> None:
    with atomic_path(path) as part:
        if path.name.lower().endswith(".gz"):
            # no name and no time in the gzip header: the same content gives the same bytes
            part.write_bytes(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))
        else:
            part.write_bytes(image.to_bytes())


def _grid(nii: Any, shape: tuple[int, ...], path: Path) -> Grid:
    if np.isfinite(nii.affine).all() and np.abs(nii.affine).max() > _FARTHEST_MM:
        raise UserError(
            "the header places voxels farther away than any scanner reaches",
            path=path,
            seen=f"{np.abs(nii.affine).max():g} mm",
            allowed=f"up to {_FARTHEST_MM:g} mm",
            fix="export it again with its geometry",
        )
    try:
        with np.errstate(all="ignore"):  # vanishing numbers are refused by Grid
            return Grid(shape, nii.affine)
    except UserError as error:
        raise error.at(path) from error


def _few(values: NDArray[Any]) -> str:
    shown = ", ".join(f"{v:g}" for v in values[:10])
    return shown if len(values) <= 10 else f"{shown}, … ({len(values)} values)"
