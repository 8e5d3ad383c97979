"""Turn DICOM and other files into a clean cohort under names that tell nothing of a patient.

What is written holds voxels, their grid, and a table of pseudonyms, modalities and sequences.
Names, numbers, dates and paths of the input stand in the key alone, where one is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelferry.cases import Case, Cohort
from labelferry.errors import UserError
from labelferry.files import atomic_folder, write_text
from labelferry.io.folders import seen_in
from labelferry.io.nifti import write_volume
from labelferry.io.notes import Note, note_of
from labelferry.io.numbering import LabelScheme
from labelferry.io.pieces import Loaded, Piece, find_pieces
from labelferry.io.pseudonyms import keep_key_apart, key_text, pseudonyms
from labelferry.io.table import TABLE_NAME, write_table
from labelferry.organs import FLARE, OrganSet

_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True)
class Imported:
    """The new cohort, and from what its sequences were guessed, by case id."""

    cohort: Cohort
    guesses: Mapping[str, str]


def import_cohort(
    path: Path,
    out: Path,
    *,
    organs: OrganSet = FLARE,
    numbering: LabelScheme | None = None,
    key: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    told: Callable[[Note], None] | None = None,
) -> Imported:
    """Write every volume of ``path`` into the new folder ``out``: ``images/``, ``labels/`` where
    there are labels, and ``cohort.csv``; all of it, or nothing after a failure or a kill.

    Patients become p001, p002, … ``key`` is a file outside of ``out`` that receives pseudonyms and
    origins. One bad series or file never stops the others: ``told`` receives what there is to say.
    Raises ``UserError`` where no volume can be used, or ``out`` holds files.
    """
    _check_places(path, out, key)
    tell = told or (lambda note: None)
    step = progress or (lambda what, done, total: None)
    pieces, notes = find_pieces(path, organs, numbering, partial(step, "headers read"))
    for note in notes:
        tell(note)
    named = _named(pieces)
    if not named:
        raise _nothing(path)
    with atomic_folder(out) as folder:
        cases: list[Case] = []
        for done, (case_id, patient, piece) in enumerate(named):
            step("volumes written", done, len(named))
            case = _take(folder, case_id, patient, piece, tell)
            cases += [] if case is None else [case]
        step("volumes written", len(named), len(named))
        if not cases:
            raise _nothing(path)
        guesses = {case_id: piece.guess for case_id, _, piece in named}
        write_table(folder / TABLE_NAME, cases, guesses)
    if len({case.modality for case in cases}) > 1:
        text = "CT and MRI are in one cohort"
        fix = f"make a {TABLE_NAME} of each: adapt takes CT as the source, MRI as the target"
        tell(Note(None, out / TABLE_NAME, text, fix, "warning"))
    if key is not None:
        write_text(key, _key_text(named, {case.id for case in cases}))
    return Imported(Cohort(tuple(_moved(case, folder, out) for case in cases)), guesses)


def _nothing(path: Path) -> UserError:
    return UserError(
        "no volume can be used",
        path=path,
        seen=seen_in(path) if path.is_dir() else path.name,
        allowed="DICOM, NIfTI, NRRD, MHA",
    )


def _take(
    folder: Path, case_id: str, patient: str, piece: Piece, tell: Callable[[Note], None]
) -> Case | None:
    try:
        loaded = piece.load()
    except UserError as error:
        tell(note_of(error, path=piece.origin))
        return None
    for note in loaded.notes:
        tell(note)
    if any(note.severity == "refused" for note in loaded.notes):
        return None
    return _write(folder, case_id, patient, piece, loaded)


def _check_places(path: Path, out: Path, key: Path | None) -> None:
    if not path.exists():
        raise UserError("no such file or folder", path=path)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(
            "the output is no empty folder", path=out, fix="give the name of a new folder"
        )
    keep_key_apart(key, out)


def _named(pieces: Sequence[Piece]) -> list[tuple[str, str, Piece]]:
    """Case id, pseudonym and piece, patient by patient."""
    names = pseudonyms([(piece.patient, piece.sequence) for piece in pieces])
    rows = [(name.case, name.patient, piece) for name, piece in zip(names, pieces, strict=True)]
    return sorted(rows, key=lambda row: row[1])


def _write(folder: Path, case_id: str, patient: str, piece: Piece, loaded: Loaded) -> Case:
    volume, labels = loaded.volume, loaded.labels
    image = folder / "images" / f"{case_id}.nii.gz"
    label = None if labels is None else folder / "labels" / f"{case_id}.nii.gz"
    compact = volume.with_array(_compact(volume.array))
    write_volume(image, compact, oriented=loaded.oriented)
    if labels is not None and label is not None:
        write_volume(label, labels, oriented=loaded.oriented)
    about = piece.modality, piece.sequence, piece.domain
    return Case(case_id, patient, *about, image, label, piece.annotated)


def _compact(array: NDArray[np.float32]) -> NDArray[Any]:
    """Whole numbers as int16, where they fit."""
    fits = _INT16.min <= float(array.min()) and float(array.max()) <= _INT16.max
    planes = (array[:, :, k] for k in range(array.shape[2]))  # the memory of one
    if fits and all((plane == np.rint(plane)).all() for plane in planes):
        return array.astype(np.int16)
    return array


def _key_text(named: Sequence[tuple[str, str, Piece]], written: set[str]) -> str:
    return key_text(
        [
            (case_id, patient, piece.patient, piece.origin)
            for case_id, patient, piece in named
            if case_id in written
        ]
    )


def _moved(case: Case, before: Path, after: Path) -> Case:
    image = after / case.image.relative_to(before)
    label = None if case.label is None else after / case.label.relative_to(before)
    return replace(case, image=image, label=label)
