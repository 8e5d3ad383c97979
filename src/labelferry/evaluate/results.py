"""What an evaluation found: scores, means with their intervals, and their files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from labelferry.errors import UserError
from labelferry.evaluate.scores import METRICS, SHARES, UNDEFINED, ZERO, CaseScores, Score
from labelferry.evaluate.statistics import Interval, interval
from labelferry.evaluate.tables import flare_table, long_table
from labelferry.files import read_json, write_json, write_text

__all__ = ["UNDEFINED", "ZERO", "CaseScores", "Evaluation", "Score", "read_evaluation"]

SCHEMA_VERSION = 1
ALL = "all"
"""What the mean over organs is called among those of the organs."""


@dataclass(frozen=True)
class Evaluation:
    """All scores of a folder of predictions.

    The mean of an organ goes over the cases in which it is defined. The mean of all is the mean
    over organs of these means: every organ counts the same, however many cases annotate it.
    """

    protocol: str
    organ_names: tuple[str, ...]
    """In the order of their ids."""
    cases: tuple[CaseScores, ...]
    """In the order of their ids."""
    missing: tuple[str, ...] = ()
    """Cases with no usable prediction; they count 0 for every organ that they annotate."""
    extra: tuple[str, ...] = ()
    """Predictions without truth; not scored."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Case → what was wrong with its file. A case whose prediction was refused is also in
    ``missing``; one whose truth was refused is not scored."""

    @cached_property
    def mean(self) -> Score:
        """The mean over organs of the means over cases."""
        return _mean(self.organs.values())

    @cached_property
    def organs(self) -> dict[str, Score]:
        """Mean over cases of each organ that some case annotates."""
        return _organ_means(self.cases, self.organ_names)

    @cached_property
    def counts(self) -> dict[str, int]:
        """The number of cases behind the mean of each organ."""
        return {
            name: sum(case.organs.get(name, UNDEFINED).dsc is not None for case in self.cases)
            for name in self.organs
        }

    @cached_property
    def domains(self) -> dict[str, tuple[Score, int]]:
        """Mean (over organs of means over cases) and number of cases of each known domain."""
        names = sorted({case.domain for case in self.cases if case.domain})
        found = {}
        for name in names:
            chosen = [case for case in self.cases if case.domain == name]
            found[name] = (_mean(_organ_means(chosen, self.organ_names).values()), len(chosen))
        return found

    @cached_property
    def intervals(self) -> dict[str, dict[str, Interval]]:
        """Organ (or ``all``) → dsc and nsd → mean with its 95 % bootstrap interval."""
        return {
            name or ALL: {metric: interval(self.cases, metric, organ=name) for metric in SHARES}
            for name in (None, *self.organs)
        }

    @property
    def is_complete(self) -> bool:
        """Whether every case had a usable prediction and a usable truth."""
        return not self.missing and not self.refused

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form without NaN: null where a score is undefined."""
        value: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "protocol": self.protocol,
            "n_cases": len(self.cases),
            "missing": list(self.missing),
            "extra": list(self.extra),
            "refused": dict(self.refused),
            "cases": [case.to_json() for case in self.cases],
            "mean": {
                name: {"dsc": score.dsc, "nsd": score.nsd, "hd95_mm": score.hd95_mm}
                for name, score in {ALL: self.mean, **self.organs}.items()
            },
            "intervals": {
                name: {metric: found.to_json() for metric, found in metrics.items()}
                for name, metrics in self.intervals.items()
            },
        }
        if self.domains:
            value["domains"] = {
                name: {"dsc": score.dsc, "nsd": score.nsd, "n_cases": count}
                for name, (score, count) in self.domains.items()
            }
        return value

    def to_csv(self) -> str:
        """One row for each case and organ; after ``flare24``, the columns of the official script.

        An undefined score is an empty field.
        """
        if self.protocol == "flare24":
            return flare_table(self.cases, tuple(self.organs))
        return long_table(self.cases)

    def write_json(self, path: Path) -> None:
        """Write :meth:`to_json` atomically."""
        write_json(path, self.to_json())

    def write_csv(self, path: Path) -> None:
        """Write :meth:`to_csv` atomically."""
        write_text(path, self.to_csv())


def read_evaluation(path: Path) -> Evaluation:
    """Read back what :meth:`Evaluation.write_json` wrote.

    Means and intervals are computed anew from the cases. Raises ``UserError`` for a file that is
    missing, of another schema, or no evaluation.
    """
    value = read_json(path, schema=SCHEMA_VERSION)
    try:
        cases = tuple(_case(row) for row in value["cases"])
        named = [*value["mean"], *(name for case in cases for name in case.organs)]
        return Evaluation(
            protocol=str(value["protocol"]),
            organ_names=tuple(name for name in dict.fromkeys(named) if name != ALL),
            cases=cases,
            missing=tuple(value["missing"]),
            extra=tuple(value["extra"]),
            refused=dict(value["refused"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            "this is not a file of scores",
            path=path,
            seen=f"{type(error).__name__}: {error}",
            fix="make it with 'labelferry evaluate … --json'",
        ) from error


def _case(row: Mapping[str, Any]) -> CaseScores:
    scores = {
        # a file of before HD95 and volumes has two of the metrics
        str(name): Score(*(_number(found.get(metric)) for metric in METRICS))
        for name, found in row["organs"].items()
    }
    about = {key: row.get(key) for key in ("sequence", "domain", "patient")}
    return CaseScores(str(row["case"]), scores, **about)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _organ_means(cases: Iterable[CaseScores], names: Iterable[str]) -> dict[str, Score]:
    found: dict[str, list[Score]] = {name: [] for name in names}
    for case in cases:
        for name, score in case.organs.items():
            found[name].append(score)
    return {name: _mean(scores) for name, scores in found.items() if scores}


def _mean(scores: Iterable[Score]) -> Score:
    """Mean of the defined values of each score but the volumes; None where there is none."""
    chosen = list(scores)

    def mean(metric: str) -> float | None:
        values = [value for score in chosen if (value := score.value(metric)) is not None]
        return sum(values) / len(values) if values else None

    return Score(mean("dsc"), mean("nsd"), mean("hd95_mm"))
