"""How plausible a label map is: the only judge that needs no label of the target."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelferry.errors import UserError
from labelferry.prior.measure import OrganMeasure, measure_organs
from labelferry.prior.model import OrganPrior, Prior
from labelferry.volume import Segmentation

CAP = 5.0
"""Largest |z| that size or position may add: one absurd organ must not decide about a case."""
MISSING = 5.0
"""z of a missing organ that every source case has; scaled by the share of cases that have it."""
EXPECTED = 0.5
"""An organ is missed only where at least this share of the source cases has it."""


@dataclass(frozen=True)
class OrganPlausibility:
    """One organ of one label map against the prior."""

    z: float
    """|size z| + |position z|, or the penalty for a missing organ. 0 is the source's mean."""
    size_z: float
    """Signed: below 0 too small, above 0 too large; within ±``CAP``. 0 where missing."""
    position_z: float
    """Root mean square over the axes compared, in [0, ``CAP``]. 0 where missing."""
    present: bool
    components: int
    largest_share: float
    cut: bool
    wrong_side: bool


@dataclass(frozen=True)
class CasePlausibility:
    """One label map against the prior. Low is good."""

    z: float
    """Mean of the organs' z; infinite where no organ could be judged."""
    organs: Mapping[int, OrganPlausibility]
    """Per organ id; an organ without a prior, or absent as in many source cases, is not here."""
    fragmentation: float
    """Mean over the organs present of the share of voxels outside the largest component, [0, 1]."""
    missing: frozenset[int]
    wrong_side: frozenset[int]
    """Organs of a left/right pair that lie on the other's side."""

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form; an infinite z becomes null."""
        return {
            "z": self.z if math.isfinite(self.z) else None,
            "fragmentation": self.fragmentation,
            "missing": sorted(self.missing),
            "wrong_side": sorted(self.wrong_side),
            "organs": {str(organ): asdict(row) for organ, row in sorted(self.organs.items())},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> CasePlausibility:
        """Read :meth:`to_json`'s form."""
        try:
            return cls(
                z=math.inf if value["z"] is None else float(value["z"]),
                organs={int(k): OrganPlausibility(**row) for k, row in value["organs"].items()},
                fragmentation=float(value["fragmentation"]),
                missing=frozenset(value["missing"]),
                wrong_side=frozenset(value["wrong_side"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError("not a plausibility of labelferry", seen=repr(error)) from error


@dataclass(frozen=True)
class DomainRank:
    """How plausible the label maps of one domain are on average."""

    domain: str
    z: float
    """Mean of its cases' z; infinite where none could be judged."""
    cases: int

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form; an infinite z becomes null."""
        z = self.z if math.isfinite(self.z) else None
        return {"domain": self.domain, "z": z, "cases": self.cases}


def plausibility(
    labels: Segmentation, prior: Prior, annotated: frozenset[int] | None = None
) -> CasePlausibility:
    """Judge a label map on a canonical grid (x, y, z) by the source's organs.

    z is the mean over the organs of |log-size z| + |centroid z|, centroids taken after the case is
    moved onto the prior. An organ cut by the image's end can only be too large, and its height
    does not count. ``annotated`` limits the judgement to organs that the map can hold at all.
    """
    known = [row.id for row in prior.organs if annotated is None or row.id in annotated]
    return judge_measures(measure_organs(labels, known), prior, annotated)


def judge_measures(
    measures: Mapping[int, OrganMeasure], prior: Prior, annotated: frozenset[int] | None = None
) -> CasePlausibility:
    """The same of a label map that is measured already; organs without a prior are not judged."""
    known = {row.id: row for row in prior.organs if annotated is None or row.id in annotated}
    measures = {organ: m for organ, m in measures.items() if organ in known}
    origin = prior.frame(measures)
    organs: dict[int, OrganPlausibility] = {}
    for organ_id, row in known.items():
        if organ_id in measures:
            organs[organ_id] = _present(measures[organ_id], row, origin)
        elif row.present_rate >= EXPECTED:
            z = MISSING * row.present_rate
            organs[organ_id] = OrganPlausibility(z, 0.0, 0.0, False, 0, 0.0, False, False)
    shares = [m.largest_share for m in measures.values()]
    return CasePlausibility(
        z=float(np.mean([row.z for row in organs.values()])) if organs else math.inf,
        organs=organs,
        fragmentation=float(1 - np.mean(shares)) if shares else 0.0,
        missing=frozenset(k for k, row in organs.items() if not row.present),
        wrong_side=frozenset(k for k, row in organs.items() if row.wrong_side),
    )


def _present(
    measure: OrganMeasure, row: OrganPrior, origin: NDArray[np.float64]
) -> OrganPlausibility:
    size_z = (row.log_size(measure) - row.log_size_mean) / row.log_size_sd
    if measure.cut and row.size == "volume":
        size_z = max(0.0, size_z)
    size_z = float(np.clip(size_z, -CAP, CAP))
    place = np.array(measure.centroid_mm) - origin
    axes = [axis for axis in range(3) if not np.isnan(place[axis])]
    if not row.uses_z(measure):
        axes = [axis for axis in axes if axis != 2]
    scaled = (place - row.position_mm)[axes] / np.array(row.position_sd_mm)[axes]
    position_z = min(CAP, float(np.sqrt(np.mean(scaled**2)))) if axes else 0.0
    return OrganPlausibility(
        z=abs(size_z) + position_z,
        size_z=size_z,
        position_z=position_z,
        present=True,
        components=measure.components,
        largest_share=measure.largest_share,
        cut=measure.cut,
        wrong_side=bool(row.side * (place[0] - row.midline_mm) < 0),
    )


def rank_domains(
    cases: Mapping[str, CasePlausibility], domains: Mapping[str, str]
) -> tuple[DomainRank, ...]:
    """The domains by the mean z of their cases, the most plausible first, ties by name.

    ``domains`` names the domain of each case id. A case that could not be judged counts in the
    number of cases only.
    """
    groups: dict[str, list[float]] = {}
    for case_id, row in cases.items():
        if case_id not in domains:
            raise UserError("the case has no domain", case=case_id)
        groups.setdefault(domains[case_id], []).append(row.z)
    ranks = []
    for domain, values in groups.items():
        finite = [z for z in values if math.isfinite(z)]
        mean = math.fsum(finite) / len(finite) if finite else math.inf
        ranks.append(DomainRank(domain, mean, len(values)))
    return tuple(sorted(ranks, key=lambda rank: (rank.z, rank.domain)))
