"""Every volume of an input of any kind: DICOM, NRRD, MHA, NIfTI. Voxels stay on the disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from labelferry.cases import Case, Modality
from labelferry.errors import UserError
from labelferry.io.check import check_case
from labelferry.io.dicomnames import guess_sequence
from labelferry.io.dicomstacks import Stack, read_stack
from labelferry.io.discover import discover, guess_role
from labelferry.io.folders import APART, is_foreign
from labelferry.io.images import is_image, read_image, read_labels
from labelferry.io.lists import is_list
from labelferry.io.magic import is_dicom
from labelferry.io.nifti import has_orientation
from labelferry.io.notes import Note, count, note_of, some
from labelferry.io.numbering import LabelScheme
from labelferry.io.remarks import grid_notes, intensity_notes
from labelferry.io.series import files_of, find_series, modality_of
from labelferry.organs import OrganSet
from labelferry.volume import Segmentation, Volume


@dataclass(frozen=True, eq=False)
class Loaded:
    """The voxels of a piece, and what there is to say; a note that is ``refused`` forbids it."""

    volume: Volume
    notes: Sequence[Note]
    labels: Segmentation | None = None
    oriented: bool = True


@dataclass(frozen=True)
class Piece:
    """One volume of the input, still on the disk."""

    patient: str
    """Tells patients apart."""
    modality: Modality
    sequence: str
    domain: str
    guess: str
    """What the sequence was guessed from."""
    origin: Path
    """A file of it, for messages and the key."""
    load: Callable[[], Loaded]
    annotated: frozenset[int] | None = None


def find_pieces(
    path: Path,
    organs: OrganSet,
    numbering: LabelScheme | None,
    progress: Callable[[int, int], None],
) -> tuple[list[Piece], list[Note]]:
    """Every volume that a file, folder or list holds, and what there is to say.

    ``progress`` hears how many DICOM headers are read. Raises ``UserError`` where nothing but NIfTI
    is there, and nothing can be made of it.
    """
    files = files_of(path)
    stacks, notes = find_series([file for file in files if not is_image(file)], progress)
    pieces = [_of_stack(stack) for stack in stacks]
    if is_list(path) or any(map(is_image, files)):
        try:
            found, said = _of_files(path, organs, numbering)
        except UserError as error:
            if not pieces:
                raise
            found, said = [], [note_of(error, path=path)]
        pieces += found
        notes += said
    unread = [file.name for file in files if is_foreign(file) and not is_dicom(file)]
    if unread and not any(map(is_image, files)):
        text = f"{count(unread, 'file')} in a format that is not read, left out: {some(unread)}"
        notes.append(Note(None, path, text, "convert them to NIfTI", "warning"))
    return pieces, notes


def _of_stack(stack: Stack) -> Piece:
    first = stack.frames[0]
    sequence, guess = guess_sequence(first.facts)
    modality = modality_of(stack)
    about = first.patient, modality, sequence, sequence, guess, first.path
    return Piece(*about, lambda: _loaded(read_stack(stack), first.path, modality))


def _of_files(
    path: Path, organs: OrganSet, numbering: LabelScheme | None
) -> tuple[list[Piece], list[Note]]:
    found = discover(path, guess_role(path), organs, numbering)
    # DICOM beside other images is taken here
    notes = [note for note in (*found.notes, *found.refused) if note.fix != APART]
    return [_of_case(case, organs) for case in found.cohort], notes


def _of_case(case: Case, organs: OrganSet) -> Piece:
    annotated = case.annotated
    if annotated is None and case.numbering is not None:
        annotated = case.numbering.organs_annotated(organs)
    return replace(_named_piece(case, partial(_load_file, case, organs)), annotated=annotated)


def _load_file(case: Case, organs: OrganSet) -> Loaded:
    notes = check_case(case, organs)
    image = read_image(case.image)
    labels = None
    if case.label is not None and all(note.severity != "refused" for note in notes):
        labels = read_labels(case.label, organs, case.numbering)
    return Loaded(image.volume, notes, labels, has_orientation(image.header))


def _named_piece(case: Case, load: Callable[[], Loaded]) -> Piece:
    guess = "" if case.modality == "CT" else "name or table"
    return Piece(case.patient, case.modality, case.sequence, case.domain, guess, case.image, load)


def _loaded(volume: Volume, path: Path, modality: Modality) -> Loaded:
    """With what its intensities and its grid say."""
    notes = intensity_notes(volume, path, None, modality, 0)
    return Loaded(volume, [*grid_notes(volume.grid, path, None), *notes])
