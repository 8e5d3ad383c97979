"""Which fakes may teach: each beside the limits and beside the other fakes of its run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labelferry.files import read_json, write_json
from labelferry.organs import OrganSet
from labelferry.translate.audit import Measures, OrganMeasures
from labelferry.translate.config import AuditConfig

AUDIT_FILE = "audit.json"
"""Name of what :func:`write_audit` writes, in the folder of the stage."""
AUDIT_SCHEMA = 1
_LEAST_COHORT = 6
# deviations below these are taken for these: an unusually even cohort must not accuse for trifles
_FLOOR_AGREEMENT = 0.10
_FLOOR_DISPLACEMENT = 0.10
_FLOOR_SHARE = 0.5


@dataclass(frozen=True)
class Finding:
    """One organ in which a fake departs from its source."""

    organ: int
    kind: str
    """``structure`` (the fake is not what its source predicts) or ``displacement``."""
    severity: float
    """1 is the limit."""
    text: str


@dataclass(frozen=True)
class Verdict:
    """What the audit says of one fake volume."""

    severity: float
    """Largest over its organs and checks; above 1 the fake departs from its source."""
    findings: tuple[Finding, ...]
    """Those above 1, the worst first."""
    kept: bool
    """Whether it may teach."""
    flickering: tuple[int, ...]
    """Slices of another style than their neighbours (indices along z on the audit's voxels)."""

    @property
    def reason(self) -> str:
        """The findings in words."""
        return "; ".join(finding.text for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form."""
        return {
            "severity": round(self.severity, 4),
            "kept": self.kept,
            "reason": self.reason,
            "findings": [
                {
                    "organ": finding.organ,
                    "kind": finding.kind,
                    "severity": round(finding.severity, 4),
                    "text": finding.text,
                }
                for finding in self.findings
            ],
            "flickering": list(self.flickering),
        }


def write_audit(
    path: Path, verdicts: Mapping[str, Verdict], measured: Mapping[str, Measures]
) -> None:
    """Write the verdicts of a run with what was measured."""
    rows = {c: {**verdicts[c].to_json(), **measured[c].to_json()} for c in sorted(verdicts)}
    write_json(path, {"schema_version": AUDIT_SCHEMA, "cases": rows})


def fakes_left_out(path: Path) -> dict[str, str]:
    """From what :func:`write_audit` wrote: each fake that may not teach, and why.

    Empty where there is no such file: the audit was off.
    """
    if not path.exists():
        return {}
    rows: Mapping[str, Any] = read_json(path, schema=AUDIT_SCHEMA)["cases"]
    return {case: row["reason"] for case, row in rows.items() if not row["kept"]}


def summarise(
    verdicts: Mapping[str, Verdict], measured: Mapping[str, Measures], config: AuditConfig
) -> dict[str, Any]:
    """The audit of a run in few words: who is left out, medians over the fakes, and warnings."""
    notes = []
    failing = [case for case, verdict in verdicts.items() if verdict.severity > 1]
    taught = [case for case in failing if verdicts[case].kept]
    if taught:
        notes.append(
            f"The audit finds that {len(failing)} of {len(verdicts)} fake MRI do not keep the "
            f"anatomy of their CT. {len(taught)} of these teach all the same: at most a share of "
            f"{config.most_left_out:g} may be left out (translate.audit.most_left_out). Train the "
            f"translation longer, or look at the fakes."
        )
    uneven = [len(v.flickering) for v in verdicts.values() if v.flickering]
    if uneven:
        notes.append(
            f"{len(uneven)} of {len(verdicts)} fake MRI have slices of another style than their "
            f"neighbours ({statistics.median(uneven):g} in the median); {AUDIT_FILE} names them."
        )
    shown = [m.flicker.ratio for m in measured.values() if m.flicker is not None]
    agreements = [m.agreement for m in measured.values()]
    return {
        "left_out": sorted(case for case, verdict in verdicts.items() if not verdict.kept),
        "agreement": round(statistics.median(agreements), 3) if agreements else None,
        "flicker": round(statistics.median(shown), 3) if shown else None,
        "notes": notes,
    }


def judge(
    measured: Mapping[str, Measures], config: AuditConfig, organs: OrganSet
) -> dict[str, Verdict]:
    """A verdict for each fake of a run.

    Two limits hold for every organ: one as such, and one beside the same organ in the other fakes
    (robust z; from six on). At most ``config.most_left_out`` of the fakes are left out, the worst:
    where more fail, the translator is at fault, and only a person can decide.
    """
    findings = {case: _findings(case, measured, config, organs) for case in measured}
    severity = {
        case: max((f.severity for f in found), default=0.0) for case, found in findings.items()
    }
    failing = sorted((c for c in measured if severity[c] > 1), key=lambda c: (-severity[c], c))
    left_out = set(failing[: math.floor(config.most_left_out * len(measured))])
    return {
        case: Verdict(
            severity[case],
            tuple(sorted((f for f in found if f.severity > 1), key=lambda f: -f.severity)),
            case not in left_out,
            shown.standing_out(config.flicker) if (shown := measured[case].flicker) else (),
        )
        for case, found in findings.items()
    }


def _findings(
    case: str, measured: Mapping[str, Measures], config: AuditConfig, organs: OrganSet
) -> list[Finding]:
    out = []
    for organ, own in measured[case].organs.items():
        name = organs[organ].name
        others = [m.organs[organ] for m in measured.values() if organ in m.organs]
        z = -_robust_z(own, others, lambda o: math.atanh(_inner(o.agreement)), _FLOOR_AGREEMENT)
        least = (1 - own.agreement) / (1 - config.least_agreement)
        text = f"{name}: agreement with the CT {own.agreement:.2f} (z {z:.1f})"
        out.append(Finding(organ, "structure", max(z / config.z_structure, least), text))
        z = _robust_z(own, others, lambda o: o.displacement, _FLOOR_DISPLACEMENT, _FLOOR_SHARE)
        most = own.displacement / config.most_displacement
        text = f"{name}: displaced by about {own.displacement_mm:.1f} mm (z {z:.1f})"
        out.append(Finding(organ, "displacement", max(z / config.z_displacement, most), text))
    return out


def _robust_z(
    own: OrganMeasures,
    others: list[OrganMeasures],
    of: Callable[[OrganMeasures], float],
    floor: float,
    share: float = 0.0,
) -> float:
    if len(others) < _LEAST_COHORT:
        return 0.0
    values = np.array([of(other) for other in others])
    middle = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - middle)))
    return (of(own) - middle) / max(spread, floor, share * middle)


def _inner(value: float) -> float:
    return min(0.999, max(-0.999, value))
