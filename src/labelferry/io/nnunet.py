"""nnU-Net's raw data sets: imagesTr, labelsTr, imagesTs, dataset.json; FLARE comes like this."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from labelferry.cases import Case, Cohort, Modality
from labelferry.errors import UserError
from labelferry.files import read_json
from labelferry.io.folders import Found, images_in, seen_in
from labelferry.io.names import sequence_of
from labelferry.io.nifti import stem
from labelferry.io.notes import Discovery, Note, Role, count, some
from labelferry.io.numbering import LabelScheme, is_own, numbering_of
from labelferry.io.pairs import from_names, pair
from labelferry.organs import OrganSet

DATASET = "dataset.json"
_CHANNEL = re.compile(r"(.+)_(\d{4})")


def is_raw(path: Path) -> bool:
    """Whether a folder is a raw data set of nnU-Net."""
    return (path / "imagesTr").is_dir() or (path / "imagesTs").is_dir()


def raw_has_labels(path: Path) -> bool:
    """Whether a raw data set comes with label maps."""
    return (path / "imagesTr").is_dir() and (path / "labelsTr").is_dir()


def read_raw(path: Path, role: Role, organs: OrganSet, *, test: bool = False) -> Discovery:
    """The cases of a raw data set: of a source ``imagesTr`` and ``labelsTr``; of a target
    ``imagesTr``, or ``imagesTs`` where there is nothing else or with ``test``.

    ``dataset.json`` says which sequence each channel is: several channels of a target are several
    images of one patient. Raises ``UserError`` where images or labels are missing.
    """
    dataset = _dataset(path)
    images = path / ("imagesTs" if test and (path / "imagesTs").is_dir() else "imagesTr")
    if not images.is_dir():
        images = path / "imagesTs"
    found = images_in(images)
    names = _channel_names(dataset)
    by_id, refused = _channels(found.by_id, names, role)
    notes = [*found.notes, *_unused(path, images, role)]
    if role == "target":
        read = pair(by_id, None, notes, role)
        cases = [_sequenced(case, by_id[case.id][0], names) for case in read.cohort]
        notes = [*notes, *from_names(cases, role)]
        return Discovery(Cohort(tuple(cases)), tuple(notes), (*read.refused, *refused))
    if images.name == "imagesTs" or not (path / "labelsTr").is_dir():
        raise UserError(
            "a labelled source needs folders imagesTr/ and labelsTr/", path=path, seen=seen_in(path)
        )
    marked = images_in(path / "labelsTr", labels=True)
    refused_ids = {note.case for note in refused}
    labels = {case: files for case, files in marked.by_id.items() if case not in refused_ids}
    read = pair(by_id, labels, (*notes, *marked.notes), role)
    return replace(read, refused=(*read.refused, *refused))


def numbering_beside(path: Path, read: Discovery, organs: OrganSet) -> Discovery:
    """The same cases with the numbering that ``dataset.json`` in the folder gives, if any.

    Raises ``UserError`` where it contradicts itself, or names no organ.
    """
    table = _dataset(path).get("labels")
    if not isinstance(table, dict):
        return read
    try:
        scheme = numbering_of(table, organs, DATASET)
    except (TypeError, ValueError) as error:
        raise UserError("labels that are not read", path=path / DATASET, seen=error) from error
    except UserError as error:
        raise UserError(
            error.what,
            path=path / DATASET,
            seen=error.seen,
            allowed=error.allowed,
            fix=error.fix or "mend dataset.json, or give a numbering of your own (--labels)",
        ) from error
    cases = tuple(
        # a list of the organs themselves does not say which of them each case annotates
        case if is_own(scheme, organs) else replace(case, numbering=scheme)
        for case in read.cohort
    )
    return replace(
        read, cohort=Cohort(cases), notes=(*read.notes, *_of_numbering(path, table, scheme, organs))
    )


def _of_numbering(
    path: Path, table: Mapping[str, Any], scheme: LabelScheme, organs: OrganSet
) -> list[Note]:
    notes = []
    if not is_own(scheme, organs):
        text = f"label values are converted by the names in {DATASET}: " + some(
            [f"{v} {name}" for v, name in sorted(scheme.values.items()) if name], 20
        )
        notes.append(Note(None, path / DATASET, text, None, "info"))
    names = {str(v): str(k) for k, v in table.items()} | {str(k): str(v) for k, v in table.items()}
    foreign = [f"{v} {names.get(str(v), '')}".strip() for v, n in scheme.values.items() if not n]
    if foreign:
        text = f"in {DATASET} but no organ of ours, taken as background: {some(foreign, 20)}"
        notes.append(Note(None, path / DATASET, text, None, "warning"))
    return notes


def _dataset(path: Path) -> dict[str, Any]:
    if not (path / DATASET).is_file():
        return {}
    value = read_json(path / DATASET)
    return value if isinstance(value, dict) else {}


def _channel_names(dataset: Mapping[str, Any]) -> dict[int, str]:
    """What each channel shows, by version 2 or 1 of dataset.json; empty where nothing says it."""
    table = dataset.get("channel_names") or dataset.get("modality")
    if not isinstance(table, dict):
        return {}
    return {int(k): str(v) for k, v in table.items() if str(k).isdigit()}


def _channels(
    found: Mapping[str, Sequence[Found]], names: Mapping[int, str], role: Role
) -> tuple[dict[str, list[Found]], list[Note]]:
    """Files by case, without nnU-Net's ``_0000``; several channels become several cases."""
    groups: dict[str, dict[int, list[Found]]] = {}
    for case_id, files in found.items():
        match = _CHANNEL.fullmatch(case_id)
        case, channel = (match[1], int(match[2])) if match else (case_id, 0)
        groups.setdefault(case, {}).setdefault(channel, []).extend(files)
    by_id: dict[str, list[Found]] = {}
    refused = []
    for case, channels in groups.items():
        if len(channels) == 1:
            by_id[case] = [replace(one, case=case) for files in channels.values() for one in files]
        elif role == "source":
            images = [one.path.name for group in channels.values() for one in group]
            text = f"{count(images, 'channel')} for one label: {some(images)}"
            fix = "a source has one image, the CT: take the others away"
            refused.append(Note(case, channels[min(channels)][0].path, text, fix, "refused"))
        else:
            for channel, group in channels.items():
                name = f"{case}_{names.get(channel, f'{channel:04}')}"
                by_id[name] = [Found(name, one.path, case) for one in group]
    return by_id, refused


def _sequenced(case: Case, found: Found, names: Mapping[int, str]) -> Case:
    """The sequence by the channel's name, where that says more than the file's."""
    match = _CHANNEL.fullmatch(stem(found.path))
    said = names.get(int(match[2]) if match else 0)
    modality: Modality = "CT" if said and said.upper().startswith("CT") else "MR"
    case = replace(case, modality=modality)
    sequence = sequence_of(said) if said else None
    return case if sequence is None else replace(case, sequence=sequence, domain=sequence)


def _unused(path: Path, images: Path, role: Role) -> list[Note]:
    other = path / ("imagesTs" if images.name == "imagesTr" else "imagesTr")
    if not other.is_dir() or role == "source":
        return []
    text = f"the images of {images.name} are taken, those of {other.name} are not"
    return [Note(None, path, text, f"name {other} to take them", "info")]
