"""NIfTI: the only place that opens image files of this kind.

The affine is the header's sform where its code is set, else its qform, else voxel sizes alone
(NIfTI-1 standard, methods 3, 2 and 1), as nibabel reads it.
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from labelferry.errors import UserError
from labelferry.files import atomic_path
from labelferry.organs import OrganSet
from labelferry.volume import Grid, Segmentation, Volume

SUFFIXES = (".nii.gz", ".nii")
_INTEGER_TOLERANCE = 0.01


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
    nii, data = _load(path)
    array = np.asarray(data, np.float64 if data.dtype.itemsize > 4 else np.float32)
    finite = np.isfinite(array)
    if not finite.all():
        if not finite.any():
            raise UserError("no voxel is a finite number", path=path, fix="export the image again")
        array = np.where(finite, array, array[finite].min())
    limit = np.finfo(np.float32).max
    array = np.clip(array, -limit, limit).astype(np.float32)
    volume = Volume(array, _grid(nii, array.shape, path))
    return Image(volume, nii.header.copy(), tuple(nii.shape), int(finite.size - finite.sum()))


def read_geometry(path: Path) -> Grid:
    """The grid of an image, from its header alone."""
    nii = _open(path)
    return _grid(nii, _drop_trailing(nii.shape, path), path)


def read_labels(path: Path, organs: OrganSet) -> Segmentation:
    """Read a label map of ``organs`` as uint8.

    Values within 0.01 of an integer are rounded; other values, and ids that ``organs`` does not
    hold, raise ``UserError`` naming the file and at most some tens of values.
    """
    nii, data = _load(path)
    if data.dtype.kind in "iu" and data.min() >= 0 and data.max() <= len(organs):
        # nothing to complain of: no need to sort all voxels
        return Segmentation(data.astype(np.uint8), _grid(nii, data.shape, path))
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
    unknown = [int(v) for v in rounded if not 0 <= v <= len(organs)]
    if unknown:
        hint = (
            "this looks like an image, not a label map"
            if len(unknown) > 50
            else ("convert the labels to the product's organ ids, or give your own list of organs")
        )
        raise UserError(
            "unexpected label values",
            path=path,
            seen=_few(np.array(unknown)),
            allowed=f"0…{len(organs)}",
            fix=hint,
        )
    array = np.round(data).astype(np.uint8)
    return Segmentation(array, _grid(nii, array.shape, path))


def read_bytes(path: Path) -> Segmentation:
    """Read a label map as unsigned bytes: every value is cut, not rounded, and nothing is checked.

    For the scores of a challenge whose script reads so. Values are scaled by the header's slope and
    intercept, cut towards 0 and taken modulo 256; what is not finite is 0. The grid has the voxel
    sizes of the header (``pixdim``) and no position: sform and qform are not looked at.
    """
    nii, data = _load(path)
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
        raise UserError(error.what, path=path, seen=error.seen, allowed=error.allowed) from error


def write_volume(path: Path, volume: Volume) -> None:
    """Write a volume atomically, with sform and qform set to its affine (code 1, scanner)."""
    array = volume.array
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    image = nibabel.Nifti1Image(array, volume.grid.affine)
    image.header.set_xyzt_units("mm")
    # qform cannot hold shear; it then keeps the nearest rotation while sform stays exact
    image.set_qform(volume.grid.affine, code=1, strip_shears=True)
    image.set_sform(volume.grid.affine, code=1)
    _save(path, image)


def write_labels_like(path: Path, labels: Segmentation, like: Image) -> None:
    """Write labels (on the image's own grid) with the image's header: geometry and codes kept.

    Free-text fields and extensions of the header may name a patient; they are left out.
    """
    header = like.header.copy()
    array = labels.array.astype(np.uint8).reshape(like.file_shape)
    header.set_data_dtype(np.uint8)
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["cal_min"], header["cal_max"] = 0, 0
    for text in ("descrip", "aux_file", "db_name", "intent_name"):
        if text in header:
            header[text] = b""
    header.extensions.clear()
    if qform_distance(like) > min(like.volume.grid.spacing):
        # readers that prefer the qform would see the labels elsewhere
        header.set_qform(like.volume.grid.affine, int(header["qform_code"]), strip_shears=True)
    _save(path, type_of(header)(array, None, header))


def qform_distance(image: Image) -> float:
    """How far apart, in mm, the header's qform and sform place a corner; 0 where one is unset."""
    header, grid = image.header, image.volume.grid
    if not int(header["sform_code"]) or not int(header["qform_code"]):
        return 0.0
    try:
        return grid.distance(Grid(grid.shape, header.get_qform()))
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


def _open(path: Path) -> Any:
    if not path.exists():
        raise UserError("file not found", path=path)
    if path.stat().st_size == 0:
        raise UserError("empty file (0 bytes)", path=path, fix="copy or download it again")
    try:
        return _nifti(path)
    except (ImageFileError, HeaderDataError, OSError, EOFError, zlib.error, ValueError) as error:
        raise UserError(
            "not a readable NIfTI file",
            path=path,
            seen=f"{type(error).__name__}: {error}",
            fix="copy or download it again",
        ) from error


def _nifti(path: Path) -> Any:
    """The image with its voxels still on the disk; unlike nibabel's load, the case of the suffix
    does not matter."""
    with path.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    if compressed != path.name.lower().endswith(".gz"):
        raise UserError(
            "the name and the content disagree on gzip compression",
            path=path,
            seen="compressed content" if compressed else "content that is not gzip-compressed",
            fix="add .gz to the name" if compressed else "take .gz off the name, or compress it",
        )
    with ImageOpener(str(path)) as stream:
        start = stream.read(nibabel.Nifti2Header.sizeof_hdr)
    for kind in (nibabel.Nifti1Image, nibabel.Nifti2Image):
        if kind.header_class.may_contain_header(start):
            return kind.from_file_map({"image": nibabel.FileHolder(str(path))})
    raise UserError("not a NIfTI file", path=path, fix="export it as NIfTI (.nii or .nii.gz)")


def _load(path: Path) -> tuple[Any, NDArray[Any]]:
    nii = _open(path)
    kind = nii.get_data_dtype()
    if kind.fields is not None or kind.kind == "c":
        raise UserError(
            "a colour or complex image, not a scalar volume",
            path=path,
            seen=kind,
            fix="export the grey-value series",
        )
    shape = _drop_trailing(nii.shape, path)
    try:
        data = np.asanyarray(nii.dataobj).reshape(shape)
    except (EOFError, OSError, zlib.error, ValueError, OverflowError, MemoryError) as error:
        raise UserError(
            "the file is truncated or damaged",
            path=path,
            seen=f"{type(error).__name__}: {error}",
            fix="copy or download it again",
        ) from error
    return nii, data


def _drop_trailing(shape: tuple[int, ...], path: Path) -> tuple[int, int, int]:
    sizes = list(shape)
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    while len(sizes) < 3:
        sizes.append(1)
    if len(sizes) != 3 or min(sizes) < 1:
        raise UserError(
            "not a 3-D image",
            path=path,
            seen=f"shape {shape}",
            allowed="three axes",
            fix="split a time series or multi-channel image into 3-D files",
        )
    return sizes[0], sizes[1], sizes[2]


def _grid(nii: Any, shape: tuple[int, ...], path: Path) -> Grid:
    try:
        return Grid(shape, nii.affine)
    except UserError as error:
        raise UserError(error.what, path=path, seen=error.seen, allowed=error.allowed) from error


def _few(values: NDArray[Any]) -> str:
    shown = ", ".join(f"{v:g}" for v in values[:10])
    return shown if len(values) <= 10 else f"{shown}, … ({len(values)} values)"
