"""The tables of the report, read from a run folder."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labelferry.evaluate.results import Evaluation
from labelferry.evaluate.statistics import interval
from labelferry.files import read_json
from labelferry.organs import OrganSet
from labelferry.pipeline.manifest import Manifest
from labelferry.pipeline.prepared import PreparedCase
from labelferry.pipeline.translations import find_translations
from labelferry.report.data import (
    CaseScore,
    DomainRow,
    InputRow,
    OrganValues,
    ProvenanceRow,
    Rejected,
    ScoreRow,
    Scores,
    StageRow,
    Verdict,
)
from labelferry.report.names import CaseNames
from labelferry.report.tables import mean
from labelferry.report.words import count

_LOSSES = {
    "gan_t": "L_gan^t",
    "gan_s": "L_gan^s",
    "cyc": "L_cyc",
    "identity": "L_identity",
    "d_t": "L of D_t",
    "d_s": "L of D_s",
}
"""The losses of a translation as the paper writes them (eq. 1-4)."""
# medians of z: true labels of the source lie near 1.5; see docs/explanation/trust.md
_GOOD, _POOR = 2.0, 3.5


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
        rows.append(InputRow(f"MRI, {domain}", str(len(cases)), count(patients, "patient")))
    return tuple(rows)


def stage_row(name: str, manifest: Manifest | None, names: CaseNames) -> StageRow:
    """One stage of the run."""
    if manifest is None:
        return StageRow(name, "not run")
    return StageRow(
        name,
        "partial" if manifest.failed else "done",
        manifest.seconds,
        manifest.peak_memory_mb,
        names.scrub(str(manifest.summary.get("text", ""))),
    )


def output_rows(run: Path, manifests: Mapping[str, Manifest]) -> tuple[InputRow, ...]:
    """What came out: fake MRI, pseudo-labels, results, models."""
    rows = []
    fakes = [one.folder / "fake" for one in find_translations(run / "translate")]
    if any(folder.is_dir() for folder in fakes):
        made = sum(_count(folder) for folder in fakes)
        rows.append(InputRow("fake MRI", str(made), f"stage translate{_audit_words(manifests)}"))
    wanted = (
        ("pseudo-labels", ("refine/labels", "match/labels", "teach/labels")),
        ("results", ("distil/labels",)),
    )
    for name, folders in wanted:
        folder = next((f for f in folders if (run / f).is_dir()), None)
        if folder is not None:
            stage = folder.split("/")[0]
            rows.append(InputRow(name, str(_count(run / folder)), f"stage {stage}"))
    models = [
        f"{kind} ({stage})"
        for kind, stage in (("teacher", "teach"), ("refined", "refine"), ("small", "distil"))
        if stage in manifests and (run / stage / "model").is_dir()
    ]
    if models:
        rows.append(InputRow("models", str(len(models)), ", ".join(models)))
    return tuple(rows)


def _count(folder: Path) -> int:
    return sum(not p.name.startswith(".") for p in folder.glob("*.nii.gz"))


def _audit_words(manifests: Mapping[str, Manifest]) -> str:
    summary = manifests["translate"].summary if "translate" in manifests else {}
    domains: Mapping[str, Any] = summary.get("domains") or {"": summary}
    words = ""
    for domain, found in domains.items():
        of = f"{domain}: " if domain else ""
        if found.get("agreement") is not None:
            words += f"; {of}agreement with what the CT predicts {found['agreement']:.2f}"
        if found.get("flicker") is not None:
            words += f"; {of}steps from slice to slice {found['flicker']:.2f} times the CT's"
    return words


def problem_rows(
    run: Path, manifests: Mapping[str, Manifest], evaluation: Evaluation | None
) -> tuple[InputRow, ...]:
    """What failed or was left out."""
    rows = []
    failed = {name: len(m.failed) for name, m in manifests.items() if m.failed}
    if failed:
        told = ", ".join(f"{name}: {n}" for name, n in failed.items())
        rows.append(InputRow("failed cases", str(sum(failed.values())), told))
    path = run / "refine" / "selection.json"
    if path.exists():
        decisions = read_json(path, schema=1)["cases"]
        whole = sum(not d["organs"] for d in decisions)
        organs = sum(len(d["reasons"]) for d in decisions if d["organs"])
        if whole or organs:
            detail = f"{count(whole, 'whole case')} of {len(decisions)}"
            rows.append(InputRow("organ labels left out", str(organs), f"and {detail}"))
    unfit = _left_out(manifests)
    if unfit:
        rows.append(
            InputRow("fake MRI left out", str(len(unfit)), "they do not keep the CT's anatomy")
        )
    missing = (
        manifests["prepare"].summary.get("missing_organs", []) if "prepare" in manifests else []
    )
    if missing:
        rows.append(InputRow("organs without a label", str(len(missing)), ", ".join(missing)))
    if evaluation is not None and evaluation.missing:
        detail = "they count 0 in the scores"
        rows.append(InputRow("scored without a prediction", str(len(evaluation.missing)), detail))
    if evaluation is not None and evaluation.refused:
        rows.append(InputRow("files refused", str(len(evaluation.refused)), "see the warnings"))
    return tuple(rows)


def _left_out(manifests: Mapping[str, Manifest]) -> Sequence[str]:
    """Cases whose fake does not teach; with one fake a domain, once for each of these."""
    return manifests["translate"].summary.get("left_out", ()) if "translate" in manifests else ()


def score_tables(evaluation: Evaluation, names: CaseNames) -> Scores:
    """Scores per organ, domain and case, the means with their intervals over patients."""
    cases = tuple(
        CaseScore(names.of(row.case), row.domain or "", organ, value.dsc, value.nsd)
        for row in evaluation.cases
        for organ, value in row.organs.items()
    )
    organs = [
        _score_row(organ, evaluation.cases, organ)
        for organ in evaluation.organ_names
        if organ in evaluation.organs
    ]
    domains = [
        _score_row(domain, [row for row in evaluation.cases if row.domain == domain])
        for domain in sorted({row.domain for row in evaluation.cases if row.domain})
    ]
    overall = _score_row("all", evaluation.cases)
    return Scores(tuple(organs), tuple(domains), cases, overall)


def _score_row(name: str, cases: Sequence[Any], organ: str | None = None) -> ScoreRow:
    dsc, nsd = (interval(cases, metric, organ=organ) for metric in ("dsc", "nsd"))
    return ScoreRow(name, dsc, nsd, dsc.cases)


def instability_rows(
    run: Path, domains: Mapping[str, str], organs: OrganSet, names: CaseNames
) -> tuple[OrganValues, ...]:
    """u of eq. 7 per case and organ; nothing where only one round was made."""
    path = run / "refine" / "selection.json"
    if not path.exists():
        return ()
    return tuple(
        OrganValues(
            names.of(case),
            domains.get(case, ""),
            _known(row["case"]),
            {organs[int(key)].name: _known(u) for key, u in row["organs"].items()},
        )
        for case, row in read_json(path, schema=1)["instability"].items()
    )


def plausibility_rows(
    judged: Mapping[str, Any], domains: Mapping[str, str], organs: OrganSet, names: CaseNames
) -> tuple[OrganValues, ...]:
    """z per case and organ; infinite for an organ whose label came out empty."""
    return tuple(
        OrganValues(
            names.of(case),
            domains.get(case, ""),
            _known(row["z"]),
            {
                organs[int(key)].name: _known(value["z"] if value.get("present", True) else None)
                for key, value in row.get("organs", {}).items()
            },
        )
        for case, row in judged.items()
    )


def _known(value: float | None) -> float:
    """What JSON holds as null is infinite."""
    return math.inf if value is None else float(value)


def rejected_rows(
    run: Path, manifests: Mapping[str, Manifest], organs: OrganSet, names: CaseNames
) -> tuple[Rejected, ...]:
    """Cases and organs that were left out."""
    rows = [
        Rejected(names.of(case), None, f"failed in {name}: {names.scrub(reason)}")
        for name, manifest in manifests.items()
        for case, reason in manifest.failed.items()
    ]
    for one in find_translations(run / "translate") if _left_out(manifests) else ():
        for case, reason in one.left_out().items():
            told = f"fake MRI left out of teaching: {one.of_domain}{names.scrub(reason)}"
            rows.append(Rejected(names.of(case, source=True), None, told))
    path = run / "refine" / "selection.json"
    if path.exists():
        for decision in read_json(path, schema=1)["cases"]:
            for key, reason in decision["reasons"].items():
                organ = None if key == "case" else organs[int(key)].name
                # an empty label has no u: that is another fault than a changing one
                kind = "empty: " if reason.endswith("(empty)") else ""
                told = kind + names.scrub(reason)
                rows.append(Rejected(names.of(decision["case"]), organ, told))
    return tuple(rows)


def provenance_rows(run: Path, organs: OrganSet, names: CaseNames) -> tuple[ProvenanceRow, ...]:
    """Where each pseudo-label comes from."""
    rows = []
    for path in sorted((run / "match" / "provenance").glob("*.json")):
        value = read_json(path, schema=1)
        case = names.of(value["case"])
        if value["from"] is None:
            rows.append(ProvenanceRow(case, "all", "network", names.scrub(value["reason"])))
            continue
        for key, choice in value["organs"].items():
            carried = choice["source"] == "carried"
            detail = names.scrub(choice["reason"])
            if carried:
                detail = f"{names.of(value['from'])} ({value['how']}); {detail}"
            origin = "matched" if carried else "network"
            rows.append(ProvenanceRow(case, organs[int(key)].name, origin, detail))
    return tuple(rows)


def warning_texts(
    manifests: Mapping[str, Manifest], evaluation: Evaluation | None, names: CaseNames
) -> tuple[str, ...]:
    """What a person should know about the input and the scores."""
    prepare = manifests.get("prepare")
    summary = prepare.summary if prepare is not None else {}
    notes = [
        f"{names.of(case)}: {names.scrub(text)}"
        for case, texts in summary.get("notes", {}).items()
        for text in texts
    ]
    if "translate" in manifests:
        notes += [names.scrub(text) for text in manifests["translate"].summary.get("notes", ())]
    if evaluation is not None:
        notes += [f"{names.of(c)}: no prediction; it counts 0." for c in evaluation.missing]
        notes += [f"{names.of(c)}: {names.scrub(t)}" for c, t in evaluation.refused.items()]
        if evaluation.extra:
            notes.append(f"{count(len(evaluation.extra), 'prediction')} without truth; not scored.")
    missing = summary.get("missing_organs", [])
    if missing:
        notes.append(f"No source case annotates {', '.join(missing)}; no model can learn them.")
    return tuple(notes)


def loss_curves(run: Path) -> dict[str, tuple[tuple[float, float], ...]]:
    """Loss against step, per training."""
    out: dict[str, list[tuple[float, float]]] = {}
    files = {
        **{
            # what stands before the first slash names the panel
            f"translate {(one.domain or '').replace('/', '-')}".rstrip(): one.folder
            / "model"
            / "losses.jsonl"
            for one in find_translations(run / "translate")
        },
        "complete": run / "teach" / "complete" / "losses.jsonl",
        "teach": run / "teach" / "losses.jsonl",
        **{p.parent.name: p for p in sorted((run / "refine").glob("round*/losses.jsonl"))},
        "distil": run / "distil" / "losses.jsonl",
    }
    for name, path in files.items():
        if not path.exists():
            continue
        shown = _LOSSES if name.startswith("translate") else {}
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            step = float(row.pop("step"))
            for key, value in row.items():
                if key != "lr" and isinstance(value, int | float):
                    curve = shown.get(key, key)
                    out.setdefault(f"{name}/{curve}", []).append((step, float(value)))
    return {name: tuple(points) for name, points in out.items()}


def as_toml(value: Mapping[str, Any], prefix: str = "") -> str:
    """Nested settings as TOML, for reading."""
    lines = [f"{k} = {json.dumps(v)}" for k, v in value.items() if not isinstance(v, Mapping)]
    text = "\n".join(lines) + "\n" if lines else ""
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            text += f"\n[{prefix}{key}]\n{as_toml(inner, f'{prefix}{key}.')}"
    return text
