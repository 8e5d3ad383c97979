"""Two evaluations of the same cases, side by side: what changed, and whether it is chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelferry.errors import UserError
from labelferry.evaluate.results import ALL, Evaluation
from labelferry.evaluate.scores import SHARES
from labelferry.evaluate.statistics import Comparison, compare_cases
from labelferry.files import csv_text, write_json, write_text

SCHEMA_VERSION = 1
COLUMNS = ("organ", "metric", "difference", "low", "high", "p", "patients", "cases", "left_out")


@dataclass(frozen=True)
class Compared:
    """The differences b - a of two evaluations."""

    protocol: str
    rows: Mapping[str, Mapping[str, Comparison]]
    """Organ (or ``all``) → dsc and nsd → the difference."""
    only_a: tuple[str, ...] = ()
    """Cases that only the first one scored."""
    only_b: tuple[str, ...] = ()

    @property
    def cases(self) -> int:
        """Number of cases behind the overall difference of DSC."""
        return self.rows[ALL]["dsc"].cases

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form: null where a difference is undefined."""
        return {
            "schema_version": SCHEMA_VERSION,
            "protocol": self.protocol,
            "n_cases": self.cases,
            "only_a": list(self.only_a),
            "only_b": list(self.only_b),
            "difference": {
                organ: {metric: found.to_json() for metric, found in metrics.items()}
                for organ, metrics in self.rows.items()
            },
        }

    def to_csv(self) -> str:
        """One row for each organ and metric; what is undefined is an empty field."""
        return csv_text(
            COLUMNS,
            (
                (organ, metric, *(getattr(found, name) for name in COLUMNS[2:]))
                for organ, metrics in self.rows.items()
                for metric, found in metrics.items()
            ),
        )

    def write_json(self, path: Path) -> None:
        """Write :meth:`to_json` atomically."""
        write_json(path, self.to_json())

    def write_csv(self, path: Path) -> None:
        """Write :meth:`to_csv` atomically."""
        write_text(path, self.to_csv())


def compare(a: Evaluation, b: Evaluation) -> Compared:
    """The differences b - a of DSC and NSD, overall and by organ, on the cases of both.

    Raises ``UserError`` where the two were scored by different protocols, or share no case.
    """
    if a.protocol != b.protocol:
        raise UserError(
            "the two were scored by different protocols",
            seen=f"{a.protocol} and {b.protocol}",
            fix="score both by one protocol",
        )
    first, second = ({case.case for case in side.cases} for side in (a, b))
    if not first & second:
        raise UserError(
            "the two share no case",
            seen=f"{sorted(first)[:3]} and {sorted(second)[:3]}",
            fix="compare scores of the same cases",
        )
    organs = dict.fromkeys((*a.organs, *b.organs))
    rows = {
        name or ALL: {
            metric: compare_cases(a.cases, b.cases, metric, organ=name) for metric in SHARES
        }
        for name in (None, *organs)
    }
    return Compared(a.protocol, rows, tuple(sorted(first - second)), tuple(sorted(second - first)))
