"""Find the cases of a folder. Names and tables are read here, and no image is opened."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from labelferry.cases import UNKNOWN_SEQUENCE, Case, Cohort
from labelferry.errors import UserError
from labelferry.io.names import CHANNEL, patient_and_sequence
from labelferry.io.nifti import is_nifti, stem
from labelferry.io.table import TABLE_NAME, has_labels, read_table
from labelferry.organs import OrganSet

Role = Literal["source", "target"]
Severity = Literal["info", "warning", "refused"]

_FOREIGN = (".nrrd", ".nhdr", ".mha", ".mhd", ".hdr", ".dcm", ".ima", ".mgz", ".mgh", ".mnc")
"""Images of formats that are not read; named, so that nobody looks for them in vain."""


@dataclass(frozen=True)
class Note:
    """Something that a person should know about a case, a file or a cohort."""

    case: str | None
    path: Path | None
    text: str
    fix: str | None
    severity: Severity


@dataclass(frozen=True)
class Discovery:
    """The cases found, what is to be said about them, and what cannot be used."""

    cohort: Cohort
    notes: tuple[Note, ...]
    refused: tuple[Note, ...]


Reader = Callable[[Path, Role, OrganSet], Discovery]


def discover(path: Path, role: Role, organs: OrganSet) -> Discovery:
    """Find the cases of a file or folder, in the role of labelled source or unlabelled target.

    Labels of a target are never looked at. A case of a source whose table says no annotated organs
    has ``annotated`` None: the organs that its label map holds (see ``io.check``). Faults of single
    files are returned, not raised. Raises ``UserError`` where there is no image at all, or no label
    for a source.
    """
    if not path.exists():
        raise UserError("no such file or folder", path=path)
    found = _reader(path)(path, role, organs)
    if role == "target":
        found = replace(found, cohort=found.cohort.without_labels())
    return replace(found, notes=(*found.notes, *_of_cohort(found.cohort, role, path)))


def guess_role(path: Path) -> Role:
    """A source where labels lie beside the images or stand in the table, else a target."""
    table = path if _is_table(path) else path / TABLE_NAME
    if table.is_file():
        return "source" if has_labels(table) else "target"
    return "source" if (path / "images").is_dir() and (path / "labels").is_dir() else "target"


def note_of(error: UserError, case: str | None = None, path: Path | None = None) -> Note:
    """The error about one file as a note that refuses its case."""
    place = error.path or path
    text = UserError(error.what, seen=error.seen, allowed=error.allowed).message()
    if place and place.name not in text:
        text = f"{place.name}: {text}"
    return Note(error.case or case, place, text, error.fix, "refused")


def _reader(path: Path) -> Reader:
    """Which reader understands the layout. DICOM, nnU-Net raw data and BIDS enter here."""
    if _is_table(path) or (path / TABLE_NAME).is_file():
        return _read_listed
    if path.is_file():
        return _read_single
    return _read_folders


def _is_table(path: Path) -> bool:
    return path.suffix.lower() == ".csv" and path.is_file()


# --- a table -------------------------------------------------------------------------------------


def _read_listed(path: Path, role: Role, organs: OrganSet) -> Discovery:
    table = path if _is_table(path) else path / TABLE_NAME
    read = read_table(table, organs, labels=role == "source")
    cases, refused = list(read.cases), [note_of(fault) for fault in read.faults]
    if role == "source":
        if not any(case.label for case in cases) and not refused:
            raise UserError(
                "no case of the table has a label",
                path=table,
                fix="name the label maps in the column 'label'",
            )
        refused += [_unlabelled(case.id, case.image) for case in cases if case.label is None]
        cases = [case for case in cases if case.label is not None]
    notes = _unlisted(table.parent, read.cases) if not refused else []
    return Discovery(Cohort(tuple(cases)), tuple(notes), tuple(refused))


def _unlisted(folder: Path, cases: Iterable[Case]) -> list[Note]:
    """Images beside those of the table that the table does not name."""
    images = folder / "images"
    if not images.is_dir():
        return []
    listed = {case.image.resolve() for case in cases}
    left = [entry.name for entry in _listing(images) if is_nifti(entry)]
    left = [name for name in left if (images / name).resolve() not in listed]
    if not left:
        return []
    text = f"{_count(left, 'image')} not in the table, left out: {_some(left)}"
    return [Note(None, images, text, f"add them to {TABLE_NAME} to use them", "warning")]


# --- one file ------------------------------------------------------------------------------------


def _read_single(path: Path, role: Role, organs: OrganSet) -> Discovery:
    if role == "source":
        raise UserError(
            "a single image has no label", path=path, fix="give a folder with images/ and labels/"
        )
    if not is_nifti(path):
        raise UserError("not a NIfTI file", path=path, allowed=".nii, .nii.gz")
    return _pair({_case_ids([path])[path]: [path]}, None, (), role)


# --- images/ and labels/, or images alone ---------------------------------------------------------


@dataclass(frozen=True)
class _Contents:
    """The images of a folder by their case id, and what else there is to say."""

    by_id: Mapping[str, Sequence[Path]]
    notes: tuple[Note, ...]


def _read_folders(path: Path, role: Role, organs: OrganSet) -> Discovery:
    images = path / "images" if (path / "images").is_dir() else path
    if role == "target":
        found = _images_in(images)
        return _pair(found.by_id, None, found.notes, role)
    labels = path / "labels"
    if images == path or not labels.is_dir():
        beside = path.name == "images" and (path.parent / "labels").is_dir()
        raise UserError(
            "a labelled source needs folders images/ and labels/, or a table cohort.csv",
            path=path,
            seen=_seen_in(path),
            fix=f"give its parent folder: {path.parent}" if beside else None,
        )
    found, marked = _images_in(images), _images_in(labels)
    return _pair(found.by_id, marked.by_id, (*found.notes, *marked.notes), role)


def _images_in(folder: Path) -> _Contents:
    entries = _listing(folder)
    paths = [entry for entry in entries if is_nifti(entry)]
    foreign = [entry.name for entry in entries if _is_foreign(entry)]
    if not paths:
        raise UserError(
            "the folder has no image (.nii, .nii.gz)",
            path=folder,
            seen=_seen_in(folder),
            fix=(
                "convert other formats to NIfTI first"
                if foreign
                else "give the folder that holds the images, or their images/"
                if any(entry.is_dir() for entry in entries)
                else None
            ),
        )
    notes = []
    if foreign:
        text = f"{_count(foreign, 'file')} in a format that is not read, left out: {_some(foreign)}"
        notes.append(Note(None, folder, text, "convert them to NIfTI", "warning"))
    by_id: dict[str, list[Path]] = defaultdict(list)
    for path, case_id in _case_ids(paths).items():
        by_id[case_id].append(path)
    return _Contents(by_id, tuple(notes))


def _case_ids(paths: Sequence[Path]) -> dict[Path, str]:
    """The stems; nnU-Net's channel goes where all of them carry it."""
    stems = {path: stem(path) for path in paths}
    if all(name.endswith(CHANNEL) and name != CHANNEL for name in stems.values()):
        return {path: name.removesuffix(CHANNEL) for path, name in stems.items()}
    return stems


