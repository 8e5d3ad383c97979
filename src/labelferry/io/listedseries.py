"""DICOM that a line of a list or table names: a file of a volume, or the folder of one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from labelferry.cases import Case
from labelferry.errors import UserError
from labelferry.io.folders import walk
from labelferry.io.images import is_image
from labelferry.io.notes import Note
from labelferry.io.series import find_series, named_cases
from labelferry.io.table import checked_id


def listed_series(paths: Iterable[Path]) -> dict[Path, Case | UserError]:
    """The volume that each path names, as a case under pseudonyms; else what is wrong with it.

    A file stands for the volume that it is a slice of; a folder of any depth holds exactly one.
    Headers are read once, however many paths lie in one folder.
    """
    inside = {path: list(_files(path)) for path in dict.fromkeys(paths)}
    beside = {path.parent for path in inside if not path.is_dir()}
    files = {*chain(*inside.values()), *chain(*(_files(folder, deep=False) for folder in beside))}
    stacks, notes = find_series(sorted(files))
    cases: dict[Path, list[Case]] = defaultdict(list)
    for case, stack, _ in named_cases(stacks):
        for file in stack.files:
            cases[file].append(case)
    found = {path: {c.id: c for f in own for c in cases[f]} for path, own in inside.items()}
    return {
        path: next(iter(held.values())) if len(held) == 1 else _fault(path, len(held), notes)
        for path, held in found.items()
    }


def as_called(found: Case | UserError, name: str | None) -> Case:
    """The case by the name that the list gives it, if any. Raises the error that was found."""
    if isinstance(found, UserError):
        raise found
    return replace(found, id=checked_id(name), image=Path(name)) if name else found


def _files(path: Path, *, deep: bool = True) -> Iterable[Path]:
    files = walk(path, deep=deep) if path.is_dir() else (path,)
    return (file for file in files if not is_image(file))


def _fault(path: Path, volumes: int, notes: Sequence[Note]) -> UserError:
    if volumes:
        return UserError(
            "several DICOM series", path=path, seen=volumes, fix="name a file or folder of one"
        )
    folder = path if path.is_dir() else path.parent
    said = [n.nameless or n.text for n in notes if n.path and n.path.is_relative_to(folder)]
    return UserError(
        "no volume in this DICOM",
        path=path,
        seen="; ".join(said[:3]) or None,
        fix="name a CT or MR series of at least three slices",
    )
