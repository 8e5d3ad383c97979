"""The pixels of DICOM files, as numbers with a meaning: rescaled, picture by picture."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK
from numpy.typing import NDArray
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from labelferry.errors import UserError
from labelferry.io.dicom import Frame

_PIXELS = (
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData"),
)
"""All that is needed to unpack pixels."""
_AIR = -1024.0
"""HU. What lies outside of a scanner's field of view is often stored as less."""
_LARGEST = 2**29
"""So many values in one file are no scan, but a damaged header."""
_RATIO = 20_000
"""No picture, not even an empty one, is compressed further."""


def read_frames(frames: Sequence[Frame]) -> Iterator[NDArray[np.float32]]:
    """The pictures (rows, columns) of frames, in order: stored values times slope plus intercept.

    Padding of CT becomes air. Raises ``UserError`` for a file that is cut, in colour, or compressed
    in a way that nothing here can decode.
    """
    for path, group in groupby(frames, lambda frame: frame.path):  # each file is read once
        several = list(group)
        data, stored = _stored(path, several[0].shape)
        padding = data.get("PixelPaddingValue")
        for frame in several:
            if frame.index >= len(stored):
                raise _unreadable(path, f"{len(stored)} frames; its header speaks of more")
            plane = stored[frame.index]
            picture = (plane * np.float64(frame.slope) + frame.intercept).astype(np.float32)
            if frame.facts.modality == "CT" and padding is not None:
                outside = (plane == padding) & (picture < _AIR)
                picture[outside] = _AIR
            yield picture


def _stored(path: Path, shape: tuple[int, int]) -> tuple[Any, NDArray[Any]]:
    """pydicom's data set and the stored values (frames, rows, columns)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = pydicom.dcmread(path, force=True)
            if "ModalityLUTSequence" in data:
                raise _unreadable(path, "a table instead of slope and intercept")
            if int(data.get("SamplesPerPixel", 1)) != 1:
                raise UserError(
                    "a colour picture, not a scalar image",
                    path=path,
                    fix="export the grey-value series",
                )
            claimed = shape[0] * shape[1] * int(data.get("NumberOfFrames", 1) or 1)
            if claimed > min(_LARGEST, _RATIO * len(data.PixelData)):
                raise _unreadable(path, f"a header that speaks of {claimed} pixels")
            array = _decoded(path, data)
    except UserError:
        raise
    except Exception as error:
        raise _unreadable(path, f"{type(error).__name__}: {error}") from error
    return data, array.reshape(-1, *shape)


def _decoded(path: Path, data: Any) -> NDArray[Any]:
    if "TransferSyntaxUID" not in data.file_meta:  # stored without a preamble
        implicit, little = data.original_encoding
        plain = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else plain
    syntax = UID(data.file_meta.TransferSyntaxUID)
    if not syntax.is_compressed or syntax == RLELossless:
        return np.asarray(data.pixel_array)
    try:
        return _by_gdcm(data)
    except RuntimeError as error:
        raise UserError(
            "the compressed pixels cannot be decoded",
            path=path,
            seen=f"transfer syntax {syntax} ({syntax.name})",
            fix="export the series uncompressed",
        ) from error


def _by_gdcm(data: Any) -> NDArray[Any]:
    """Unpack JPEG, JPEG-LS and JPEG 2000 through a file that holds the pixels and nothing else.

    Of a whole file, GDCM would apply slope and intercept for some modalities and not for others.
    """
    bare = pydicom.Dataset()
    for keyword in _PIXELS:
        if keyword in data:
            bare[keyword] = data[keyword]
    bare.SOPClassUID = SecondaryCaptureImageStorage
    bare.SOPInstanceUID = generate_uid()
    bare.file_meta = pydicom.dataset.FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = data.file_meta.TransferSyntaxUID
    bare.file_meta.MediaStorageSOPClassUID = bare.SOPClassUID
    bare.file_meta.MediaStorageSOPInstanceUID = bare.SOPInstanceUID
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pixels.dcm"
        bare.save_as(path, enforce_file_format=True)
        return np.asarray(
            SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path), imageIO="GDCMImageIO"))
        )


def _unreadable(path: Path, seen: str) -> UserError:
    return UserError(
        "the pixels of the DICOM file are truncated or damaged",
        path=path,
        seen=seen,
        fix="copy or export it again",
    )
