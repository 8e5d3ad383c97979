"""What a file is by its first bytes, whatever its name."""

from __future__ import annotations

from pathlib import Path

_PREAMBLE = 128
_FIRST = tuple(b"%c\0%c\0" % tag for tag in ((2, 0), (8, 0), (8, 5), (8, 8), (8, 0x16)))
"""The first element of a DICOM file that was stored without a preamble."""


def is_dicom(path: Path) -> bool:
    """Whether a file's content is DICOM; the directory of a CD does not count."""
    if path.name.upper() == "DICOMDIR":
        return False
    start = _start(path, _PREAMBLE + 4)
    return start[_PREAMBLE:] == b"DICM" or start.startswith(_FIRST)


def has_preamble(path: Path) -> bool:
    """Whether a DICOM file begins as the standard asks for."""
    return _start(path, _PREAMBLE + 4)[_PREAMBLE:] == b"DICM"


def _start(path: Path, size: int) -> bytes:
    if not path.is_file():  # a pipe would be waited for
        return b""
    try:
        with path.open("rb") as stream:
            return stream.read(size)
    except OSError:
        return b""
