"""Judging labels without truth: the prior's word on every case of a folder of labels."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelferry.errors import UserError
from labelferry.files import read_json, write_json
from labelferry.io.nifti import read_labels
from labelferry.io.sides import turned_in_prediction
from labelferry.organs import OrganSet
from labelferry.pipeline.executor import for_light_work, map_cases
from labelferry.pipeline.prepared import PreparedCase
from labelferry.prior.model import Prior
from labelferry.prior.plausibility import CasePlausibility, plausibility
from labelferry.volume import Segmentation

_SCHEMA = 1
_BELIEVED = 2.0
"""|z| of an organ's size up to which its place is believed."""


@dataclass(frozen=True)
class _Job:
    case: str
    path: Path
    prior: Prior
    organs: OrganSet
    told: bool


def judge(
    cases: Sequence[PreparedCase],
    labels: Path,
    prior: Prior,
    organs: OrganSet,
    told: Callable[[str], None] | None = None,
    *,
    workers: int = 1,
) -> dict[str, CasePlausibility]:
    """Plausibility of ``labels/<case>.nii.gz`` for each case that has one.

    ``told`` receives what their organs say against the header's orientation. ``workers``
    processes share many cases.
    """
    paths = {case.id: labels / f"{case.id}.nii.gz" for case in cases}
    jobs = [_Job(k, p, prior, organs, told is not None) for k, p in paths.items() if p.exists()]
    out = {}
    for job, result in map_cases(_judge_one, jobs, workers=for_light_work(workers, len(jobs))):
        if isinstance(result, UserError):
            raise result
        out[job.case], texts = result
        if told:
            for text in texts:
                told(f"{job.case}: {text}; by its pseudo-label")
    return out


def _judge_one(job: _Job) -> tuple[CasePlausibility, list[str]]:
    found = read_labels(job.path, job.organs)
    judged = plausibility(found, job.prior)
    return judged, contradicted(found, judged, job.organs) if job.told else []


def read_plausibility(path: Path) -> dict[str, CasePlausibility]:
    """What :func:`write_plausibility` has written, by case."""
    rows = read_json(path, schema=_SCHEMA)["cases"]
    return {case: CasePlausibility.from_json(row) for case, row in rows.items()}


def contradicted(labels: Segmentation, judged: CasePlausibility, organs: OrganSet) -> list[str]:
    """What predicted organs say against the header's orientation: a volume that was mirrored or
    turned upside down. Organs of an odd size are not believed."""
    rows = judged.organs.items()
    believed = {organs[k].name for k, r in rows if r.present and abs(r.size_z) <= _BELIEVED}
    return turned_in_prediction(labels, organs, believed)


def write_plausibility(
    path: Path, judged: dict[str, CasePlausibility], cases: Sequence[PreparedCase]
) -> dict[str, float | None]:
    """Write the table of a stage; returns the median z of each domain (low is plausible).

    None stands for a domain where most label maps hold nothing that could be judged.
    """
    domains: dict[str, list[float]] = {}
    for case in cases:
        if case.id in judged:
            domains.setdefault(case.domain, []).append(judged[case.id].z)
    medians = {name: _finite(statistics.median(z)) for name, z in sorted(domains.items())}
    rows: dict[str, Any] = {case_id: judged[case_id].to_json() for case_id in sorted(judged)}
    write_json(path, {"schema_version": _SCHEMA, "domains": medians, "cases": rows})
    return medians


def median_z(judged: Mapping[str, CasePlausibility]) -> float:
    """Median z over all cases; infinite where most hold nothing that could be judged."""
    return statistics.median([row.z for row in judged.values()]) if judged else math.inf


def tell(medians: Mapping[str, float | None]) -> str:
    """The medians in words."""
    return ", ".join(f"{d} {'not judged' if z is None else f'{z:.2f}'}" for d, z in medians.items())


def _finite(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None