def _pair(
    images: Mapping[str, Sequence[Path]],
    labels: Mapping[str, Sequence[Path]] | None,
    notes: Sequence[Note],
    role: Role,
) -> Discovery:
    """Cases from images and, by the same name, labels (None: no label is wanted)."""
    cases, refused = [], []
    for case_id, paths in images.items():
        marked = labels.get(case_id, ()) if labels is not None else ()
        fault = _fault(case_id, paths, "image") or _fault(case_id, marked, "label")
        if fault is None and labels is not None and not marked:
            fault = _unlabelled(case_id, paths[0])
        if fault:
            refused.append(fault)
            continue
        cases.append(_case(case_id, paths[0], marked[0] if marked else None, role))
    for case_id in sorted(set(labels or ()) - set(images)):
        path = (labels or {})[case_id][0]
        text = f"the label map {path.name} has no image of the same name (image missing)"
        fix = "add the image, or take the label map away"
        refused.append(Note(case_id, path, text, fix, "refused"))
    return Discovery(Cohort(tuple(cases)), (*notes, *_from_names(cases, role)), tuple(refused))


def _case(case_id: str, image: Path, label: Path | None, role: Role) -> Case:
    if role == "source":
        return Case(case_id, case_id, "CT", "CT", "CT", image, label)
    patient, sequence = patient_and_sequence(case_id)
    return Case(case_id, patient, "MR", sequence, sequence, image)


