"""Names that tell nothing of a patient: p001, p002, … for patients, p001_T2 for their images."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labelferry.errors import UserError
from labelferry.files import csv_text

KEY_COLUMNS = ("case", "patient", "original_patient", "original_file")


@dataclass(frozen=True)
class Pseudonym:
    """The names of one image."""

    case: str
    patient: str


def pseudonyms(images: Sequence[tuple[str, str]]) -> list[Pseudonym]:
    """The names of images, given what tells their patients apart and their sequences.

    The order of patients says nothing of their names, numbers or dates; the same images get the
    same names.
    """
    patients = sorted({patient for patient, _ in images}, key=_scrambled)
    width = max(3, len(str(len(patients))))
    called = {patient: f"p{n:0{width}}" for n, patient in enumerate(patients, start=1)}
    times: Counter[str] = Counter()
    found = []
    for patient, sequence in images:
        word = re.sub(r"[^A-Za-z0-9+-]", "", sequence) or "unknown"
        name = f"{called[patient]}_{word}"
        times[name.casefold()] += 1
        number = times[name.casefold()]
        case = name if number == 1 else f"{name}_{number}"
        found.append(Pseudonym(case, called[patient]))
    return found


def keep_key_apart(key: Path | None, out: Path) -> None:
    """Raise ``UserError`` where a key would lie in the folder whose names it tells."""
    if key is not None and key.resolve().is_relative_to(out.resolve()):
        raise UserError(
            "the key would lie beside what it is the key of", path=key, fix="keep it elsewhere"
        )


def key_text(rows: Sequence[tuple[str, str, str, Path]]) -> str:
    """The key, as CSV: case, pseudonym, what tells the patient apart in the input, a file of it."""
    return csv_text(
        KEY_COLUMNS,
        ((case, patient, original, file.absolute()) for case, patient, original, file in rows),
    )


def _scrambled(patient: str) -> str:
    return hashlib.sha256(patient.encode()).hexdigest()
