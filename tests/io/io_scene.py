"""Small files of every kind for the tests of the room io."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np

SHAPE = (10, 8, 6)
AFFINE = np.array([[3.0, 0, 0, -14], [0, 3, 0, -11], [0, 0, 5, -13], [0, 0, 0, 1]])


def ct(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Air, fat and an organ in Hounsfield units."""
    array = np.full(shape, -1000, np.int16)
    array[1:-1, 1:-1] = -90
    array[3:7, 2:6] = 60
    return array + np.random.default_rng(seed).integers(-8, 9, shape).astype(np.int16)


def mr(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.abs(ct(seed, shape) + 1000).astype(np.int16)


def labels(ids: tuple[int, ...] = (1, 2), shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    array = np.zeros(shape, np.uint8)
    for place, organ in enumerate(ids):
        array[3 + place % 4, 2:6, place // 4] = organ
    return array


def save(
    path: Path,
    array: np.ndarray,
    affine: np.ndarray = AFFINE,
    *,
    sform: int = 1,
    qform: int = 1,
    kind: type[nibabel.Nifti1Image] = nibabel.Nifti1Image,
    **header: object,
) -> Path:
    """Write a NIfTI file with any header, byte by byte, whatever the suffix's case."""
    image = kind(array, None)
    image.header.set_sform(affine, sform)
    image.header.set_qform(affine, qform, strip_shears=True)
    image.header.set_zooms((*np.linalg.norm(affine[:3, :3], axis=0), *[1] * (array.ndim - 3)))
    for key, value in header.items():
        image.header[key] = value
    content = image.to_bytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        gzip.compress(content, 1, mtime=0) if path.name.lower().endswith("gz") else content
    )
    return path


def patch(path: Path, offset: int, content: bytes) -> Path:
    """Overwrite bytes of an uncompressed file: what no library agrees to write."""
    whole = bytearray(path.read_bytes())
    whole[offset : offset + len(content)] = content
    path.write_bytes(bytes(whole))
    return path


def source(folder: Path, *cases: str) -> Path:
    """A folder of labelled CT."""
    for seed, name in enumerate(cases):
        save(folder / "images" / f"{name}.nii.gz", ct(seed))
        save(folder / "labels" / f"{name}.nii.gz", labels())
    return folder


def target(folder: Path, *cases: str) -> Path:
    """A folder of MRI."""
    for seed, name in enumerate(cases):
        save(folder / "images" / f"{name}.nii.gz", mr(seed))
    return folder
