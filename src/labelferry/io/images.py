"""The images and label maps of cases, whatever they are stored as: NIfTI, NRRD, MetaImage, DICOM.

NRRD and MetaImage become what NIfTI would have been: the same volume, and a header for results.
"""

from __future__ import annotations

from pathlib import Path

import nibabel

from labelferry.cases import Case
from labelferry.errors import UserError
from labelferry.io import nifti
from labelferry.io.nifti import Image, header_of, labels_of
from labelferry.organs import LabelScheme, OrganSet
from labelferry.volume import Segmentation

ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
SUFFIXES = (*nifti.SUFFIXES, *ITK_SUFFIXES)


def is_itk(path: Path) -> bool:
    """Whether the name says NRRD or MetaImage."""
    return path.name.lower().endswith(ITK_SUFFIXES) and not path.name.startswith(".")


def is_image(path: Path) -> bool:
    """Whether the name says an image that is one file, of a format that is read."""
    return nifti.is_nifti(path) or is_itk(path)


def read_image(path: Path) -> Image:
    """Read a scalar image from one file; see :func:`labelferry.io.nifti.read_image`."""
    if not is_itk(path):
        return nifti.read_image(path)
    if not path.exists():
        raise UserError("file not found", path=path)
    if path.stat().st_size == 0:
        raise UserError("empty file (0 bytes)", path=path, fix="copy or download it again")
    from labelferry.io.itk import read_itk  # SimpleITK takes its time

    volume, replaced = read_itk(path)
    return Image(volume, header_of(volume.grid), volume.grid.shape, replaced)


def read_case(case: Case) -> Image:
    """Read the image of a case; of a DICOM series on the series' own grid.

    Raises ``UserError`` as :func:`read_image` does. What is said of a series names no file but in
    the error's ``path``.
    """
    if case.series is None:
        return read_image(case.image)
    from labelferry.io.series import read_series_image

    return read_series_image(case.series)


def read_labels(path: Path, organs: OrganSet, numbering: LabelScheme | None = None) -> Segmentation:
    """Read a label map; see :func:`labelferry.io.nifti.read_labels`."""
    return read_label_file(path, organs, numbering)[0]


def read_label_file(
    path: Path, organs: OrganSet, numbering: LabelScheme | None = None
) -> tuple[Segmentation, nibabel.Nifti1Header]:
    """The same with a header."""
    if not is_itk(path):
        return nifti.read_label_file(path, organs, numbering)
    image = read_image(path)
    if image.replaced:
        raise UserError(
            "label values are not integers",
            path=path,
            seen=f"{image.replaced} voxels that are not finite",
            allowed=f"0…{len(organs)}",
        )
    volume = image.volume
    return labels_of(volume.array, volume.grid, path, organs, numbering), image.header
