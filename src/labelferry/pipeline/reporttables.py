"""The tables of the report, read from a run folder."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labelferry.files import read_json
from labelferry.organs import OrganSet
from labelferry.pipeline.manifest import Manifest
from labelferry.pipeline.prepared import PreparedCase
from labelferry.report.data import (
    CaseScore,
    DomainRow,
    InputRow,
    ProvenanceRow,
    Rejected,
    ScoreRow,
    Scores,
    StageRow,
    Verdict,
)

# medians of z: true labels of the source lie near 1.5; see docs/explanation/trust.md
_GOOD, _POOR = 2.0, 3.5


def mean(values: Any) -> float | None:
    """Mean of what is known; None where nothing is."""
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None


def domain_rows(
    run: Path,
    target: tuple[PreparedCase, ...],
    stable: Mapping[str, float],
    plausible: Mapping[str, float],
) -> tuple[DomainRow, ...]:
    """One row a target domain."""
    path = run / "match" / "anchors.json"
    anchors = read_json(path, schema=1)["anchors"] if path.exists() else []
    rows = []
    for domain in sorted({case.domain for case in target}):
        ids = [case.id for case in target if case.domain == domain]
        rows.append(
            DomainRow(
                domain,
                len(ids),
                "anchor" if domain in anchors else "follower",
                _middle([plausible[i] for i in ids if i in plausible]),
                mean(stable[i] for i in ids if i in stable),
            )
        )
    return tuple(rows)


def _middle(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def verdicts(domains: tuple[DomainRow, ...]) -> tuple[Verdict, ...]:
    """What may be said without labels: how plausible each domain's results are."""
    verdicts = []
    for row in domains:
        z = row.plausibility
        if z is None:
            verdicts.append(Verdict(row.domain, "caution", "Not labelled yet."))
        elif z <= _GOOD:
            verdicts.append(
                Verdict(
                    row.domain,
                    "good",
                    f"Organs are about as large and lie about where they do in the labelled CT "
                    f"(z {z:.1f}). Look at a few cases before you use them.",
                )
            )
        elif z <= _POOR:
            verdicts.append(
                Verdict(
                    row.domain,
                    "caution",
                    f"Sizes or positions of some organs are unlike the labelled CT (z {z:.1f}). "
                    f"Check the organs that the tables name.",
                )
            )
        else:
            verdicts.append(
                Verdict(
                    row.domain,
                    "poor",
                    f"Organs do not look like those of the labelled CT (z {z:.1f}). Do not use "
                    f"these results without correcting them.",
                )
            )
    return tuple(verdicts)


def input_rows(
    source: tuple[PreparedCase, ...], target: tuple[PreparedCase, ...], organs: OrganSet
) -> tuple[InputRow, ...]:
    """What went in."""
    annotated = frozenset().union(*(case.annotated for case in source)) if source else frozenset()
    rows = [InputRow("labelled CT", str(len(source)), f"{len(annotated)} of {len(organs)} organs")]
    for domain in sorted({case.domain for case in target}):
        cases = [case for case in target if case.domain == domain]
        patients = len({case.patient for case in cases})
        rows.append(InputRow(f"MRI, {domain}", str(len(cases)), f"{patients} patients"))
    return tuple(rows)


def stage_row(name: str, manifest: Manifest | None) -> StageRow:
    """One stage of the run."""
    if manifest is None:
        return StageRow(name, "not run")
    return StageRow(
        name,
        "partial" if manifest.failed else "done",
        manifest.seconds,
        manifest.peak_memory_mb,
        str(manifest.summary.get("text", "")),
    )


def score_tables(evaluation: Mapping[str, Any]) -> Scores:
    """Scores per organ, domain and case, from the JSON of ``evaluate``."""
    cases = [
        CaseScore(row["case"], str(row.get("domain") or ""), organ, value["dsc"], value["nsd"])
        for row in evaluation["cases"]
        for organ, value in row["organs"].items()
    ]
    organs = [
        ScoreRow(
            name,
            value["dsc"],
            value["nsd"],
            sum(c.organ == name and c.dsc is not None for c in cases),
        )
        for name, value in evaluation["mean"].items()
        if name != "all"
    ]
    domains = []
    for domain in sorted({c.domain for c in cases}):
        of = [c for c in cases if c.domain == domain and c.dsc is not None]
        domains.append(
            ScoreRow(domain or "all", mean(c.dsc for c in of), mean(c.nsd for c in of), len(of))
        )
    return Scores(tuple(organs), tuple(domains), tuple(cases))


def rejected_rows(
    run: Path, manifests: Mapping[str, Manifest], organs: OrganSet
) -> tuple[Rejected, ...]:
    """Cases and organs that were left out."""
    rows = [
        Rejected(case, None, f"{name}: {reason}")
        for name, manifest in manifests.items()
        for case, reason in manifest.failed.items()
    ]
    path = run / "refine" / "selection.json"
    if path.exists():
        for decision in read_json(path, schema=1)["cases"]:
            for key, reason in decision["reasons"].items():
                organ = None if key == "case" else organs[int(key)].name
                rows.append(Rejected(decision["case"], organ, reason))
    return tuple(rows)


def provenance_rows(run: Path, organs: OrganSet) -> tuple[ProvenanceRow, ...]:
    """Where each pseudo-label comes from."""
    rows = []
    for path in sorted((run / "match" / "provenance").glob("*.json")):
        value = read_json(path, schema=1)
        if value["from"] is None:
            rows.append(ProvenanceRow(value["case"], "all", "network", value["reason"]))
            continue
        for key, choice in value["organs"].items():
            carried = choice["source"] == "carried"
            detail = (
                f"{value['from']} ({value['how']}); {choice['reason']}"
                if carried
                else (choice["reason"])
            )
            rows.append(
                ProvenanceRow(
                    value["case"],
                    organs[int(key)].name,
                    "matched" if carried else "network",
                    detail,
                )
            )
    return tuple(rows)


def warning_texts(manifests: Mapping[str, Manifest]) -> tuple[str, ...]:
    """What a person should know about the input."""
    prepare = manifests.get("prepare")
    if prepare is None:
        return ()
    notes = [
        f"{case}: {text}"
        for case, texts in prepare.summary.get("notes", {}).items()
        for text in texts
    ]
    missing = prepare.summary.get("missing_organs", [])
    if missing:
        notes.append(f"No source case annotates {', '.join(missing)}; no model can learn them.")
    return tuple(notes)


def loss_curves(run: Path) -> dict[str, tuple[tuple[float, float], ...]]:
    """Loss against step, per training."""
    out: dict[str, list[tuple[float, float]]] = {}
    files = {
        "translate": run / "translate" / "model" / "losses.jsonl",
        "teach": run / "teach" / "losses.jsonl",
        **{p.parent.name: p for p in sorted((run / "refine").glob("round*/losses.jsonl"))},
        "distil": run / "distil" / "losses.jsonl",
    }
    for name, path in files.items():
        if not path.exists():
            continue
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            step = float(row.pop("step"))
            for key, value in row.items():
                if key != "lr" and isinstance(value, int | float):
                    out.setdefault(f"{name}/{key}", []).append((step, float(value)))
    return {name: tuple(points) for name, points in out.items()}


def as_toml(value: Mapping[str, Any], prefix: str = "") -> str:
    """Nested settings as TOML, for reading."""
    lines = [f"{k} = {json.dumps(v)}" for k, v in value.items() if not isinstance(v, Mapping)]
    text = "\n".join(lines) + "\n" if lines else ""
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            text += f"\n[{prefix}{key}]\n{as_toml(inner, f'{prefix}{key}.')}"
    return text
