"""Find the cases of a file or folder. Names and tables are read here, and no image is opened."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from labelferry.cases import UNKNOWN_SEQUENCE, Case, Cohort
from labelferry.errors import UserError
from labelferry.io.bids import is_bids, read_bids
from labelferry.io.folders import (
    by_case,
    flat,
    holds_series,
    images_in,
    is_foreign,
    listing,
    names_series,
    seen_in,
)
from labelferry.io.images import SUFFIXES, is_image
from labelferry.io.lists import is_list, list_has_labels, read_list
from labelferry.io.nnunet import is_raw, numbering_beside, raw_has_labels, read_raw
from labelferry.io.notes import Discovery, Note, Role, Severity, count, note_of, some
from labelferry.io.numbering import LabelScheme
from labelferry.io.pairs import pair, unlabelled
from labelferry.io.table import TABLE_NAME, has_labels, read_table
from labelferry.organs import OrganSet

__all__ = ["Discovery", "Note", "Role", "Severity", "discover", "guess_role", "note_of"]

Reader = Callable[[Path, Role, OrganSet], Discovery]
Progress = Callable[[int, int], None]
"""Hears how many are done, and of how many."""


def discover(
    path: Path,
    role: Role,
    organs: OrganSet,
    numbering: LabelScheme | None = None,
    progress: Progress | None = None,
) -> Discovery:
    """Find the cases of a file or folder, in the role of labelled source or unlabelled target.

    Labels of a target are never looked at. A case of a source whose table says no annotated organs
    has ``annotated`` None: the organs that its label map holds, or its numbering has (see
    ``io.check``). ``numbering`` says how the values of all label maps of a source are numbered,
    whatever the folder says. ``progress`` hears how many DICOM headers are read. Faults of single
    files are returned, not raised. Raises ``UserError`` where there is no image at all, or no label
    for a source.
    """
    if not path.exists():
        raise UserError("no such file or folder", path=path)
    reader = _reader(path, progress)
    found = reader(path, role, organs)
    if role == "target":
        found = replace(found, cohort=found.cohort.without_labels())
    elif numbering is not None:
        cases = tuple(replace(case, numbering=numbering) for case in found.cohort)
        found = replace(found, cohort=Cohort(cases))
    elif reader in (read_raw, _read_folders):  # a table of ours has our numbering
        found = numbering_beside(path, found, organs)
    return replace(found, notes=(*found.notes, *_of_cohort(found.cohort, role, path)))


def guess_role(path: Path) -> Role:
    """A source where labels lie beside the images or stand in the table, else a target."""
    table = path if _is_table(path) else path / TABLE_NAME
    if is_list(path):
        labelled = list_has_labels(path)
    elif table.is_file():
        labelled = has_labels(table)
    elif is_raw(path):
        labelled = raw_has_labels(path)
    else:
        labelled = (path / "images").is_dir() and (path / "labels").is_dir()
    return "source" if labelled else "target"


def _reader(path: Path, progress: Progress | None) -> Reader:
    """Which reader understands the layout."""
    if is_list(path):
        return read_list
    if _is_table(path) or (path / TABLE_NAME).is_file():
        return _read_listed
    if path.is_file():
        is_series = not is_image(path) and holds_series(path)
        return partial(_read_series, progress=progress) if is_series else _read_single
    if is_raw(path):
        return read_raw
    if is_bids(path):
        return read_bids
    if holds_series(path):
        return partial(_read_series, progress=progress)
    return _read_folders


def _is_table(path: Path) -> bool:
    return path.suffix.lower() == ".csv" and path.is_file()


# --- a table -------------------------------------------------------------------------------------


def _read_listed(path: Path, role: Role, organs: OrganSet) -> Discovery:
    table = path if _is_table(path) else path / TABLE_NAME
    read = read_table(table, organs, labels=role == "source")
    refused = [note_of(fault) for fault in read.faults]
    cases = list(_with_series(read.cases, refused))
    if role == "source":
        if not any(case.label for case in cases) and not refused:
            raise UserError(
                "no case of the table has a label",
                path=table,
                fix="name the label maps in the column 'label'",
            )
        refused += [unlabelled(case.id, case.image) for case in cases if case.label is None]
        cases = [case for case in cases if case.label is not None]
    notes = _unlisted(table.parent, read.cases) if not refused else []
    return Discovery(Cohort(tuple(cases)), tuple(notes), tuple(refused))


def _with_series(cases: Iterable[Case], refused: list[Note]) -> Iterator[Case]:
    """The cases; those whose image is DICOM with their series."""
    dicom = [case.image for case in cases if names_series(case.image)]
    if not dicom:
        yield from cases
        return
    from labelferry.io.listedseries import as_called, listed_series  # pydicom takes its time

    found = listed_series(dicom)
    for case in cases:
        if case.image not in found:
            yield case
            continue
        try:
            yield _joined(case, as_called(found[case.image], case.id))
        except UserError as error:
            refused.append(note_of(error, case.id, named=False))


def _joined(row: Case, read: Case) -> Case:
    """What a table says of a series goes before what its headers say."""
    if row.modality != read.modality:
        raise UserError(
            "the DICOM header says another modality than the table",
            seen=read.modality,
            allowed=row.modality,
            fix="correct the column 'modality' or 'image'",
        )
    if row.sequence == UNKNOWN_SEQUENCE:
        own = row.domain if row.domain != UNKNOWN_SEQUENCE else read.domain
        row = replace(row, sequence=read.sequence, domain=own)
    return replace(row, image=read.image, series=read.series)


def _unlisted(folder: Path, cases: Iterable[Case]) -> list[Note]:
    """Images beside those of the table that the table does not name."""
    images = folder / "images"
    if not images.is_dir():
        return []
    listed = {case.image.resolve() for case in cases}
    left = [entry.name for entry in listing(images) if is_image(entry)]
    left = [name for name in left if (images / name).resolve() not in listed]
    if not left:
        return []
    text = f"{count(left, 'image')} not in the table, left out: {some(left)}"
    return [Note(None, images, text, f"add them to {TABLE_NAME} to use them", "warning")]


def _read_series(
    path: Path,
    role: Role,
    organs: OrganSet,
    progress: Progress | None = None,
) -> Discovery:
    from labelferry.io.series import read_series  # pydicom and SimpleITK take their time

    return read_series(path, role, organs, progress)


# --- one file ------------------------------------------------------------------------------------


def _read_single(path: Path, role: Role, organs: OrganSet) -> Discovery:
    if role == "source":
        raise UserError(
            "a single image has no label", path=path, fix="give a folder with images/ and labels/"
        )
    if not is_image(path):
        raise UserError(
            "not an image that is read",
            path=path,
            allowed=f"{', '.join(SUFFIXES)}, DICOM; a list of files: .csv, .txt",
            fix="convert it to NIfTI" if is_foreign(path) else None,
        )
    return pair(by_case(flat([path])), None, (), role)


# --- images/ and labels/, or images alone ---------------------------------------------------------


def _read_folders(path: Path, role: Role, organs: OrganSet) -> Discovery:
    images = path / "images" if (path / "images").is_dir() else path
    if role == "target":
        found = images_in(images)
        return pair(found.by_id, None, found.notes, role)
    labels = path / "labels"
    if images == path or not labels.is_dir():
        beside = path.name == "images" and (path.parent / "labels").is_dir()
        raise UserError(
            "a labelled source needs folders images/ and labels/, or a table cohort.csv",
            path=path,
            seen=seen_in(path),
            fix=f"give its parent folder: {path.parent}" if beside else None,
        )
    found, marked = images_in(images), images_in(labels, labels=True)
    return pair(found.by_id, marked.by_id, (*found.notes, *marked.notes), role)


# --- what is said about all of them ---------------------------------------------------------------


def _of_cohort(cohort: Cohort, role: Role, path: Path) -> list[Note]:
    notes = []
    wanted, other = ("CT", "MR") if role == "source" else ("MR", "CT")
    odd = [case.id for case in cohort if case.modality != wanted]
    if odd:
        text = f"{count(odd, 'case')} of modality {other} in the {role}: {some(odd)}"
        fix = f"a {role} is {wanted}: check the column 'modality'"
        notes.append(Note(None, path, text, fix, "warning"))
    for what, names in (
        ("case ids", [case.id for case in cohort]),
        ("domains", list(cohort.domains)),
    ):
        folded: dict[str, list[str]] = defaultdict(list)
        for name in names:
            folded[name.casefold()].append(name)
        for same in folded.values():
            if len(same) > 1:
                text = f"{what} that differ only in upper and lower case: {some(same)}"
                fix = "check that they are meant to differ"
                notes.append(Note(None, path, text, fix, "warning"))
    return notes
