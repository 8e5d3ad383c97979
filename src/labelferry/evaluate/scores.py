"""The scores of one organ in one case, and those of one case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

METRICS = ("dsc", "nsd", "hd95_mm", "volume_ml", "truth_volume_ml")
"""What is measured of an organ, as it is called in files."""


@dataclass(frozen=True)
class Score:
    """The scores of one organ, or means of such; None where one is undefined."""

    dsc: float | None
    """Dice similarity coefficient in [0, 1]. Undefined values are left out of every mean."""
    nsd: float | None
    """Normalised surface Dice in [0, 1]."""
    hd95_mm: float | None = None
    """Hausdorff distance at the 95th percentile, in mm; undefined where either mask is empty."""
    volume_ml: float | None = None
    """Volume of the predicted organ, in mL; undefined where there is no prediction."""
    truth_volume_ml: float | None = None
    """Volume of the true organ, in mL."""

    def value(self, metric: str) -> float | None:
        """The score of a name in ``METRICS``."""
        assert metric in METRICS, metric
        found: float | None = getattr(self, metric)
        return found

    def to_json(self) -> dict[str, float | None]:
        """One entry for each of ``METRICS``, null where undefined."""
        return {metric: self.value(metric) for metric in METRICS}


SHARES = ("dsc", "nsd")
"""Those in [0, 1], which have intervals and are compared."""

UNDEFINED = Score(None, None)
ZERO = Score(0.0, 0.0)


@dataclass(frozen=True)
class CaseScores:
    """The scores of one case, organ by organ (by name); only the organs that it annotates."""

    case: str
    organs: Mapping[str, Score]
    sequence: str | None = None
    domain: str | None = None
    patient: str | None = None
    """Cases of one patient share it; None: the case is its own patient."""

    @property
    def owner(self) -> str:
        """The patient, or the case where no patient is known."""
        return self.patient or self.case

    def to_json(self) -> dict[str, Any]:
        """The case as it stands in the JSON file."""
        known = {"patient": self.patient, "sequence": self.sequence, "domain": self.domain}
        return {
            "case": self.case,
            **{key: value for key, value in known.items() if value},
            "organs": {name: score.to_json() for name, score in self.organs.items()},
        }
