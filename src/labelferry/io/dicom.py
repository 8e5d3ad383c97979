"""Read the headers of DICOM files: which pictures they hold, how they were made, where they lie.

Who the patient is stays in memory, to tell patients apart; nothing of it is written anywhere (see
``importing``).
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import UID

from labelferry.errors import UserError
from labelferry.io.magic import has_preamble

_VOLUMES = {
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.2.1": "CT",
    "1.2.840.10008.5.1.4.1.1.2.2": "CT",
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.4.1": "MR",
    "1.2.840.10008.5.1.4.1.1.4.4": "MR",
}
"""CT and MR image storage, classic, enhanced (many frames in a file), and converted to enhanced."""
_NOBODY = re.compile(r"anon\w*|unknown|none|n/?a|removed|[0x*^ -]+", re.IGNORECASE)
"""What stands for the name or number of every patient after some anonymisers."""
_DIRECTORY = "1.2.840.10008.1.3.10"


@dataclass(frozen=True)
class Facts:
    """What a header says of how a picture was made; what it does not say is empty or None."""

    modality: str
    """CT or MR."""
    kind: tuple[str, ...] = ()
    """Image type, such as ORIGINAL, PRIMARY, M, IN_PHASE."""
    words: str = ""
    """Descriptions of series, protocol and pulse sequence, in lower case."""
    scan: tuple[str, ...] = ()
    """Scanning sequence and options, such as SE, IR, FS."""
    echo_ms: float | None = None
    repetition_ms: float | None = None
    inversion_ms: float | None = None
    b_value: float | None = None
    """s/mm²."""
    contrast: bool = False
    """Whether a contrast agent was given."""


@dataclass(frozen=True)
class Frame:
    """One picture of a file."""

    path: Path
    index: int
    """Which frame of the file."""
    patient: str
    """Tells patients apart; never written."""
    series: str
    instance: str
    """Tells copies of one picture from pictures that look alike."""
    facts: Facts
    shape: tuple[int, int]
    """Rows and columns."""
    position: tuple[float, float, float]
    """Centre of the first pixel, LPS mm."""
    directions: tuple[float, ...]
    """Along a row (towards higher columns), then along a column; LPS."""
    spacing: tuple[float, float]
    """Between rows and between columns, mm."""
    slope: float
    intercept: float
    order: tuple[float, ...]
    """Time point, acquisition and number in the series: the order of pictures of one place."""


@dataclass(frozen=True)
class Header:
    """What a DICOM file holds: pictures of a volume, or the reason why there are none."""

    frames: tuple[Frame, ...]
    left_out: str = ""


def read_header(path: Path) -> Header:
    """The pictures of a DICOM file; their pixels stay on the disk.

    Raises ``UserError`` where the header is damaged, or does not say where the pictures lie.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd values: what matters is said of the result
            bare = not has_preamble(path)
            return _header(path, pydicom.dcmread(path, stop_before_pixels=True, force=bare))
    except UserError:
        raise
    except Exception as error:  # a damaged header has pydicom stumble anywhere
        raise _damaged(path, f"{type(error).__name__}: {error}") from error


def _header(path: Path, data: Any) -> Header:
    stored = data.get("SOPClassUID")
    if stored is None:
        raise _damaged(path, "it does not say what it holds (no SOP class)")
    if str(stored) == _DIRECTORY:
        return Header((), "a directory")
    if str(stored) not in _VOLUMES:
        return Header((), UID(str(stored)).name)
    shared = _groups(data.get("SharedFunctionalGroupsSequence"))
    each = data.get("PerFrameFunctionalGroupsSequence") or [None]
    frames = []
    for index, own in enumerate(each):
        places = [*_groups([own] if own is not None else None), *shared, data]
        frames.append(_frame(path, index, places, data, _VOLUMES[str(stored)]))
    if "LOCALIZER" in frames[0].facts.kind:
        return Header((), "Localizer")
    return Header(tuple(frames))


