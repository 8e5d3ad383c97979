"""The formats that labels are written in: NIfTI, and DICOM SEG for what came as DICOM."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from labelferry.cases import Case
from labelferry.errors import UserError
from labelferry.io.nifti import Image, stem, write_labels_like
from labelferry.organs import OrganSet
from labelferry.predict.config import LabelFormat
from labelferry.volume import Segmentation

SEG_SUFFIX = ".dcm"


def check_formats(
    formats: Sequence[LabelFormat], output: Path, images: Iterable[Path], series: Iterable[str]
) -> None:
    """Raise ``UserError`` where labels cannot be written in one of the formats.

    ``images``: what is to be labelled; ``series``: the names of those that are DICOM series.
    """
    if "dicom-seg" not in formats:
        if output.name.lower().endswith(SEG_SUFFIX) and not output.is_dir():
            raise UserError(
                "an output of this name is DICOM", path=output, fix="add --format dicom-seg"
            )
        return
    known = set(series)
    bare = [path.name for path in images if path.name not in known]
    if bare:
        raise UserError(
            "a DICOM SEG needs the DICOM series that was labelled: it bears the patient and the "
            "study, and points to every slice",
            seen=bare[0] + (f" and {len(bare) - 1} more" if len(bare) > 1 else ""),
            allowed="DICOM files, series, studies",
            fix="give the DICOM itself, or take --format nifti",
        )
    from labelferry.io.dicomseg import check_highdicom

    check_highdicom()


def outputs(place: Path, formats: Sequence[LabelFormat]) -> dict[LabelFormat, Path]:
    """The file of each format, given that of NIfTI (or of the one format there is)."""
    name = stem(place)
    nifti = place.with_name(f"{name}.nii.gz") if place.suffix.lower() == SEG_SUFFIX else place
    seg = place.with_name(f"{name}{SEG_SUFFIX}")
    whole: dict[LabelFormat, Path] = {"nifti": nifti, "dicom-seg": seg}
    return {format: file for format, file in whole.items() if format in formats}


def write_labels(
    place: Path,
    labels: Segmentation,
    image: Image,
    organs: OrganSet,
    formats: Sequence[LabelFormat],
    case: Case | None,
) -> None:
    """Write labels on their image's own grid in each format, atomically.

    NIfTI keeps the header of the image. ``case`` is the DICOM series that the image came from; a
    DICOM SEG needs it.
    """
    for format, file in outputs(place, formats).items():
        if format == "nifti":
            write_labels_like(file, labels, image)
        else:
            from labelferry.io.dicomseg import write_seg  # highdicom takes its time

            assert case is not None and case.series is not None, "check_formats lets none through"
            write_seg(file, labels, case.series, organs)
