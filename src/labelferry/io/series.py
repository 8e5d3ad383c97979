"""DICOM given directly: a file, a series, a study or a CD becomes cases under pseudonyms.

The pictures stay where they lie, and are read when a case is. Nothing that goes on from here holds
a name, a number or a path of the input but the paths that are read, and what is said on a screen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from labelferry.cases import Case, Cohort, Modality, Series
from labelferry.errors import UserError
from labelferry.io.dicom import Frame, read_header
from labelferry.io.dicomnames import guess_sequence
from labelferry.io.dicomstacks import Stack, make_stacks, read_stack
from labelferry.io.folders import has_content, walk
from labelferry.io.images import is_image
from labelferry.io.magic import is_dicom
from labelferry.io.nifti import Image, header_of
from labelferry.io.notes import Discovery, Note, Role, count, note_of, some
from labelferry.io.pseudonyms import key_text, pseudonyms
from labelferry.organs import FLARE, OrganSet

Progress = Callable[[int, int], None]


def read_series(
    path: Path, role: Role, organs: OrganSet, progress: Progress | None = None
) -> Discovery:
    """The cases of a DICOM file (its series) or folder, for :func:`labelferry.io.discover`.

    Raises ``UserError`` for a source, which needs labels.
    """
    if role == "source":
        raise UserError(
            "a DICOM series has no label map",
            path=path,
            fix="bring the CT in by 'labelferry data import', and put label maps of the same "
            "names into labels/",
        )
    stacks, notes = find_series([f for f in files_of(path) if not is_image(f)], progress)
    refused = [note for note in notes if note.severity == "refused"]
    notes = [note for note in notes if note.severity != "refused"]
    if not stacks and not refused:
        text, said = "no volume in this DICOM", "; ".join(note.text for note in notes[:3])
        fix = "give CT or MR series of at least three slices"
        named = f"{text}; seen: {said}" if said else text
        refused.append(Note(None, path, named, fix, "refused", text))
    cases = []
    for case, stack, guess in named_cases(stacks):
        cases.append(case)
        notes.append(_legend(case, stack, guess))
    cases.sort(key=lambda case: case.patient)
    return Discovery(Cohort(tuple(cases)), tuple(notes), tuple(refused))


def named_cases(stacks: Sequence[Stack]) -> Iterator[tuple[Case, Stack, str]]:
    """A case under pseudonyms for each volume, and what its sequence was guessed from."""
    guesses = [guess_sequence(stack.frames[0].facts) for stack in stacks]
    patients = [stack.frames[0].patient for stack in stacks]
    names = pseudonyms([(who, what) for who, (what, _) in zip(patients, guesses, strict=True)])
    for stack, (sequence, guess), name in zip(stacks, guesses, names, strict=True):
        about = name.patient, modality_of(stack), sequence, sequence
        yield Case(name.case, *about, Path(name.case), series=stack), stack, guess


def one_series(path: Path) -> Case:
    """The case of a path where there is one; ``UserError`` for none and for several."""
    found = read_series(path, "target", FLARE)
    for note in found.refused:
        raise UserError(note.text, path=path, fix=note.fix)
    cases = found.cohort.cases
    if len(cases) > 1:
        raise UserError(
            "several DICOM series", path=path, seen=len(cases), fix="give the folder of one"
        )
    return cases[0]


def read_series_image(series: Series) -> Image:
    """The image of a series on its own grid. Raises ``UserError`` whose ``path`` alone is a name
    of the input."""
    assert isinstance(series, Stack)
    try:
        volume = read_stack(series)
    except UserError as error:
        seen = error.seen
        for file in (error.path,) if error.path else ():
            seen = None if seen is None else str(seen).replace(str(file), "the file")
        raise UserError(error.what, path=error.path, seen=seen, fix=error.fix) from error
    return Image(volume, header_of(volume.grid), volume.grid.shape)


def key_of(cases: Iterable[Case]) -> str:
    """Whose image each case of DICOM is, as CSV: what the pseudonyms protect."""
    rows = []
    for case in cases:
        if isinstance(case.series, Stack):
            first = case.series.frames[0]
            rows.append((case.id, case.patient, first.patient, first.path))
    return key_text(rows)


def files_of(path: Path) -> list[Path]:
    """The files to look at: those of a folder; of one file, those of its series beside it."""
    if path.is_dir():
        return list(walk(path))
    try:
        frames = read_header(path).frames if is_dicom(path) else ()
    except UserError:
        frames = ()
    if not frames:
        return [path]  # it is said why it is none
    return [file for file in walk(path.parent, deep=False) if file == path or _is_of(file, frames)]


def _is_of(file: Path, frames: Sequence[Frame]) -> bool:
    try:
        others = read_header(file).frames if is_dicom(file) else ()
    except UserError:
        return False
    first = frames[0]
    return any((one.patient, one.series) == (first.patient, first.series) for one in others[:1])


def find_series(
    files: Sequence[Path], progress: Progress | None = None
) -> tuple[list[Stack], list[Note]]:
    """The volumes that DICOM among the files makes up, and what there is to say.

    ``progress`` hears how many headers are read.
    """
    frames: list[Frame] = []
    notes: list[Note] = [*_hollow(files)]
    others: dict[str, list[str]] = defaultdict(list)
    dicom = [file for file in files if has_content(file) and is_dicom(file)]
    for done, file in enumerate(dicom, start=1):
        if progress:
            progress(done, len(dicom))
        try:
            header = read_header(file)
        except UserError as error:
            # no case is known by it: a series that lacks a slice is refused when it is put together
            note = note_of(error, path=file)
            notes.append(replace(note, severity="warning", nameless=error.what))
            continue
        frames += header.frames
        if not header.frames:
            others[header.left_out].append(file.name)
    for what, names in sorted(others.items()):
        text = f"{count(names, 'file')} of {what}, no volume, left out"
        place = dicom[0].parent
        notes.append(Note(None, place, f"{text}: {some(names)}", None, "info", text))
    stacks, said = make_stacks(frames)
    return stacks, [*notes, *said]


def modality_of(stack: Stack) -> Modality:
    """CT or MR, as the header says."""
    return "CT" if stack.frames[0].facts.modality == "CT" else "MR"


def _hollow(files: Sequence[Path]) -> Iterator[Note]:
    hollow = [file for file in files if not has_content(file)]
    if hollow:
        text = f"{count(hollow, 'file')} empty, locked or a broken link, left out"
        names = some([file.name for file in hollow])
        fix = "copy or export them again"
        yield Note(None, hollow[0].parent, f"{text}: {names}", fix, "warning", text)


def _legend(case: Case, stack: Stack, guess: str) -> Note:
    """Which series a pseudonym stands for."""
    about = f"{case.modality}, {case.sequence}"
    if guess and case.modality == "MR":
        about += f" (guessed from: {guess})"
    about += f", {len(stack.frames)} slices"
    folder = stack.frames[0].path.parent
    return Note(case.id, folder, f"{about}, in {folder.name}", None, "info", about)
