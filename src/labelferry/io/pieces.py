"""Every volume of an input of any kind: DICOM, NRRD, MHA, NIfTI. Voxels stay on the disk."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from labelferry.cases import Case, Modality
from labelferry.errors import UserError
from labelferry.io.check import check_case
from labelferry.io.dicom import Frame, read_header
from labelferry.io.dicomnames import guess_sequence
from labelferry.io.dicomstacks import Stack, make_stacks, read_stack
from labelferry.io.discover import discover, guess_role
from labelferry.io.folders import CONVERT, by_case, flat, is_foreign, listing
from labelferry.io.itk import is_itk, read_itk
from labelferry.io.lists import is_list
from labelferry.io.magic import is_dicom
from labelferry.io.nifti import has_orientation, is_nifti, read_image, read_labels
from labelferry.io.notes import Note, count, note_of, some
from labelferry.io.numbering import LabelScheme
from labelferry.io.pairs import pair
from labelferry.io.remarks import grid_notes, intensity_notes
from labelferry.organs import OrganSet
from labelferry.volume import Segmentation, Volume

_DEEPEST = 16


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
    files = list(_files(path)) if path.is_dir() else [path]
    pieces: list[Piece] = []
    notes: list[Note] = []
    hollow = [file for file in files if not is_nifti(file) and not _has_content(file)]
    if hollow:
        names = some([file.name for file in hollow])
        text = f"{count(hollow, 'file')} empty, locked or a broken link, left out: {names}"
        notes.append(Note(None, path, text, "copy or export them again", "warning"))
    files = sorted(set(files) - set(hollow))
    plain = [file for file in files if is_nifti(file) or is_itk(file)]
    others = sorted(set(files) - set(plain))
    dicom = [file for file in others if is_dicom(file)]
    for found, said in (_of_dicom(dicom, progress), _of_itk(plain)):
        pieces += found
        notes += said
    if is_list(path) or any(map(is_nifti, plain)):
        try:
            found, said = _of_nifti(path, organs, numbering)
        except UserError as error:
            if not pieces:
                raise
            found, said = [], [note_of(error, path=path)]
        pieces += found
        notes += said
    unread = [file.name for file in sorted(set(others) - set(dicom)) if is_foreign(file)]
    if unread:
        text = f"{count(unread, 'file')} in a format that is not read, left out: {some(unread)}"
        notes.append(Note(None, path, text, "convert them to NIfTI", "warning"))
    return pieces, notes


def _files(folder: Path, depth: int = 0) -> Iterator[Path]:
    for entry in listing(folder):
        if not entry.is_dir():
            yield entry
        elif not entry.is_symlink() and depth < _DEEPEST:
            yield from _files(entry, depth + 1)


def _has_content(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0 and os.access(file, os.R_OK)


def _of_dicom(
    files: Sequence[Path], progress: Callable[[int, int], None]
) -> tuple[list[Piece], list[Note]]:
    frames: list[Frame] = []
    notes: list[Note] = []
    others: dict[str, list[str]] = defaultdict(list)
    for done, file in enumerate(files, start=1):
        progress(done, len(files))
        try:
            header = read_header(file)
        except UserError as error:
            # no case is known by it: a series that lacks a slice is refused when it is put together
            notes.append(replace(note_of(error, path=file), severity="warning"))
            continue
        frames += header.frames
        if not header.frames:
            others[header.left_out].append(file.name)
    for what, names in sorted(others.items()):
        text = f"{count(names, 'file')} of {what}, no volume, left out: {some(names)}"
        notes.append(Note(None, files[0].parent, text, None, "info"))
    stacks, said = make_stacks(frames)
    return [_of_stack(stack) for stack in stacks], [*notes, *said]


def _of_stack(stack: Stack) -> Piece:
    first = stack.frames[0]
    sequence, guess = guess_sequence(first.facts)
    modality: Modality = "CT" if first.facts.modality == "CT" else "MR"
    about = first.patient, modality, sequence, sequence, guess, first.path
    return Piece(*about, lambda: _loaded(read_stack(stack), first.path, modality))


def _of_itk(files: Sequence[Path]) -> tuple[list[Piece], list[Note]]:
    read = pair(by_case(flat([file for file in files if is_itk(file)])), None, (), "target")
    return [_named_piece(case, partial(_load_itk, case)) for case in read.cohort], [*read.refused]


def _load_itk(case: Case) -> Loaded:
    volume, replaced = read_itk(case.image)
    return _loaded(volume, case.image, case.modality, replaced)


def _of_nifti(
    path: Path, organs: OrganSet, numbering: LabelScheme | None
) -> tuple[list[Piece], list[Note]]:
    found = discover(path, guess_role(path), organs, numbering)
    notes = [note for note in (*found.notes, *found.refused) if note.fix != CONVERT]
    return [_of_case(case, organs) for case in found.cohort], notes


def _of_case(case: Case, organs: OrganSet) -> Piece:
    annotated = case.annotated
    if annotated is None and case.numbering is not None:
        annotated = case.numbering.organs_annotated(organs)
    return replace(_named_piece(case, partial(_load_nifti, case, organs)), annotated=annotated)


def _load_nifti(case: Case, organs: OrganSet) -> Loaded:
    notes = check_case(case, organs)
    image = read_image(case.image)
    labels = None
    if case.label is not None and all(note.severity != "refused" for note in notes):
        labels = read_labels(case.label, organs, case.numbering)
    return Loaded(image.volume, notes, labels, has_orientation(image.header))


def _named_piece(case: Case, load: Callable[[], Loaded]) -> Piece:
    guess = "" if case.modality == "CT" else "name or table"
    return Piece(case.patient, case.modality, case.sequence, case.domain, guess, case.image, load)


def _loaded(volume: Volume, path: Path, modality: Modality, replaced: int = 0) -> Loaded:
    """With what its intensities and its grid say."""
    notes = intensity_notes(volume, path, None, modality, replaced)
    return Loaded(volume, [*grid_notes(volume.grid, path, None), *notes])
