"""Labels as DICOM SEG: one label map with every slice of the series that was labelled.

The object bears the identity of its patient and study, as the standard asks for: unlike all else
that is written here it is for the archive that the series came from.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from labelferry.cases import Series
from labelferry.errors import UserError
from labelferry.files import atomic_path
from labelferry.io.dicomstacks import Stack
from labelferry.io.magic import has_preamble
from labelferry.organs import Organ, OrganSet
from labelferry.volume import Segmentation

ORGAN_CODES: Mapping[str, tuple[str, str]] = {
    "liver": ("Liver", ""),
    "right kidney": ("Kidney", "Right"),
    "spleen": ("Spleen", ""),
    "pancreas": ("Pancreas", ""),
    "aorta": ("Aorta", ""),
    "inferior vena cava": ("InferiorVenaCava", ""),
    "right adrenal gland": ("AdrenalGland", "Right"),
    "left adrenal gland": ("AdrenalGland", "Left"),
    "gallbladder": ("Gallbladder", ""),
    "esophagus": ("Esophagus", ""),
    "stomach": ("Stomach", ""),
    "duodenum": ("Duodenum", ""),
    "left kidney": ("Kidney", "Left"),
}
"""What pydicom's dictionary of SNOMED CT calls an organ, and its side (CID 244)."""
_PRIVATE = "99LABELFERRY"
"""Coding scheme of organs that have no code above: the id in the list of organs."""
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber"),
    *("StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
"""Elements that the standard lets be empty, and anonymisers take away."""


def check_highdicom() -> None:
    """Raise ``UserError`` where the library that writes DICOM SEG is not installed."""
    try:
        import highdicom  # noqa: F401
    except ImportError as error:
        raise UserError(
            "DICOM SEG needs the package highdicom", seen=error, fix="pip install highdicom"
        ) from error


def write_seg(path: Path, labels: Segmentation, series: Series, organs: OrganSet) -> None:
    """Write labels on the grid of their series as a DICOM SEG of type LABELMAP, atomically.

    Every slice is there, empty ones too, at the place of its picture and with a reference to it.
    Segment numbers are the organs' ids. Raises ``UserError`` where the headers of the series lack
    what such an object needs.
    """
    assert isinstance(series, Stack) and labels.grid.matches(series.grid)
    sources: list[Any] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd values: they are the source's
            sources = _sources(series)
            made = _segmentation(labels, sources, organs)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise UserError(
            "no DICOM SEG can be made for this series: its headers lack what one needs",
            path=series.files[0],
            seen=_nameless(str(error), sources) or type(error).__name__,
            fix="take --format nifti",
        ) from error
    if "PerFrameFunctionalGroupsSequence" in sources[0]:
        _point_to_frames(made, series)
    with atomic_path(path) as part:
        made.save_as(part)


def _nameless(text: str, sources: Sequence[Any]) -> str:
    """The first line of an error without what it quotes of the patient: tables of failures hold
    it."""
    line = text.partition("\n")[0]
    for keyword in _MAY_BE_EMPTY:
        for value in {str(source.get(keyword, "")) for source in sources} - {""}:
            line = line.replace(value, f"({keyword})")
    return line


def _segmentation(labels: Segmentation, sources: Sequence[Any], organs: OrganSet) -> Any:
    import highdicom

    version = metadata.version("labelferry")
    return highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=np.ascontiguousarray(labels.array.transpose(2, 1, 0), np.uint8),
        segmentation_type="LABELMAP",
        segment_descriptions=[_segment(organ, version) for organ in organs],
        series_instance_uid=highdicom.UID(),
        series_number=1000 + abs(int(sources[0].get("SeriesNumber") or 0)) % 100_000,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="labelferry",
        manufacturer_model_name="labelferry",
        software_versions=version,
        device_serial_number=version,
        content_label="ORGANS",
        content_description="Organs, labelled by a network",
        series_description="labelferry: organs",
        omit_empty_frames=False,
    )


def _sources(series: Stack) -> list[Any]:
    """The headers of a series in the order of its slices, all with the first one's orientation.

    Of a file of many frames those of the series alone, in order; highdicom asks for one
    orientation of all frames, and these of a file may have several.
    """
    from highdicom import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence
    from pydicom import Dataset

    sources = [_header(file) for file in series.files]
    first, step = sources[0], _step(series)
    for data in sources:
        data.SliceThickness = first.get("SliceThickness") or f"{step:.6g}"
        if "ImageOrientationPatient" in first:  # rounded differently from slice to slice
            data.ImageOrientationPatient = first.ImageOrientationPatient
    if "PerFrameFunctionalGroupsSequence" not in first:
        return sources
    if len(sources) > 1:
        raise ValueError("its frames lie in several files of many frames")
    shared, frame = Dataset(), series.frames[0]
    shared.PixelMeasuresSequence = PixelMeasuresSequence(frame.spacing, step, step)
    shared.PlaneOrientationSequence = PlaneOrientationSequence("PATIENT", frame.directions)
    first.SharedFunctionalGroupsSequence = [shared]
    first.NumberOfFrames, first.PerFrameFunctionalGroupsSequence = len(series.frames), []
    for one in series.frames:
        group = Dataset()
        group.PlanePositionSequence = PlanePositionSequence("PATIENT", one.position)
        first.PerFrameFunctionalGroupsSequence.append(group)
    return sources


def _point_to_frames(made: Any, series: Stack) -> None:
    """From the n-th slice to the frame of the file that it is."""
    for group in made.PerFrameFunctionalGroupsSequence:
        (source,) = group.DerivationImageSequence[0].SourceImageSequence
        source.ReferencedFrameNumber = series.frames[source.ReferencedFrameNumber - 1].index + 1


def _header(path: Path) -> Any:
    """The header of a file, with what may be empty and is missing."""
    import pydicom

    data = pydicom.dcmread(path, stop_before_pixels=True, force=not has_preamble(path))
    for keyword in _MAY_BE_EMPTY:
        if keyword not in data:
            setattr(data, keyword, "")
    return data


def _step(series: Stack) -> float:
    """From slice to slice along the normal, in mm."""
    across, down = (np.array(series.frames[0].directions[a:b]) for a, b in ((0, 3), (3, 6)))
    ends = np.subtract(series.frames[-1].position, series.frames[0].position)
    return abs(float(ends @ np.cross(across, down))) / (len(series.frames) - 1)


def _segment(organ: Organ, version: str) -> Any:
    import highdicom
    from pydicom.sr.codedict import codes

    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="labelferry", version=version, family=codes.DCM.ArtificialIntelligence
    )
    kind, side = _codes(organ)
    segment = highdicom.seg.SegmentDescription(
        segment_number=organ.id,
        segment_label=organ.name[:64],
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=kind,
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
        display_color=highdicom.color.CIELabColor.from_rgb(*organ.colour),
    )
    if side:
        modifier = [highdicom.sr.CodedConcept.from_code(side)]
        segment.SegmentedPropertyTypeCodeSequence[
            0
        ].SegmentedPropertyTypeModifierCodeSequence = modifier
    return segment


def _codes(organ: Organ) -> Sequence[Any]:
    """The organ and its side (or None) as codes."""
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    if organ.name not in ORGAN_CODES:
        return Code(str(organ.id), _PRIVATE, organ.name[:64]), None
    keyword, side = ORGAN_CODES[organ.name]
    return getattr(codes.SCT, keyword), getattr(codes.SCT, side) if side else None
