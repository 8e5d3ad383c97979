"""``cohort.csv``: a cohort as a table that people can write.

Columns: case, patient, modality, sequence, domain, image, label, annotated. Paths are relative to
the table; ``annotated`` holds organ ids with ``;`` between them. Other columns are left alone.
"""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from labelferry.cases import UNKNOWN_SEQUENCE, Case, Modality
from labelferry.errors import UserError
from labelferry.files import csv_text, write_text
from labelferry.organs import FLARE, OrganSet

TABLE_NAME = "cohort.csv"
COLUMNS = ("case", "patient", "modality", "sequence", "domain", "image", "label", "annotated")
REQUIRED = ("case", "patient", "modality", "image")
_MODALITIES: Mapping[str, Modality] = {"CT": "CT", "MR": "MR", "MRI": "MR"}


@dataclass(frozen=True)
class Table:
    """What a table holds: the cases that can be used, and what is wrong with the other rows."""

    cases: tuple[Case, ...]
    faults: tuple[UserError, ...]


def read_table(path: Path, organs: OrganSet = FLARE, *, labels: bool = True) -> Table:
    """Read a table of cases; the files that it names must exist.

    A row that cannot be used becomes a fault and does not stop the others; two rows of one case id
    are both at fault. An empty ``sequence`` is ``CT`` for CT, else ``unknown``; an empty ``domain``
    is the sequence; an empty ``patient`` is the case id; an empty ``annotated`` means the organs
    that the label map holds, and stays None. Without ``labels``, the columns ``label`` and
    ``annotated`` are not looked at.

    Raises ``UserError`` where the file is no such table: not UTF-8, no row, a column missing.
    """
    rows = _read_rows(path)
    times = Counter(row["case"] for _, row in rows)
    cases: list[Case] = []
    faults: list[UserError] = []
    for line, row in rows:
        try:
            if times[row["case"]] > 1:
                raise UserError(
                    f"the case stands {times[row['case']]} times in the table",
                    fix="give every image its own case id",
                )
            cases.append(_case(row, path.parent, organs, labels))
        except UserError as error:
            faults.append(
                UserError(
                    f"line {line} of {path.name}: {error.what}",
                    case=row["case"] or None,
                    path=error.path or path,
                    seen=error.seen,
                    allowed=error.allowed,
                    fix=error.fix,
                )
            )
    return Table(tuple(cases), tuple(faults))


def has_labels(path: Path) -> bool:
    """Whether any row of a table names a label map."""
    return any(row["label"] for _, row in _read_rows(path))


def write_table(
    path: Path, cases: Iterable[Case], guesses: Mapping[str, str] | None = None
) -> None:
    """Write cases as a table, atomically; paths become relative to it.

    ``guesses`` says by case id what the sequence was guessed from, in a column more that is for the
    reader and not read again.
    """
    rows = (
        (
            case.id,
            case.patient,
            case.modality,
            case.sequence,
            case.domain,
            _relative(case.image, path.parent),
            _relative(case.label, path.parent) if case.label else "",
            ";".join(str(i) for i in sorted(case.annotated or ())),
            *(() if guesses is None else (guesses.get(case.id, ""),)),
        )
        for case in cases
    )
    columns = COLUMNS if guesses is None else (*COLUMNS, "sequence_guessed_from")
    write_text(path, csv_text(columns, rows))


def _read_rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Line numbers and rows with all of our columns; cells without outer blanks."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError("table of cases not found", path=path) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            "not a readable UTF-8 table", path=path, seen=error, fix="save it as CSV in UTF-8"
        ) from error
    reader = csv.DictReader(io.StringIO(text), restval="")
    try:
        found = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = found
        _check_columns(found, path)
        rows = []
        for cells in reader:
            row = {name: (cells.get(name) or "").strip() for name in COLUMNS}
            if any(row.values()):
                rows.append((reader.line_num, row))
    except csv.Error as error:
        raise UserError("not a CSV table", path=path, seen=error) from error
    if not rows:
        raise UserError("the table has no case", path=path)
    return rows


def _check_columns(found: list[str], path: Path) -> None:
    missing = [name for name in REQUIRED if name not in found]
    twice = [name for name in COLUMNS if found.count(name) > 1]
    if missing or twice:
        separated = len(found) == 1 and any(mark in found[0] for mark in ";\t")
        raise UserError(
            f"the table lacks the column {', '.join(missing)}"
            if missing
            else f"the table has the column {', '.join(twice)} more than once",
            path=path,
            seen=", ".join(found) or "an empty file",
            allowed=", ".join(COLUMNS),
            fix="separate the columns by commas" if separated else None,
        )


def _case(row: Mapping[str, str], folder: Path, organs: OrganSet, labels: bool) -> Case:
    modality = _MODALITIES.get(row["modality"].upper())
    if modality is None:
        raise UserError("unknown modality", seen=row["modality"] or "nothing", allowed="CT, MR")
    sequence = row["sequence"] or ("CT" if modality == "CT" else UNKNOWN_SEQUENCE)
    if not row["image"]:
        raise UserError("no image is named")
    label = row["label"] if labels else ""
    return Case(
        id=checked_id(row["case"]),
        patient=row["patient"] or row["case"],
        modality=modality,
        sequence=sequence,
        domain=row["domain"] or sequence,
        image=_existing(folder, row["image"], "image"),
        label=_existing(folder, label, "label") if label else None,
        annotated=_annotated(row["annotated"], organs) if label else None,
    )


def checked_id(case_id: str) -> str:
    """Files and folders are named after the case: its id must not lead out of them."""
    if (
        not case_id
        or case_id.startswith(".")
        or any(c in "/\\" or not c.isprintable() for c in case_id)
    ):
        raise UserError(
            "the case id cannot name a file",
            seen=repr(case_id),
            allowed="any text without / and \\ that does not begin with a dot",
        )
    return case_id


def _existing(folder: Path, name: str, what: str) -> Path:
    path = folder / name
    if not (path.is_file() or (what == "image" and path.is_dir())):  # a folder of DICOM
        raise UserError(f"{what} not found", path=path, fix="paths are relative to the table")
    return path


def _annotated(text: str, organs: OrganSet) -> frozenset[int] | None:
    words = [word.strip() for word in text.split(";") if word.strip()]
    unknown = [word for word in words if not (word.isdecimal() and int(word) in organs.ids)]
    if unknown:
        raise UserError(
            "unknown organ id in 'annotated'",
            seen=", ".join(unknown[:10]),
            allowed=f"1…{len(organs)}, with ; between them",
        )
    return frozenset(int(word) for word in words) or None


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return path.absolute().as_posix()
