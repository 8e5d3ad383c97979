"""Which cases have truth, and which organs it annotates. No image is opened here."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from labelferry.errors import UserError
from labelferry.files import hash_file, hash_value
from labelferry.io.names import patient_and_sequence
from labelferry.io.nifti import is_nifti, stem
from labelferry.io.notes import some
from labelferry.organs import OrganSet
from labelferry.volume import Segmentation

COHORT_TABLE = "cohort.csv"


@dataclass(frozen=True)
class Truth:
    """The truth of one case."""

    case: str
    label: Path
    annotated: frozenset[int] | None = None
    """Organ ids; None where nothing says it: then those that the label map holds."""
    sequence: str | None = None
    domain: str | None = None
    patient: str | None = None

    def annotated_in(
        self, labels: Segmentation, expressible: frozenset[int] | None = None
    ) -> frozenset[int]:
        """The organs that its label map annotates: as a table says, else those that its numbering
        can express (None: there is no other numbering than ours), else those that it holds."""
        if self.annotated is not None:
            return self.annotated
        return labels.held if expressible is None else expressible


def find_files(path: Path, twins: dict[str, UserError] | None = None) -> dict[str, Path]:
    """The NIfTI files of a folder (not of those below it), or the file itself, by case id.

    Raises ``UserError`` for a path that is missing, no NIfTI file, or a folder without any. Two
    files of one case raise it too, or are left out and stand in ``twins``, where that is given.
    """
    if not path.exists():
        raise UserError("no such file or folder", path=path)
    if not path.is_dir():
        if not is_nifti(path):
            raise UserError("not a NIfTI file", path=path, allowed="a .nii or .nii.gz file")
        return {stem(path): path}
    files = [file for file in sorted(path.iterdir()) if is_nifti(file) and file.is_file()]
    found = _by_case(files, twins)
    if not files:
        below = sorted({file.parent.name for file in path.glob("*/*") if is_nifti(file)})
        raise UserError(
            "no NIfTI file in the folder",
            path=path,
            allowed=".nii or .nii.gz files",
            fix=f"give a folder of it: {some(below)}" if below else None,
        )
    return found


def find_truth(
    path: Path, organs: OrganSet, twins: dict[str, UserError] | None = None
) -> dict[str, Truth]:
    """The truth of every case of a folder, or of one file, by case id in alphabetical order.

    A ``cohort.csv`` in the folder says what each label map annotates, its sequence, its domain and
    its patient; without it, the patient is read from the file name. A label map that the table does
    not name, or whose ``annotated`` is empty, annotates the organs that it holds. Where the folder
    itself holds no label map, those that the table names are taken (as in a source folder with its
    ``labels/``). Two files of one case: see :func:`find_files`.
    """
    rows = _read_table(path if path.is_dir() else path.parent, organs)
    listed = [row.label for row in rows if row.label.is_file()]
    if path.is_dir() and listed and not any(is_nifti(file) for file in path.iterdir()):
        files = _by_case(listed, twins)
    else:
        files = find_files(path, twins)
    about = {row.case: row for row in rows} | {stem(row.label): row for row in rows}
    found = {}
    for case in sorted(files):
        row = about.get(case, Truth(case, files[case]))
        patient = row.patient or patient_and_sequence(case)[0]
        found[case] = replace(row, case=case, label=files[case], patient=patient)
    return found


def hash_truth(path: Path, organs: OrganSet) -> str:
    """Hash of the label maps that :func:`find_truth` finds."""
    found = find_truth(path, organs).values()
    return hash_value([[known.case, hash_file(known.label)] for known in found])


def organ_ids(words: Iterable[str | int], organs: OrganSet) -> frozenset[int]:
    """The ids of organs given by name or id, such as ``("liver", "3", 5)``.

    Raises ``UserError`` for an unknown id, for an unknown name with the nearest one, and for none.
    """
    found = set()
    for word in words:
        text = str(word).strip()
        if text:
            found.add(organs[int(text)].id if text.isdecimal() else organs.named(text).id)
    if not found:
        raise UserError("no organ is given", allowed=", ".join(organs.names))
    return frozenset(found)


def _by_case(files: Iterable[Path], twins: dict[str, UserError] | None) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in files:
        case = stem(path)
        if case in found:
            error = UserError(
                "two files of one case",
                case=case,
                path=path.parent,
                seen=f"{found[case].name} and {path.name}",
                fix="remove one of them",
            )
            if twins is None:
                raise error
            twins[case] = error
        found.setdefault(case, path)
    return {case: path for case, path in found.items() if case not in (twins or ())}


def _read_table(folder: Path, organs: OrganSet) -> list[Truth]:
    """The rows of the cohort's table; none where there is no table."""
    table = folder / COHORT_TABLE
    if not table.is_file():
        return []
    found = []
    for number, row in _rows(table):
        case = row["case"].strip()
        label = row.get("label", "").strip() or f"{case}.nii.gz"
        annotated = _ids(row.get("annotated", ""), organs, table, number)
        sequence, domain, patient = (
            row.get(key, "").strip() or None for key in ("sequence", "domain", "patient")
        )
        found.append(Truth(case, folder / label, annotated, sequence, domain, patient))
    return found


def _rows(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        text = table.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("cannot read the cohort's table", path=table, seen=str(error)) from error
    reader = csv.DictReader(text.splitlines())
    if "case" not in (reader.fieldnames or ()):
        raise UserError(
            "the cohort's table has no column 'case'",
            path=table,
            seen=", ".join(reader.fieldnames or ()) or "nothing",
            allowed="case,patient,modality,sequence,domain,image,label,annotated",
        )
    for row in reader:
        yield reader.line_num, {key: value or "" for key, value in row.items() if key}


def _ids(text: str, organs: OrganSet, table: Path, number: int) -> frozenset[int] | None:
    words = [word.strip() for word in text.split(";") if word.strip()]
    unknown = [word for word in words if not word.isdecimal() or int(word) not in organs.ids]
    if unknown:
        raise UserError(
            f"row {number} annotates organs that are not in the list",
            path=table,
            seen="; ".join(unknown[:10]),
            allowed=f"ids 1…{len(organs)} with ; between them",
        )
    return frozenset(int(word) for word in words) or None
