"""What an evaluation found: scores, means, and their files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from labelferry.files import write_json, write_text

SCHEMA_VERSION = 1
CSV_COLUMNS = ("case", "sequence", "domain", "organ", "dsc", "nsd")


@dataclass(frozen=True)
class Score:
    """DSC and NSD in [0, 1]; None where they are undefined and left out of every mean."""

    dsc: float | None
    nsd: float | None

    def to_json(self) -> dict[str, float | None]:
        """``{"dsc": …, "nsd": …}``, null where undefined."""
        return {"dsc": self.dsc, "nsd": self.nsd}


UNDEFINED = Score(None, None)
ZERO = Score(0.0, 0.0)


@dataclass(frozen=True)
class CaseScores:
    """The scores of one case, organ by organ (by name); only the organs that it annotates."""

    case: str
    organs: Mapping[str, Score]
    sequence: str | None = None
    domain: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The case as it stands in the JSON file."""
        known = {"sequence": self.sequence, "domain": self.domain}
        return {
            "case": self.case,
            **{key: value for key, value in known.items() if value},
            "organs": {name: score.to_json() for name, score in self.organs.items()},
        }


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
                "all": self.mean.to_json(),
                **{name: score.to_json() for name, score in self.organs.items()},
            },
        }
        if self.domains:
            value["domains"] = {
                name: {**score.to_json(), "n_cases": count}
                for name, (score, count) in self.domains.items()
            }
        return value

    def to_csv(self) -> str:
        """One row for each case and organ; an undefined score is an empty field."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for case in self.cases:
            for name, score in case.organs.items():
                # the csv module writes None as an empty field
                writer.writerow((case.case, case.sequence, case.domain, name, score.dsc, score.nsd))
        return stream.getvalue()

    def write_json(self, path: Path) -> None:
        """Write :meth:`to_json` atomically."""
        write_json(path, self.to_json())

    def write_csv(self, path: Path) -> None:
        """Write :meth:`to_csv` atomically."""
        write_text(path, self.to_csv())


def _organ_means(cases: Iterable[CaseScores], names: Iterable[str]) -> dict[str, Score]:
    found: dict[str, list[Score]] = {name: [] for name in names}
    for case in cases:
        for name, score in case.organs.items():
            found[name].append(score)
    return {name: _mean(scores) for name, scores in found.items() if scores}


def _mean(scores: Iterable[Score]) -> Score:
    """Mean of the defined values of each score; None where there is none."""
    chosen = list(scores)
    dsc = [score.dsc for score in chosen if score.dsc is not None]
    nsd = [score.nsd for score in chosen if score.nsd is not None]
    return Score(
        sum(dsc) / len(dsc) if dsc else None,
        sum(nsd) / len(nsd) if nsd else None,
    )
