"""The image files of a folder, flat or nested, and their case ids. No image is opened here."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from labelferry.errors import UserError
from labelferry.io.images import is_image
from labelferry.io.magic import is_dicom
from labelferry.io.names import CHANNEL, sequence_of
from labelferry.io.nifti import stem
from labelferry.io.notes import Note, count, some

FOREIGN = (".hdr", ".dcm", ".ima", ".mgz", ".mgh", ".mnc")
"""Images of formats that are not read here; named, so that nobody looks for them in vain."""
APART = "give the folder of DICOM files alone, or bring all of it in by 'labelferry data import'"
"""What to do about DICOM among other images."""

_NO_IMAGES = re.compile(
    r"labels?(t[rs])?|masks?|segs?|segmentations?|annotations?|gt|(ground_?)?truth"
    r"|pred(iction)?s?|derivatives",
    re.IGNORECASE,
)
"""Subfolders whose files are label maps, by their names."""
_OWN_COHORT = ("images", "imagesTr", "imagesTs", "cohort.csv")
"""A subfolder that holds one of these is another cohort, not a part of this one."""
_DEEPEST = 8
_DEEPEST_OF_ALL = 16


@dataclass(frozen=True)
class Found:
    """One image file: its case id, and the patient where a folder names it."""

    case: str
    path: Path
    patient: str | None = None


@dataclass(frozen=True)
class Contents:
    """The images of a folder by their case id, and what else there is to say."""

    by_id: Mapping[str, Sequence[Found]]
    notes: tuple[Note, ...]


def images_in(folder: Path, *, labels: bool = False) -> Contents:
    """The image files of a folder; where it holds none itself, those of its subfolders.

    A file that lies deeper is called by its path (``p01/T1.nii.gz`` is the case ``p01_T1`` of the
    patient ``p01``; so is ``T1/p01.nii.gz``). Hidden files and backups are not looked at, nor are
    subfolders of label maps, unless ``labels`` are what is wanted. Images of other formats, and
    those deeper than where images were found, are named. Raises ``UserError`` where there is none.
    """
    entries = listing(folder)
    paths = [entry for entry in entries if is_image(entry)]
    skipped: list[str] = []
    deep = list(_below(folder, labels, skipped))
    nested = [path for path in deep if is_image(path)]
    others = [path for path in (*entries, *(() if paths else deep)) if not is_image(path)]
    dicom = [path.name for path in others if path.is_file() and is_dicom(path)]
    foreign = [path.name for path in others if is_foreign(path) and not is_dicom(path)]
    if not paths and not nested:
        raise _nothing(folder, entries, deep)
    notes = []
    if foreign:
        text = f"{count(foreign, 'file')} in a format that is not read, left out: {some(foreign)}"
        notes.append(Note(None, folder, text, "convert them to NIfTI", "warning"))
    if dicom:
        text = f"{count(dicom, 'DICOM file')} beside other images, left out: {some(dicom)}"
        notes.append(Note(None, folder, text, APART, "warning"))
    if paths and nested:
        names = [path.relative_to(folder).as_posix() for path in nested]
        text = f"{count(names, 'image')} in subfolders, left out: {some(names)}"
        fix = "put all images into this folder, or all into subfolders"
        notes.append(Note(None, folder, text, fix, "warning"))
    if nested and not paths and skipped:
        text = f"subfolders that hold no images by their names, left out: {some(skipped)}"
        notes.append(Note(None, folder, text, None, "info"))
    found = flat(paths) if paths else _nested(folder, nested)
    return Contents(by_case(found), tuple(notes))


def by_case(found: Sequence[Found]) -> dict[str, list[Found]]:
    """Files by their case id."""
    table: dict[str, list[Found]] = defaultdict(list)
    for one in found:
        table[one.case].append(one)
    return dict(table)


def flat(paths: Sequence[Path]) -> list[Found]:
    """Files called by their stems; nnU-Net's channel goes where all of them carry it."""
    stems = [stem(path) for path in paths]
    if all(name.endswith(CHANNEL) and name != CHANNEL for name in stems):
        stems = [name.removesuffix(CHANNEL) for name in stems]
    return [Found(name, path) for name, path in zip(stems, paths, strict=True)]


