"""BIDS: patient, session, entities and suffix from the names of files. No image is opened here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from labelferry.cases import Case, Cohort
from labelferry.errors import UserError
from labelferry.io.folders import Found, by_case, listing
from labelferry.io.names import sequence_of
from labelferry.io.nifti import is_nifti, stem
from labelferry.io.notes import Discovery, Role
from labelferry.io.pairs import from_names, pair
from labelferry.organs import OrganSet

_MASKS = ("dseg", "mask", "probseg")
_OF_MASKS = ("desc", "label", "space", "res", "seg", "atlas")
"""Entities that a label map has beside those of its image."""


def is_bids(path: Path) -> bool:
    """Whether a folder holds subjects (``sub-…``) with NIfTI files deeper down."""
    if not path.is_dir() or (path / "images").is_dir():
        return False
    subjects = [entry for entry in listing(path) if _is_subject(entry)]
    described = (path / "dataset_description.json").is_file()
    return bool(subjects) and (described or any(_files(subjects[0])))


def read_bids(path: Path, role: Role, organs: OrganSet) -> Discovery:
    """The images of a BIDS data set: the patient by ``sub-``, the sequence by suffix and entities.

    A target takes every image but CT; a source takes CT (suffix ``ct``) with the label maps
    (``…_dseg``) of ``derivatives``, matched by their entities. Raises ``UserError`` where there is
    no such image.
    """
    found = [_found(file) for file in _subjects(path)]
    images = [one for one in found if _is_ct(one) == (role == "source") and not _is_mask(one)]
    if not images:
        raise UserError(
            "no CT in this BIDS data set" if role == "source" else "no MRI in this BIDS data set",
            path=path,
            allowed="files sub-<patient>/…/sub-<patient>_…_"
            + ("ct.nii.gz" if role == "source" else "<suffix>.nii.gz"),
        )
    labels = None
    if role == "source":
        marked: dict[str, list[Found]] = {}
        wanted = {_key(one): one.case for one in images}
        for file in _derivatives(path):
            one = _found(file)
            if stem(file).endswith("_dseg") and (case := wanted.get(_key(one))):
                marked.setdefault(case, []).append(replace(one, case=case))
        labels = marked
    read = pair(by_case(images), labels, (), role)
    if role == "source":
        return read
    cases = tuple(_sequenced(case) for case in read.cohort)
    return replace(read, cohort=Cohort(cases), notes=tuple(from_names(cases, role)))


def entities(name: str) -> tuple[dict[str, str], str]:
    """The entities and the suffix of a name: ``sub-1_acq-in_T1w`` → (sub: 1, acq: in), T1w."""
    parts = name.split("_")
    pairs = (part.partition("-") for part in parts[:-1])
    return {key: value for key, _, value in pairs if value}, parts[-1]


def sequence_by_name(name: str) -> str:
    """The sequence: an entity that is a known word (``acq-inphase``), else the suffix; ``ce-``
    makes T1 the one with contrast."""
    known, suffix = entities(name)
    for key in ("acq", "desc", "rec", "ce", "inv"):
        if key in known and (said := sequence_of(known[key])):
            return said
    sequence = sequence_of(suffix) or suffix
    return "T1ce" if sequence == "T1" and "ce" in known else sequence


def _sequenced(case: Case) -> Case:
    sequence = sequence_by_name(stem(case.image))
    return replace(case, sequence=sequence, domain=sequence)


def _found(file: Path) -> Found:
    known, _ = entities(stem(file))
    return Found(stem(file), file, f"sub-{known['sub']}" if "sub" in known else None)


def _key(found: Found) -> tuple[tuple[str, str], ...]:
    known: Mapping[str, str] = entities(stem(found.path))[0]
    return tuple(sorted((k, v) for k, v in known.items() if k not in _OF_MASKS))


def _is_ct(found: Found) -> bool:
    return entities(stem(found.path))[1].lower() == "ct"


def _is_mask(found: Found) -> bool:
    return entities(stem(found.path))[1] in _MASKS


def _is_subject(entry: Path) -> bool:
    return entry.name.startswith("sub-") and entry.is_dir()


def _subjects(path: Path) -> Iterator[Path]:
    for entry in listing(path):
        if _is_subject(entry):
            yield from _files(entry)


def _derivatives(path: Path) -> Iterator[Path]:
    if (path / "derivatives").is_dir():
        yield from _files(path / "derivatives")


def _files(folder: Path, depth: int = 0) -> Iterator[Path]:
    for entry in listing(folder):
        if is_nifti(entry):
            yield entry
        elif entry.is_dir() and depth < 6:
            yield from _files(entry, depth + 1)
