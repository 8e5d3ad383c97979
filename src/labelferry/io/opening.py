"""Open NIfTI files that may be damaged: whatever is wrong ends in words, never in wrong voxels."""

from __future__ import annotations

import logging
import math
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from gzip import BadGzipFile, GzipFile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.imageglobals import logger as nibabel_log
from numpy.typing import NDArray

from labelferry.errors import UserError

_GZIP_RATIO = 1100
"""No content is compressed further than about 1032 to 1."""
_UNREADABLE = (EOFError, OSError, zlib.error, ValueError, OverflowError)


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, GzipFile | None]]:
    """nibabel's image with its voxels still on the disk, and the stream of a compressed file.

    Raises ``UserError`` for a file that is missing, empty, no NIfTI, or has a damaged header.
    """
    if not path.exists():
        raise UserError("file not found", path=path)
    if path.stat().st_size == 0:
        raise UserError("empty file (0 bytes)", path=path, fix="copy or download it again")
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(GzipFile(path)) if _is_packed(path) else None
            nii = _nifti(path, stream)
        except UserError:
            raise
        except Exception as error:  # a damaged header has nibabel stumble anywhere
            raise UserError(
                "not a readable NIfTI file",
                path=path,
                seen=f"{type(error).__name__}: {error}",
                fix="copy or download it again",
            ) from error
        yield nii, stream


@contextmanager
def _quiet() -> Iterator[None]:
    """Without nibabel's remarks on a header: they name no file, and what matters is said by us."""
    level = nibabel_log.level
    nibabel_log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        nibabel_log.setLevel(level)


def _is_packed(path: Path) -> bool:
    """Whether a file is compressed, in name (of any case) and content."""
    with path.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    if compressed != path.name.lower().endswith(".gz"):
        raise UserError(
            "the name and the content disagree on gzip compression",
            path=path,
            seen="compressed content" if compressed else "content that is not gzip-compressed",
            fix="add .gz to the name" if compressed else "take .gz off the name, or compress it",
        )
    return compressed


def _nifti(path: Path, stream: GzipFile | None) -> Any:
    size = nibabel.Nifti2Header.sizeof_hdr
    if stream is None:
        with path.open("rb") as plain:
            start = plain.read(size)
        holder = nibabel.FileHolder(str(path))
    else:
        start = stream.read(size)
        stream.seek(0)
        holder = nibabel.FileHolder(fileobj=stream)
    for kind in (nibabel.Nifti1Image, nibabel.Nifti2Image):
        if kind.header_class.may_contain_header(start):
            with _quiet():
                return kind.from_file_map({"image": holder})
    raise UserError("not a NIfTI file", path=path, fix="export it as NIfTI (.nii or .nii.gz)")


def load_array(path: Path) -> tuple[Any, NDArray[Any]]:
    """nibabel's image and its voxels (three axes, scaled by slope and intercept).

    Raises ``UserError`` for what :func:`opened` refuses, colour and complex images, other than
    three axes, and voxels that are missing or damaged.
    """
    with opened(path) as (nii, stream):
        kind = nii.get_data_dtype()
        if kind.fields is not None or kind.kind == "c":
            raise UserError(
                "a colour or complex image, not a scalar volume",
                path=path,
                seen=kind,
                fix="export the grey-value series",
            )
        shape = three_axes(nii.shape, path)
        _check_size(nii, path, packed=stream is not None)
        try:
            with np.errstate(all="ignore"):  # a wild slope overflows: said of the result
                data = np.asanyarray(nii.dataobj).reshape(shape)
            if stream is not None:
                _read_to_the_end(stream)
        except (*_UNREADABLE, MemoryError) as error:
            raise damaged(path, f"{type(error).__name__}: {error}") from error
    return nii, data


def damaged(path: Path, seen: str) -> UserError:
    """The error about a file whose voxels cannot be read, or not all of them."""
    return UserError(
        "the file is truncated or damaged",
        path=path,
        seen=seen,
        fix="copy or download it again",
    )


def _check_size(nii: Any, path: Path, *, packed: bool) -> None:
    claimed = math.prod(int(n) for n in nii.shape) * nii.get_data_dtype().itemsize
    on_disk = path.stat().st_size
    check_claim(path, claimed, on_disk if packed else on_disk - int(nii.dataobj.offset), packed)


def check_claim(path: Path, claimed: int, on_disk: int, packed: bool) -> None:
    """Refuse a file that cannot hold what its header claims, before memory is taken for it.

    Both numbers are bytes, ``on_disk`` those of voxels, compressed where ``packed``.
    """
    most = max(0, on_disk) * (_GZIP_RATIO if packed else 1)
    if claimed > most:
        raise damaged(path, f"at most {most} bytes of voxels; its header speaks of {claimed}")


def _read_to_the_end(stream: GzipFile) -> None:
    """The checksum stands last: without this a damaged file would be read as if it were whole."""
    try:
        while stream.read(1 << 20):
            pass
    except BadGzipFile as error:
        # bytes after the compressed part are some program's padding
        if "Not a gzipped file" not in str(error):
            raise


def three_axes(shape: tuple[int, ...], path: Path) -> tuple[int, int, int]:
    """A shape without trailing axes of length 1, filled up to three; others are refused."""
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
