"""Lists of files that people keep: a text file, or a CSV file that is no ``cohort.csv``.

One image a line and, after a comma, semicolon or tab, its label map. With a header the columns may
stand in any order (image, label, case, patient, sequence, domain). Paths are relative to the list.
Lines that begin with ``#`` are remarks.
"""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from labelferry.cases import Case, Cohort
from labelferry.errors import UserError
from labelferry.io.folders import Found, by_case, by_path, flat, names_series
from labelferry.io.images import SUFFIXES
from labelferry.io.names import sequence_of
from labelferry.io.notes import Discovery, Note, Role
from labelferry.io.pairs import from_names, pair, unlabelled
from labelferry.organs import OrganSet

_TEXT = (".txt", ".lst", ".list")
_COLUMNS = {
    "image": ("image", "images", "img", "path", "file", "filename", "image_path"),
    "label": ("label", "labels", "mask", "seg", "segmentation", "label_path", "mask_path"),
    "case": ("case", "case_id", "id", "name"),
    "patient": ("patient", "patient_id", "subject", "subject_id"),
    "sequence": ("sequence", "contrast"),
    "domain": ("domain",),
}
_MEANT = {word: column for column, words in _COLUMNS.items() for word in words}


@dataclass(frozen=True)
class _Row:
    line: int
    cells: dict[str, str]


def is_list(path: Path) -> bool:
    """Whether a file is a list: a text file, or a CSV file without the columns of a cohort."""
    if not path.is_file():
        return False
    suffix = path.suffix.lower()
    if suffix in _TEXT:
        return True
    if suffix not in (".csv", ".tsv"):
        return False
    with path.open("rb") as stream:
        first = stream.readline(10_000).decode("utf-8-sig", errors="replace")
    cells = [cell.strip().lower() for cell in _cells(first)]
    whole = "case" in cells and ("modality" in cells or "patient" in cells)
    return not whole and (_is_header(cells) or any(_is_image(cell) for cell in cells))


def list_has_labels(path: Path) -> bool:
    """Whether any line of a list names a label map."""
    return any(row.cells.get("label") for row in _rows(path))


def read_list(path: Path, role: Role, organs: OrganSet) -> Discovery:
    """The cases of a list; a line whose file is missing is refused and does not stop the others.

    Files are called by their names, or by their paths below the folder that they share where the
    names alone are not unique. Raises ``UserError`` for a list that cannot be read or is empty, and
    for a source without any label.
    """
    rows = _rows(path)
    refused: list[Note] = []
    kept: list[tuple[_Row, Path]] = []
    dicom: list[tuple[_Row, Path]] = []
    for row in rows:
        image = path.parent / row.cells["image"]
        if names_series(image):
            dicom.append((row, image))
        elif image.is_file():
            kept.append((row, image))
        else:
            refused.append(_gone(path, row, image, "image"))
    if role == "source" and not any(row.cells.get("label") for row in rows):
        raise UserError(
            "the list names no label map",
            path=path,
            fix="write the label map after the image, with a comma between them",
        )
    found = _called(kept)
    about = {one.path: row for one, (row, _) in zip(found, kept, strict=True)}
    read = pair(by_case(found), None, (), role)
    named = [(about[case.image], case) for case in read.cohort]
    named += list(_of_dicom(path, dicom, refused))
    times = Counter(case.id for _, case in named)
    cases = []
    for row, case in named:
        if times[case.id] > 1:
            text = f"line {row.line} of {path.name}: another line has the same case id"
            refused.append(Note(case.id, case.image, text, "name every image once", "refused"))
            continue
        case = _with_cells(case, row, role)
        if role == "source":
            label = row.cells.get("label", "")
            if not label:
                refused.append(unlabelled(case.id, case.image))
                continue
            case = replace(case, label=path.parent / label)
            if not (path.parent / label).is_file():
                refused.append(_gone(path, row, path.parent / label, "label", case.id))
                continue
        cases.append(case)
    notes = from_names(cases, role)
    return Discovery(Cohort(tuple(cases)), tuple(notes), (*read.refused, *refused))


def _of_dicom(
    path: Path, rows: Sequence[tuple[_Row, Path]], refused: list[Note]
) -> Iterator[tuple[_Row, Case]]:
    if not rows:
        return
    from labelferry.io.listedseries import as_called, listed_series  # pydicom takes its time

    found = listed_series(image for _, image in rows)
    for row, image in rows:
        try:
            yield row, as_called(found[image], row.cells.get("case"))
        except UserError as error:
            text = UserError(error.what, seen=error.seen).message()
            at = f"line {row.line} of {path.name}: {text}"
            refused.append(Note(None, image, at, error.fix, "refused", text))


def _with_cells(case: Case, row: _Row, role: Role) -> Case:
    cells = {key: value for key, value in row.cells.items() if value}
    if role == "target" and (said := cells.get("sequence")):
        sequence = sequence_of(said) or said
        case = replace(case, sequence=sequence, domain=sequence)
    if domain := cells.get("domain"):
        case = replace(case, domain=domain)
    return replace(case, patient=cells.get("patient", case.patient))


def _called(kept: Sequence[tuple[_Row, Path]]) -> list[Found]:
    """Case ids: as the list says, else the names of the files, else their paths."""
    found = flat([path for _, path in kept])
    if len({one.case for one in found}) < len(found) and len(kept) > 1:
        top = Path(os.path.commonpath([path.absolute().parent for _, path in kept]))
        found = [
            replace(by_path(top, path.absolute(), one.case), path=path)
            for one, (_, path) in zip(found, kept, strict=True)
        ]
    return [
        replace(one, case=row.cells["case"]) if row.cells.get("case") else one
        for one, (row, _) in zip(found, kept, strict=True)
    ]


def _gone(path: Path, row: _Row, file: Path, what: str, case: str | None = None) -> Note:
    text = f"line {row.line} of {path.name}: {what} not found: {file.name}"
    return Note(case, file, text, "paths are relative to the list", "refused")


def _rows(path: Path) -> list[_Row]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            "not a readable list of files", path=path, seen=error, fix="save it as UTF-8 text"
        ) from error
    columns = ["image", "label"]
    rows: list[_Row] = []
    for number, line in enumerate(text.splitlines(), start=1):
        cells = [cell.strip() for cell in _cells(line)]
        if not any(cells) or line.lstrip().startswith("#"):
            continue
        if not rows and _is_header([cell.lower() for cell in cells]):
            columns = [_MEANT.get(cell.lower(), "") for cell in cells]
            continue
        row = {name: cell for name, cell in zip(columns, cells, strict=False) if name}
        if not row.get("image"):
            raise UserError(f"line {number} names no image", path=path, seen=line[:100])
        rows.append(_Row(number, row))
    if not rows:
        raise UserError("the list names no image", path=path)
    return rows


def _cells(line: str) -> list[str]:
    """The cells of a line, by the separator that it uses; a path may hold blanks."""
    mark = next((mark for mark in "\t;," if mark in line), ",")
    return next(csv.reader(io.StringIO(line.strip("\r\n")), delimiter=mark), [])


def _is_header(cells: Sequence[str]) -> bool:
    return any(_MEANT.get(cell) == "image" for cell in cells) and not any(map(_is_image, cells))


def _is_image(cell: str) -> bool:
    return cell.lower().endswith(SUFFIXES)
