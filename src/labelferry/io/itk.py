"""NRRD and MetaImage files, and other images of SimpleITK."""

from __future__ import annotations

import math
import os
import re
import zlib
from pathlib import Path

import numpy as np
import SimpleITK

from labelferry.errors import UserError
from labelferry.io.opening import check_claim, damaged
from labelferry.io.values import finite
from labelferry.volume import LPS_TO_RAS, Grid, Volume

_LONGEST_HEADER = 1 << 16
_PART = 1 << 20


def read_itk(path: Path) -> tuple[Volume, int]:
    """Read a scalar volume as float32, and the number of voxels that were not finite.

    Raises ``UserError`` for a file that is damaged, in colour, has other than three axes, or no
    finite voxel.
    """
    try:
        reader = SimpleITK.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        claimed = math.prod(reader.GetSize()) * reader.GetNumberOfComponents()
        check_claim(path, claimed, _bytes_of(path), packed=True)
        _check_packed(path)
        return volume_of(reader.Execute())
    except (RuntimeError, OSError, ValueError, zlib.error) as error:
        said = str(error).replace(str(path), path.name)
        lines = [line for line in said.splitlines() if line and "No such file" not in line]
        raise damaged(path, lines[-1].strip() if lines else "an unreadable file") from error
    except UserError as error:  # where only the image was known
        raise error.at(path) from error


def _bytes_of(path: Path) -> int:
    """The size of a file and, where it is a header alone, of what lies beside it."""
    detached = path.suffix.lower() in (".nhdr", ".mhd")
    files = [file for file in path.parent.iterdir() if file.is_file()] if detached else [path]
    return sum(file.stat().st_size for file in files)


def _check_packed(path: Path) -> None:
    """Raise ``zlib.error`` for a MetaImage whose compressed voxels fail their checksum: ITK says so
    on standard error, and goes on with what it has."""
    if path.suffix.lower() not in (".mha", ".mhd"):
        return
    with path.open("rb") as stream:
        start = stream.read(_LONGEST_HEADER)
    found = re.search(rb"^CompressedData\s*=\s*true", start, re.IGNORECASE | re.MULTILINE)
    place = re.search(rb"^ElementDataFile\s*=\s*(.*?)\s*\n", start, re.MULTILINE)
    if not found or not place:
        return
    local = place[1].upper() == b"LOCAL"
    with (path if local else path.parent / os.fsdecode(place[1])).open("rb") as stream:
        stream.seek(place.end() if local else 0)
        unpacked = zlib.decompressobj()
        while (part := stream.read(_PART)) and not unpacked.eof:
            while part:
                unpacked.decompress(part, _PART)
                part = unpacked.unconsumed_tail
    if not unpacked.eof:
        raise zlib.error("the compressed voxels end early")


def volume_of(image: SimpleITK.Image) -> tuple[Volume, int]:
    """An image of SimpleITK, whose world is LPS, as a float32 volume; see ``values.finite``."""
    size, values = image.GetSize(), image.GetNumberOfComponentsPerPixel()
    if len(size) != 3 or values != 1:
        raise UserError(
            "not a scalar 3-D image",
            seen=f"{len(size)} axes, {values} values a voxel",
            allowed="three axes, one value",
            fix="export the grey-value volumes one by one",
        )
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    array, replaced = finite(SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0))
    return Volume(array, Grid(array.shape, LPS_TO_RAS @ affine)), replaced