def by_path(top: Path, path: Path, name: str | None = None) -> Found:
    """A file called by its path below ``top``; folders that name a sequence come last.

    A folder that the file's own name (or ``name``) repeats is not said twice.
    """
    own = stem(path) if name is None else name
    folders = path.relative_to(top).parts[:-1]
    words: list[str] = []
    sequences: list[str] = []
    for folder in folders:
        (sequences if sequence_of(folder) else words).append(folder)
    patient = words[0] if words else None
    words = [word for word in words if not own.startswith(word)]
    sequences = [word for word in sequences if word not in own]
    return Found("_".join([*words, own, *sequences]), path, patient)


def _nested(folder: Path, paths: Sequence[Path]) -> list[Found]:
    names = {one.path: one.case for one in flat(paths)}
    return [by_path(folder, path, names[path]) for path in paths]


def listing(folder: Path) -> list[Path]:
    """The entries of a folder that may be data: no hidden file, no backup."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise UserError("the folder cannot be read", path=folder, seen=error.strerror) from error
    return [e for e in entries if not e.name.startswith((".", "__MACOSX")) and e.name[-1] != "~"]


def walk(folder: Path, *, deep: bool = True, _depth: int = 0) -> Iterator[Path]:
    """All files below a folder that may be data, in order; links to folders are not followed."""
    for entry in listing(folder):
        if not entry.is_dir():
            yield entry
        elif deep and not entry.is_symlink() and _depth < _DEEPEST_OF_ALL:
            yield from walk(entry, _depth=_depth + 1)


def has_content(file: Path) -> bool:
    """Whether a file can be read and is not empty."""
    return file.is_file() and file.stat().st_size > 0 and os.access(file, os.R_OK)


def holds_series(path: Path) -> bool:
    """Whether a file is DICOM, or a folder (or its ``images/``) holds DICOM and no image of another
    format."""
    if path.is_file():
        return is_dicom(path)
    found = False
    for file in walk(path / "images" if (path / "images").is_dir() else path):
        if is_image(file):
            return False
        found = found or is_dicom(file)
    return found


def names_series(path: Path) -> bool:
    """Whether a path in a list is to be read as DICOM: a folder, or a file that is DICOM."""
    return path.is_dir() or (not is_image(path) and path.is_file() and is_dicom(path))


def seen_in(folder: Path) -> str:
    """What a folder holds, in a few words."""
    entries = listing(folder)
    names = [f"{e.name}/" if e.is_dir() else e.name for e in entries]
    return some(names) if names else "an empty folder"


def _below(folder: Path, labels: bool, skipped: list[str]) -> Iterator[Path]:
    """The files of the subfolders, in order; ``skipped`` receives those that are not entered."""
    been = {folder.resolve()}

    def walk(place: Path, depth: int) -> Iterator[Path]:
        for entry in listing(place):
            if not entry.is_dir():
                if depth:
                    yield entry
                continue
            real = entry.resolve()
            own = any((entry / name).exists() for name in _OWN_COHORT)
            if depth == _DEEPEST or real in been or own or is_image(entry):
                continue
            if not labels and _NO_IMAGES.fullmatch(entry.name):
                skipped.append(entry.relative_to(folder).as_posix())
                continue
            been.add(real)
            yield from walk(entry, depth + 1)

    yield from walk(folder, 0)


def _nothing(folder: Path, entries: Sequence[Path], deep: Sequence[Path]) -> UserError:
    fix = None
    files = [entry for entry in (*entries, *deep) if entry.is_file()]
    if any(map(is_dicom, files)):
        fix = "'labelferry data import' brings DICOM in"
    elif any(map(is_foreign, files)):
        fix = "convert the images to NIfTI"
    elif any(entry.is_dir() for entry in entries):
        fix = "give the folder that holds the images, or their images/"
    return UserError(
        "the folder has no image (.nii, .nii.gz, .nrrd, .mha, DICOM)",
        path=folder,
        seen=seen_in(folder),
        fix=fix,
    )


def is_foreign(path: Path) -> bool:
    """Whether the name says an image of a format that is not read here."""
    return path.name.lower().removesuffix(".gz").endswith(FOREIGN) and path.is_file()
