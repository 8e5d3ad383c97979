"""What predictions cost in time and memory, and the table of it (paper, Table 8)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from labelferry.errors import UserError
from labelferry.files import csv_text, write_json, write_text
from labelferry.predict.config import Export
from labelferry.predict.memory import Kind, Sample
from labelferry.predict.tables import Failure
from labelferry.spread import Spread, spread_of

SCHEMA = 1
TIME_TOLERANCE_S = 15.0
"""The challenge does not rank by time below this (paper 3.1)."""
MEMORY_TOLERANCE_MB = 4096.0
"""Nor by memory below this: 4 GB."""
QUANTITIES = {
    "seconds": "running time from process start to exit, s",
    "peak_mb": "largest sample, MB",
    "area_mb_s": "area under the memory-time curve, MB·s",
    "sample_sum_mb": "sum of the samples, unscaled, MB ('Total GPU' of Table 8)",
}
"""What is measured of each case; the names of ``CaseCost``'s attributes, and of the columns."""


@dataclass(frozen=True)
class CaseCost:
    """One case, predicted by a process of its own."""

    case: str
    seconds: float
    """Wall time from the start of the process to its exit."""
    samples: tuple[Sample, ...]
    """Memory over time; at least one."""

    @property
    def peak_mb(self) -> float:
        """The largest sample."""
        return max(sample.mb for sample in self.samples)

    @property
    def area_mb_s(self) -> float:
        """Area under the memory-time curve, start to exit: trapezia between the samples, level
        before the first and after the last; MB·s.
        """
        first, last = self.samples[0], self.samples[-1]
        between = sum(
            (b.seconds - a.seconds) * (a.mb + b.mb) / 2 for a, b in pairwise(self.samples)
        )
        return between + first.seconds * first.mb + (self.seconds - last.seconds) * last.mb

    @property
    def sample_sum_mb(self) -> float:
        """Sum of the samples, not multiplied by the interval: what the challenge, and with it
        Table 8, calls the area; MB. At an interval of 0.1 s about ten times ``area_mb_s``.
        """
        return sum(sample.mb for sample in self.samples)

    @property
    def over_time(self) -> bool:
        """Slower than the challenge tolerates."""
        return self.seconds > TIME_TOLERANCE_S

    @property
    def over_memory(self) -> bool:
        """More memory at some moment than the challenge tolerates."""
        return self.peak_mb > MEMORY_TOLERANCE_MB


@dataclass(frozen=True)
class CostTable:
    """All cases of one measurement."""

    cases: tuple[CaseCost, ...]
    failures: tuple[Failure, ...]
    """Cases whose process failed; they are in no summary."""
    device: str
    """What computed: the GPU's name, or the CPU's."""
    memory: Kind
    interval: float
    """Seconds between two samples."""
    baseline_mb: float
    """In use on the device before the first case, and part of every sample; 0 on the CPU."""
    model: str
    """What the bundle calls itself."""
    export: Export
    version: str
    """Of labelferry."""

    def summary(self, quantity: str) -> Spread:
        """Mean, standard deviation and quartiles (interpolated linearly) of one of ``QUANTITIES``.

        Raises ``UserError`` for another one.
        """
        if quantity not in QUANTITIES:
            raise UserError("no such quantity", seen=quantity, allowed=", ".join(QUANTITIES))
        return spread_of(getattr(cost, quantity) for cost in self.cases)

    def to_json(self) -> dict[str, Any]:
        """Everything, JSON-able; cases by their ids, without any path."""
        return {
            "schema_version": SCHEMA,
            "model": self.model,
            "device": self.device,
            "memory": self.memory,
            "interval_s": self.interval,
            "baseline_mb": round(self.baseline_mb, 1),
            "export": self.export,
            "version": self.version,
            "tolerance": {"seconds": TIME_TOLERANCE_S, "mb": MEMORY_TOLERANCE_MB},
            "quantities": QUANTITIES,
            "summary": {name: _rounded(asdict(self.summary(name))) for name in QUANTITIES},
            "cases": [_case(cost) for cost in self.cases],
            "failures": [asdict(failure) for failure in self.failures],
        }

    def write_json(self, path: Path) -> None:
        """Write :meth:`to_json` to a file, atomically."""
        write_json(path, self.to_json())

    def write_csv(self, path: Path) -> None:
        """One row a case, atomically; a failed case has only its name and the error."""
        columns = ["case", *QUANTITIES, "over_time", "over_memory", "error"]
        rows = [_case(cost) for cost in self.cases]
        rows += [{"case": failure.case, "error": failure.reason} for failure in self.failures]
        write_text(path, csv_text(columns, ([row.get(name) for name in columns] for row in rows)))


def _case(cost: CaseCost) -> dict[str, Any]:
    return {
        "case": cost.case,
        **_rounded({name: getattr(cost, name) for name in QUANTITIES}),
        "over_time": cost.over_time,
        "over_memory": cost.over_memory,
        "samples_s": [round(sample.seconds, 3) for sample in cost.samples],
        "samples_mb": [round(sample.mb, 1) for sample in cost.samples],
    }


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {k: round(v, 3) if isinstance(v, float) else v for k, v in values.items()}