def _fault(case_id: str, paths: Sequence[Path], what: str) -> Note | None:
    if len(paths) > 1:
        names = " and ".join(path.name for path in paths)
        text = f"two {what} files have the same case id: {names}"
        return Note(case_id, paths[0], text, "rename or remove one of them", "refused")
    if paths and not paths[0].is_file():
        text = f"the {what} {paths[0].name} is a folder or a broken link, not a file"
        return Note(case_id, paths[0], text, None, "refused")
    return None


def _unlabelled(case_id: str, image: Path) -> Note:
    text = f"the image {image.name} has no label map (label missing)"
    return Note(case_id, image, text, "add a label map of the same name", "refused")


# --- what is said about all of them ---------------------------------------------------------------


def _from_names(cases: Sequence[Case], role: Role) -> list[Note]:
    """What was guessed where no table says it."""
    if role == "source":
        if not cases:
            return []
        text = "no table says which organs are annotated: taken to be those that each label holds"
        return [Note(None, None, text, f"say it in {TABLE_NAME} if that is wrong", "info")]
    unknown = [case.id for case in cases if case.sequence == UNKNOWN_SEQUENCE]
    if not unknown:
        return []
    text = f"no sequence in the name of {_count(unknown, 'image')}, taken as unknown and each as a "
    text += f"patient of its own: {_some(unknown)}"
    fix = f"name files <patient>_<sequence>.nii.gz (p01_T2), or add a {TABLE_NAME}"
    return [Note(None, None, text, fix, "info")]


def _of_cohort(cohort: Cohort, role: Role, path: Path) -> list[Note]:
    notes = []
    wanted, other = ("CT", "MR") if role == "source" else ("MR", "CT")
    odd = [case.id for case in cohort if case.modality != wanted]
    if odd:
        text = f"{_count(odd, 'case')} of modality {other} in the {role}: {_some(odd)}"
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
                text = f"{what} that differ only in upper and lower case: {_some(same)}"
                fix = "check that they are meant to differ"
                notes.append(Note(None, path, text, fix, "warning"))
    return notes


def _listing(folder: Path) -> list[Path]:
    """The entries of a folder that may be data: no hidden file, no backup."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UserError("the folder cannot be read", path=folder, seen=error.strerror) from error
    return [e for e in entries if not e.name.startswith((".", "__MACOSX")) and e.name[-1] != "~"]


def _is_foreign(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith(_FOREIGN) and path.is_file()


def _seen_in(folder: Path) -> str:
    entries = _listing(folder)
    names = [f"{e.name}/" if e.is_dir() else e.name for e in entries]
    return _some(names) if names else "an empty folder"


def _some(names: Sequence[str], most: int = 10) -> str:
    text = ", ".join(names[:most])
    return text if len(names) <= most else f"{text}, … ({len(names)} in all)"


def _count(names: Sequence[str], noun: str) -> str:
    return f"{len(names)} {noun}" + ("" if len(names) == 1 else "s")