def _groups(sequence: Any) -> list[Any]:
    """The data sets within the functional groups of an enhanced file."""
    return [
        item
        for group in sequence or ()
        for element in group
        if element.VR == "SQ"
        for item in element.value
    ]


def _frame(path: Path, index: int, places: Sequence[Any], data: Any, modality: str) -> Frame:
    position = _numbers(places, "ImagePositionPatient", 3)
    directions = _numbers(places, "ImageOrientationPatient", 6)
    spacing = _numbers(places, "PixelSpacing", 2)
    if position is None or directions is None or spacing is None or min(spacing) <= 0:
        raise UserError(
            "the DICOM file does not say where its picture lies",
            path=path,
            seen="no position, orientation or pixel spacing",
            fix="export the original series, with its geometry",
        )
    slope = _number(places, "RescaleSlope")
    order = ("TemporalPositionIndex", "TemporalPositionIdentifier", "AcquisitionNumber")
    series = _text([data], "SeriesInstanceUID") or str(path.parent)
    return Frame(
        path,
        index,
        _patient(data) or series,
        series,
        f"{_text([data], 'SOPInstanceUID')}#{index}",
        _shared(_facts(places, modality)),
        (int(data.Rows), int(data.Columns)),
        (position[0], position[1], position[2]),
        directions,
        (spacing[0], spacing[1]),
        slope if slope else 1.0,
        _number(places, "RescaleIntercept") or 0.0,
        tuple(_number(places, key) or 0.0 for key in (*order, "InstanceNumber")),
    )


def _patient(data: Any) -> str:
    """What tells patients apart; of those that were all made one nobody, the study does."""
    for keyword in ("PatientID", "PatientName"):
        said = _text([data], keyword)
        if said and not _NOBODY.fullmatch(said):
            return said
    return _text([data], "StudyInstanceUID")


@lru_cache(maxsize=1024)
def _shared(facts: Facts) -> Facts:
    """One object for all pictures of a series: a CD has thousands of them."""
    return facts


def _facts(places: Sequence[Any], modality: str) -> Facts:
    words = ("SeriesDescription", "ProtocolName", "SequenceName", "PulseSequenceName")
    scan = ("ScanningSequence", "SequenceVariant", "ScanOptions")
    return Facts(
        modality,
        tuple(word.upper() for word in _list(places, "FrameType") or _list(places, "ImageType")),
        " ".join(_text(places, key).lower() for key in words).strip(),
        tuple(word.upper() for key in scan for word in _list(places, key)),
        _number(places, "EffectiveEchoTime") or _number(places, "EchoTime"),
        _number(places, "RepetitionTime"),
        _number(places, "InversionTime"),
        _number(places, "DiffusionBValue"),
        bool(_text(places, "ContrastBolusAgent")),
    )


def _found(places: Sequence[Any], keyword: str) -> Iterator[Any]:
    for place in places:
        value = place.get(keyword)
        if value is not None and value != "":
            yield value


def _text(places: Sequence[Any], keyword: str) -> str:
    return str(next(_found(places, keyword), "")).strip()


def _list(places: Sequence[Any], keyword: str) -> list[str]:
    value = next(_found(places, keyword), ())
    return [value] if isinstance(value, str) else [str(item) for item in value]


def _number(places: Sequence[Any], keyword: str) -> float | None:
    value = next(_found(places, keyword), None)
    if value is None:
        return None
    if not isinstance(value, str | int | float):  # several values: an echo train, directions
        value = next(iter(value), None)
    return None if value is None else float(value)


def _numbers(places: Sequence[Any], keyword: str, count: int) -> tuple[float, ...] | None:
    value = next(_found(places, keyword), ())
    numbers = tuple(float(item) for item in value)
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


def _damaged(path: Path, seen: str) -> UserError:
    return UserError(
        "the DICOM file is truncated or damaged and cannot be read",
        path=path,
        seen=seen,
        fix="copy or export it again",
    )
