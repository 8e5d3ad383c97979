"""The prior: organ sizes, positions, sides and components, as numbers that go to JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from labelferry.errors import UserError
from labelferry.prior.measure import OrganMeasure

SCHEMA_VERSION = 1

SizeKind = Literal["volume", "section"]
"""``volume`` in mm³; ``section``, the mean cross-section in mm², for an organ that most source
images cut at their upper or lower end (a long vessel), whose volume says nothing."""


@dataclass(frozen=True)
class OrganPrior:
    """What the source says about one organ."""

    id: int
    name: str
    cases: int
    """Source cases behind the statistics."""
    present_rate: float
    """Share of the source cases annotating the organ that have it, in [0, 1]."""
    size: SizeKind
    log_size_mean: float
    """Mean natural logarithm of the size (mm³ or mm²)."""
    log_size_sd: float
    position_mm: tuple[float, float, float]
    """Mean centroid in the prior's frame: RAS axes, origin at the mean of the organs' positions.
    For ``section`` organs the third value has no meaning."""
    position_sd_mm: tuple[float, float, float]
    components: float
    """Mean number of components."""
    largest_share: float
    """Mean share of the largest component."""
    side: int
    """+1 where the organ of a pair lies to the right (+x) of the midline, -1 to the left, 0 where
    the organ has no pair or the source does not show both."""
    midline_mm: float
    """x of the plane between the organ and its pair, in the prior's frame."""

    def log_size(self, measure: OrganMeasure) -> float:
        """The logarithm of a measured organ's size, of the kind that this prior holds."""
        value = measure.volume_mm3 if self.size == "volume" else measure.section_mm2
        return float(np.log(value))

    def uses_z(self, measure: OrganMeasure) -> bool:
        """Whether the centroid's height can be compared: not for an organ that is cut."""
        return self.size == "volume" and not measure.cut


@dataclass(frozen=True)
class Prior:
    """What the source labels say about organs; an organ that no source case shows is not in it."""

    organs: tuple[OrganPrior, ...]
    cases: int
    """Number of source label maps read."""

    def get(self, organ_id: int) -> OrganPrior | None:
        """The prior of one organ, or None where the source does not show it."""
        return self._by_id.get(organ_id)

    @cached_property
    def _by_id(self) -> dict[int, OrganPrior]:
        return {organ.id: organ for organ in self.organs}

    def frame(self, measures: Mapping[int, OrganMeasure]) -> NDArray[np.float64]:
        """Where the origin of the prior's frame lies for one case: world RAS mm, shape (3,).

        The median, axis by axis, of centroid minus expected position over the organs found: no
        matter which organs are missing, and unmoved by a few that are misplaced. NaN along an
        axis on which no organ can be compared.
        """
        rows = [
            _masked(np.array(m.centroid_mm) - organ.position_mm, organ.uses_z(m))
            for organ_id, m in measures.items()
            if (organ := self.get(organ_id)) is not None
        ]
        origin = np.full(3, np.nan)
        for axis in range(3):
            values = [row[axis] for row in rows if not np.isnan(row[axis])]
            if values:
                origin[axis] = np.median(values)
        return origin

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form, read back by :meth:`from_json`."""
        organs = [asdict(organ) for organ in self.organs]
        return {"schema_version": SCHEMA_VERSION, "cases": self.cases, "organs": organs}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Prior:
        """Read :meth:`to_json`'s form; another schema version or form raises ``UserError``."""
        if value.get("schema_version") != SCHEMA_VERSION:
            raise UserError(
                "the prior has another schema version",
                seen=value.get("schema_version"),
                allowed=SCHEMA_VERSION,
                fix="learn it again with this version of labelferry",
            )
        try:
            organs = tuple(_organ_from_json(row) for row in value["organs"])
            return cls(organs, int(value["cases"]))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError("not a prior of labelferry", seen=repr(error)) from error


def _masked(vector: NDArray[np.float64], uses_z: bool) -> NDArray[np.float64]:
    return vector if uses_z else np.array([vector[0], vector[1], np.nan])


def _organ_from_json(row: Mapping[str, Any]) -> OrganPrior:
    fields = dict(row)
    for key in ("position_mm", "position_sd_mm"):
        x, y, z = fields[key]
        fields[key] = (float(x), float(y), float(z))
    organ = OrganPrior(**fields)
    # a prior may come with a model from anywhere
    numbers = [v for k, v in asdict(organ).items() if k not in ("name", "size")]
    spreads = (organ.log_size_sd, *organ.position_sd_mm)
    if not np.isfinite(np.hstack(numbers)).all() or min(spreads) <= 0:
        raise ValueError(f"{organ.name}: a number is out of range")
    if not isinstance(organ.id, int) or organ.size not in get_args(SizeKind):
        raise ValueError(f"{organ.name}: id {organ.id}, size {organ.size}")
    return organ
