"""The tables beside labels: what failed, how large each organ is, how far to trust it."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from labelferry.files import csv_text, write_text
from labelferry.io.nifti import stem
from labelferry.organs import OrganSet
from labelferry.predict.formats import SEG_SUFFIX
from labelferry.predict.quality import CaseQuality, OrganQuality

FAILURES, VOLUMES, QUALITY = "failures.csv", "volumes.csv", "quality.csv"
_COLUMNS = ("case", *(field.name for field in fields(OrganQuality)))
_DIGITS = {"volume_ml": 2, "z": 2, "largest_share": 3, "entropy": 3}

Rows = Sequence[Mapping[str, str]]
"""The rows of one case in ``quality.csv``, one an organ."""


@dataclass(frozen=True)
class Failure:
    """A case that was not labelled, and why: with the name of its file, without any path."""

    case: str
    reason: str


def write_failures(path: Path, failures: Sequence[Failure]) -> None:
    """One line a case; without any, a list of an earlier run is taken away."""
    _write(path, ["case", "reason"], [(failure.case, failure.reason) for failure in failures])


@dataclass(frozen=True)
class Tables:
    """``quality.csv`` and ``volumes.csv`` of a folder, or ``quality.csv`` alone, or neither."""

    quality: Path | None
    volumes: Path | None
    organs: OrganSet
    rows: dict[str, Rows]
    """By case."""

    @classmethod
    def beside(
        cls, folder: Path | None, quality: Path | None, organs: OrganSet, without: Collection[str]
    ) -> Tables:
        """The tables of a folder of labels, with the rows of an earlier run whose labels are still
        there, but for the cases ``without``; with ``quality`` that table is in another place."""
        table = quality or (folder / QUALITY if folder else None)
        if table is None or folder is None:
            return cls(table, None, organs, {})
        known = read_quality(table)
        labelled = {stem(file) for file in folder.glob("*.nii*")}
        labelled |= {file.stem for file in folder.glob(f"*{SEG_SUFFIX}")}
        rows = {case: known[case] for case in labelled & known.keys() - set(without)}
        return cls(table, folder / VOLUMES, organs, rows)

    def add(self, quality: CaseQuality) -> None:
        """Take up a case whose labels are written."""
        self.rows[quality.case] = [
            {"case": quality.case}
            | {name: _text(name, getattr(row, name)) for name in _COLUMNS[1:]}
            for row in quality.organs
        ]

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Write them before cases are labelled anew, without these, and whatever happens after."""
        self.write()
        try:
            yield
        finally:
            self.write()

    def write(self) -> None:
        """Write both, by the names of the cases; without any case there are none."""
        rows = [row for _, case in sorted(self.rows.items()) for row in case]
        if self.quality is not None:
            _write(self.quality, _COLUMNS, [[row[name] for name in _COLUMNS] for row in rows])
        if self.volumes is not None:
            volumes: dict[str, dict[str, str]] = {}
            for row in rows:
                volumes.setdefault(row["case"], {})[row["organ"]] = row["volume_ml"]
            # cases of an earlier run may have been labelled by a model of other organs
            names = list(dict.fromkeys([*self.organs.names, *(row["organ"] for row in rows)]))
            lines = [[case, *map(row.get, names)] for case, row in volumes.items()]
            _write(self.volumes, ["case", *names], lines)


def read_quality(path: Path) -> dict[str, Rows]:
    """The rows of an earlier run by case; none where there is no such table of ours."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            rows = list(reader) if tuple(reader.fieldnames or ()) == _COLUMNS else []
    except (OSError, UnicodeDecodeError, csv.Error):
        return {}
    found: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        found.setdefault(row["case"], []).append(row)
    return dict(found)


def _write(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    if rows:
        write_text(path, csv_text(header, rows))
    else:
        path.unlink(missing_ok=True)


def _text(name: str, value: object) -> str:
    if value is None:
        return ""
    return f"{value:.{_DIGITS[name]}f}" if name in _DIGITS else str(value)
