"""prepare: check, canonical orientation, working grid, anatomy space, and the prior."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelferry.anatomy.config import AnatomyConfig
from labelferry.anatomy.prepare import prepare, prepare_labels
from labelferry.cases import Case, Cohort
from labelferry.errors import UserError
from labelferry.files import atomic_folder, read_json, write_json
from labelferry.io.check import annotated_in, check_case
from labelferry.io.images import read_case, read_labels
from labelferry.io.nifti import write_volume
from labelferry.organs import OrganSet
from labelferry.pipeline.prepared import CASE_SCHEMA, Role
from labelferry.pipeline.stage import Context, Stage, Summary
from labelferry.prior.learn import learn_prior
from labelferry.volume import Segmentation


@dataclass(frozen=True)
class _Job:
    case: Case
    role: Role
    folder: Path
    config: AnatomyConfig
    organs: OrganSet


def run(context: Context) -> Summary:
    """Prepare every case; a refused case is named and left out, the others go on."""
    config = context.config
    jobs = [
        *_jobs(context, context.source, "source", config.limit_source),
        *_jobs(context, context.target, "target", config.limit_target),
    ]
    failed = context.each(
        "cases prepared",
        _prepare_one,
        jobs,
        name=lambda job: job.case.id,
        made=lambda job: job.folder / "case.json",
        workers=config.workers,
    )
    rows = [
        read_json(job.folder / "case.json", schema=CASE_SCHEMA)
        for job in jobs
        # not by the id: a CT and an MRI may share one
        if (job.folder / "case.json").exists()
    ]
    for role, jobs_of_role in (("source", context.source), ("target", context.target)):
        if not any(row["role"] == role for row in rows):
            reason = next(iter(failed.values()), "no case")
            raise UserError(
                f"no usable {role} case",
                seen=f"{len(jobs_of_role)} refused; the first: {reason}",
                fix="run 'labelferry data check' on the folder",
            )
    for row in rows:
        for text in row["notes"]:
            context.events.note(text if row["id"] in text else f"{row['id']}: {text}", "warning")
    write_json(context.folder / "cases.json", {"schema_version": CASE_SCHEMA, "cases": rows})
    prior = learn_prior(_source_labels(rows, context), context.organs)
    write_json(context.folder / "prior.json", prior.to_json())
    return _summary(rows, failed, context)


def _jobs(context: Context, cohort: Cohort, role: Role, limit: int) -> list[_Job]:
    cases = sorted(cohort, key=lambda case: case.id)
    return [
        _Job(case, role, context.folder / role / case.id, context.config.prepare, context.organs)
        for case in (cases[:limit] if limit else cases)
    ]


def _prepare_one(job: _Job) -> None:
    case = job.case
    notes = check_case(case, job.organs)
    refused = [note for note in notes if note.severity == "refused"]
    if refused:
        first = refused[0]
        raise UserError(first.text, case=case.id, path=first.path, fix=first.fix)
    try:
        prepared = prepare(read_case(case).volume, case.modality, job.config, case=case.id)
    except UserError as error:
        raise error.at(error.path or case.image, case.id) from error
    with atomic_folder(job.folder) as part:
        write_volume(part / "image.nii.gz", prepared.image)
        write_volume(part / "anatomy.nii.gz", prepared.anatomy)
        write_volume(part / "body.nii.gz", prepared.body)
        annotated: frozenset[int] = frozenset()
        if job.role == "source":
            assert case.label is not None, "a source cohort holds labelled cases only"
            labels = read_labels(case.label, job.organs, case.numbering)
            annotated = annotated_in(case, labels, job.organs)
            write_volume(part / "label.nii.gz", prepare_labels(labels, prepared))
        write_json(
            part / "case.json",
            {
                "schema_version": CASE_SCHEMA,
                "id": case.id,
                "role": job.role,
                "patient": case.patient,
                "sequence": case.sequence,
                "domain": case.domain,
                "annotated": sorted(annotated),
                "canonical": {
                    "shape": prepared.canonical.shape,
                    "affine": prepared.canonical.affine.tolist(),
                },
                "box": [prepared.box.start, prepared.box.stop],
                "notes": [note.text for note in notes if note.severity == "warning"],
            },
        )


def _source_labels(
    rows: list[dict[str, Any]], context: Context
) -> Iterator[tuple[Segmentation, frozenset[int]]]:
    for row in rows:
        if row["role"] == "source":
            path = context.folder / "source" / row["id"] / "label.nii.gz"
            yield read_labels(path, context.organs), frozenset(row["annotated"])


def _summary(rows: list[dict[str, Any]], failed: dict[str, str], context: Context) -> Summary:
    domains = Counter(row["domain"] for row in rows if row["role"] == "target")
    source = sum(row["role"] == "source" for row in rows)
    known = {organ for row in rows for organ in row["annotated"]}
    missing = [organ.name for organ in context.organs if organ.id not in known]
    if missing:
        context.events.note(
            f"no source case annotates {', '.join(missing)}: no model can learn "
            f"{'it' if len(missing) == 1 else 'them'}; results will lack "
            f"{'this organ' if len(missing) == 1 else 'these organs'}",
            "warning",
        )
    parts = ", ".join(f"{n} {domain}" for domain, n in sorted(domains.items()))
    text = f"{source} labelled CT, {sum(domains.values())} MRI ({parts})"
    if failed:
        text += f", {len(failed)} refused"
    notes = {row["id"]: row["notes"] for row in rows if row["notes"]}
    facts = {
        "source": source,
        "target": dict(sorted(domains.items())),
        "missing_organs": missing,
        "notes": notes,
    }
    return Summary(text, facts, failed)


STAGE = Stage(
    "prepare",
    lambda config: {"prepare": config.prepare, "limits": config.limits()},
    (),
    run,
)
