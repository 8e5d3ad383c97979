"""Cases from the files of a folder: images and, by the same name, their label maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from labelferry.cases import UNKNOWN_SEQUENCE, Case, Cohort
from labelferry.errors import UserError
from labelferry.io.folders import Found
from labelferry.io.names import patient_and_sequence
from labelferry.io.notes import Discovery, Note, Role, count, some
from labelferry.io.table import TABLE_NAME, checked_id


def pair(
    images: Mapping[str, Sequence[Found]],
    labels: Mapping[str, Sequence[Found]] | None,
    notes: Sequence[Note],
    role: Role,
) -> Discovery:
    """Cases from images and, by the same name, labels (None: no label is wanted).

    Two files of one case, an image without label and a label without image are refused by name.
    """
    cases, refused = [], []
    for case_id, found in images.items():
        marked = labels.get(case_id, ()) if labels is not None else ()
        fault = _fault(case_id, found, "image") or _fault(case_id, marked, "label")
        if fault is None and labels is not None and not marked:
            fault = unlabelled(case_id, found[0].path)
        if fault:
            refused.append(fault)
            continue
        cases.append(named_case(found[0], marked[0].path if marked else None, role))
    for case_id in sorted(set(labels or ()) - set(images)):
        path = (labels or {})[case_id][0].path
        text = f"the label map {path.name} has no image of the same name (image missing)"
        fix = "add the image, or take the label map away"
        refused.append(Note(case_id, path, text, fix, "refused"))
    return Discovery(Cohort(tuple(cases)), (*notes, *from_names(cases, role)), tuple(refused))


def named_case(found: Found, label: Path | None, role: Role) -> Case:
    """A case of which nothing is known but its role and its name."""
    if role == "source":
        return Case(found.case, found.patient or found.case, "CT", "CT", "CT", found.path, label)
    patient, sequence = patient_and_sequence(found.case)
    return Case(found.case, found.patient or patient, "MR", sequence, sequence, found.path, label)


def unlabelled(case_id: str, image: Path) -> Note:
    """The note that refuses a labelled case without its label."""
    text = f"the image {image.name} has no label map (label missing)"
    return Note(case_id, image, text, "add a label map of the same name", "refused")


def from_names(cases: Sequence[Case], role: Role) -> list[Note]:
    """What was guessed where no table says it."""
    if role == "source":
        if not any(case.annotated is None and case.numbering is None for case in cases):
            return []
        text = "no table says which organs are annotated: taken to be those that each label holds"
        return [Note(None, None, text, f"say it in {TABLE_NAME} if that is wrong", "info")]
    unknown = [case.id for case in cases if case.sequence == UNKNOWN_SEQUENCE]
    if not unknown:
        return []
    text = f"no sequence in the name of {count(unknown, 'image')}, taken as unknown and each as a "
    text += f"patient of its own: {some(unknown)}"
    fix = f"name files <patient>_<sequence>.nii.gz (p01_T2), or add a {TABLE_NAME}"
    return [Note(None, None, text, fix, "info")]


def _fault(case_id: str, found: Sequence[Found], what: str) -> Note | None:
    if len(found) > 1:
        names = _told_apart([one.path for one in found])
        text = f"two {what} files have the same case id: {names}"
        return Note(case_id, found[0].path, text, "rename or remove one of them", "refused")
    if not found:
        return None
    path = found[0].path
    if not path.is_file():
        text = f"the {what} {path.name} is a folder or a broken link, not a file"
        return Note(case_id, path, text, None, "refused")
    try:
        checked_id(case_id)
    except UserError as error:
        text = f"{error.what}; seen: {error.seen}"
        return Note(None, None, text, "rename the file", "refused")
    return None


def _told_apart(paths: Sequence[Path]) -> str:
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        names = [f"{path.parent.name}/{path.name}" for path in paths]
    return " and ".join(names)
