"""Judging labels without truth: the prior's word on every case of a folder of labels."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from labelferry.files import write_json
from labelferry.io.nifti import read_labels
from labelferry.io.sides import turned_in_prediction
from labelferry.organs import OrganSet
from labelferry.pipeline.prepared import PreparedCase
from labelferry.prior.model import Prior
from labelferry.prior.plausibility import CasePlausibility, plausibility
from labelferry.volume import Segmentation

_BELIEVED = 2.0
"""|z| of an organ's size up to which its place is believed."""


def judge(
    cases: Sequence[PreparedCase],
    labels: Path,
    prior: Prior,
    organs: OrganSet,
    told: Callable[[str], None] | None = None,
) -> dict[str, CasePlausibility]:
    """Plausibility of ``labels/<case>.nii.gz`` for each case that has one.

    ``told`` receives what their organs say against the header's orientation.
    """
    out = {}
    for case in cases:
        path = labels / f"{case.id}.nii.gz"
        if path.exists():
            found = read_labels(path, organs)
            out[case.id] = plausibility(found, prior)
            if told:
                for text in contradicted(found, out[case.id], organs):
                    told(f"{case.id}: {text}; by its pseudo-label")
    return out


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
    write_json(path, {"schema_version": 1, "domains": medians, "cases": rows})
    return medians


def tell(medians: Mapping[str, float | None]) -> str:
    """The medians in words."""
    return ", ".join(f"{d} {'not judged' if z is None else f'{z:.2f}'}" for d, z in medians.items())


def _finite(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None
