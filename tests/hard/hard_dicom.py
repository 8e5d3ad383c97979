"""DICOM files as scanners, archives and exports write them, made from arrays."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK
from hard_scene import grid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

STORED = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "enhanced": "1.2.840.10008.5.1.4.1.1.4.1",
    "capture": "1.2.840.10008.5.1.4.1.1.7",
}
IDENTITY = {
    "PatientName": "Winterbottom^Ottilie",
    "PatientID": "PID-774411",
    "PatientBirthDate": "19510203",
    "StudyDate": "20190817",
    "SeriesDate": "20190818",
    "AcquisitionDate": "20190819",
    "AccessionNumber": "ACC-90210",
    "InstitutionName": "St Example Infirmary",
    "ReferringPhysicianName": "Quackenbush^Al",
    "StudyDescription": "follow-up of Winterbottom",
    "StationName": "SCANNER7",
}
"""What no output may hold."""
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_ROOT = "1.2.826.0.1.3680043.8.498."

Edit = Callable[[Dataset, int], object]


def uid(*words: object) -> str:
    return _ROOT + str(zlib.crc32(repr(words).encode()))


def base(kind: str, modality: str, series: str, number: int) -> Dataset:
    data = Dataset()
    data.SOPClassUID = STORED[kind]
    data.SOPInstanceUID = uid(series, number)
    data.SeriesInstanceUID, data.StudyInstanceUID = uid(series), uid("study")
    data.Modality, data.InstanceNumber = modality, number
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if modality == "CT" else "M"]
    for keyword, value in IDENTITY.items():
        setattr(data, keyword, value)
    return data


def put_pixels(data: Dataset, pixels: np.ndarray) -> None:
    pixels = pixels.astype(np.int16)
    data.Rows, data.Columns = pixels.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 1
    data.PixelData = pixels.tobytes()


def write(path: Path, data: Dataset, syntax: str = ExplicitVRLittleEndian) -> Path:
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def place(affine: np.ndarray, k: int) -> tuple[list[float], list[float], list[float]]:
    """Position, orientation and pixel spacing of slice k of a grid (RAS mm)."""
    lps = _LPS @ affine
    sizes = np.linalg.norm(lps[:3, :3], axis=0)
    directions = (lps[:3, :2] / sizes[:2]).T.ravel()
    position = lps[:3, 3] + k * lps[:3, 2]
    rounded = [[round(float(v), 6) for v in row] for row in (position, directions)]
    return rounded[0], rounded[1], [float(sizes[1]), float(sizes[0])]


def slices(
    array: np.ndarray,
    affine: np.ndarray | None = None,
    *,
    modality: str = "MR",
    series: str = "one",
    slope: Callable[[int], float] | None = None,
    intercept: float = 0.0,
    edit: Edit | None = None,
) -> Iterator[Dataset]:
    """The data sets of a classic series; the values of ``array`` are those after rescaling."""
    affine = grid(array.shape) if affine is None else affine
    for k in range(array.shape[2]):
        data = base(modality, modality, series, k + 1)
        data.ImagePositionPatient, data.ImageOrientationPatient, data.PixelSpacing = place(
            affine, k
        )
        factor = 1.0 if slope is None else slope(k)
        if slope is not None or intercept:
            data.RescaleSlope, data.RescaleIntercept = f"{factor:g}", f"{intercept:g}"
        put_pixels(data, np.rint((array[:, :, k].T - intercept) / factor))
        if edit is not None:
            edit(data, k)
        yield data


def series(folder: Path, array: np.ndarray, affine: np.ndarray | None = None, **more: Any) -> Path:
    """Write a series under names whose order tells nothing of the order of the slices."""
    key = more.get("series", "one")
    for k, data in enumerate(slices(array, affine, **more)):
        write(folder / f"{zlib.crc32(f'{key}{k}'.encode()):010}", data)
    return folder


def enhanced(path: Path, array: np.ndarray, affine: np.ndarray, order: np.ndarray) -> Path:
    """All slices in one file, in any order; each has its own slope."""
    data = base("enhanced", "MR", "enhanced", 1)
    data.NumberOfFrames = len(order)
    planes, groups = [], []
    for k in order:
        group, where, how, sizes, values = (Dataset() for _ in range(5))
        position, directions, spacing = place(affine, int(k))
        where.ImagePositionPatient, how.ImageOrientationPatient = position, directions
        sizes.PixelSpacing = spacing
        values.RescaleSlope, values.RescaleIntercept = str(1 + int(k) % 2), "0"
        group.PlanePositionSequence = Sequence([where])
        group.PlaneOrientationSequence = Sequence([how])
        group.PixelMeasuresSequence = Sequence([sizes])
        group.PixelValueTransformationSequence = Sequence([values])
        groups.append(group)
        planes.append(np.rint(array[:, :, k].T / (1 + int(k) % 2)))
    data.PerFrameFunctionalGroupsSequence = Sequence(groups)
    put_pixels(data, np.stack(planes))
    return write(path, data)


def compress(data: Dataset, folder: Path, compressor: str) -> str:
    """Pack the pixels of a data set; returns the transfer syntax to write it with."""
    bare = base("capture", "OT", "bare", 1)
    pixels = np.frombuffer(data.PixelData, "<i2").reshape(data.Rows, data.Columns)
    put_pixels(bare, pixels)
    image = SimpleITK.ReadImage(str(write(folder / "bare.dcm", bare)))
    writer = SimpleITK.ImageFileWriter()
    writer.SetFileName(str(folder / "packed.dcm"))
    writer.UseCompressionOn()
    writer.SetCompressor(compressor)
    writer.Execute(image)
    packed = read(folder / "packed.dcm")
    assert packed.file_meta.TransferSyntaxUID.is_compressed
    for keyword in ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
        setattr(data, keyword, packed[keyword].value)
    # what the writer added to make values unsigned
    shift = float(data.get("RescaleSlope", 1)) * float(packed.get("RescaleIntercept", 0))
    data.RescaleIntercept = f"{float(data.get('RescaleIntercept', 0)) + shift:g}"
    data["PixelData"] = packed["PixelData"]
    return packed.file_meta.TransferSyntaxUID


def read(path: Path) -> Dataset:
    return pydicom.dcmread(path)
