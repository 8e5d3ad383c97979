"""What is found in a folder, and what a person should know about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from labelferry.cases import Cohort
from labelferry.errors import UserError

Role = Literal["source", "target"]
Severity = Literal["info", "warning", "refused"]


@dataclass(frozen=True)
class Note:
    """Something that a person should know about a case, a file or a cohort."""

    case: str | None
    path: Path | None
    text: str
    fix: str | None
    severity: Severity
    nameless: str | None = None
    """The text for files that others read, where ``text`` or ``path`` may name a patient."""

    def line(self) -> str:
        """Case, text and fix on one line; the texts themselves name the file.

        A case whose file has its name is not named twice.
        """
        name = self.path.name if self.path else ""
        told = bool(name) and self.text.startswith(name) and name.startswith(self.case or name)
        text = self.text if told or not self.case else f"{self.case}: {self.text}"
        if not self.fix:
            return text
        stop = "" if text[-1] in ".?!" else "."
        return f"{text}{stop} {self.fix[0].upper()}{self.fix[1:]}"


@dataclass(frozen=True)
class Discovery:
    """The cases found, what is to be said about them, and what cannot be used."""

    cohort: Cohort
    notes: tuple[Note, ...]
    refused: tuple[Note, ...]


def note_of(
    error: UserError, case: str | None = None, path: Path | None = None, *, named: bool = True
) -> Note:
    """The error about one file as a note that refuses its case.

    ``named`` off: the file belongs to a DICOM series; its name may be that of a patient.
    """
    place = error.path or path
    text = UserError(error.what, seen=error.seen, allowed=error.allowed).message()
    if not named:
        return Note(error.case or case, place, text, error.fix, "refused", text)
    if place and place.name not in text:
        text = f"{place.name}: {text}"
    return Note(error.case or case, place, text, error.fix, "refused")


def some(names: Sequence[str], most: int = 10) -> str:
    """The first names, and how many there are in all."""
    text = ", ".join(names[:most])
    return text if len(names) <= most else f"{text}, … ({len(names)} in all)"


def count(names: Sequence[object], noun: str) -> str:
    """A number with its noun, such as ``2 images``."""
    return f"{len(names)} {noun}" + ("" if len(names) == 1 else "s")
