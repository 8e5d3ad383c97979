"""Cases on grids of a given spacing, as files, for ``prepared_cases`` to find."""

from __future__ import annotations

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
from labelferry.pipeline.stage import Context


@dataclass(frozen=True)
class _Job:
    case: Case
    role: Role
    folder: Path
    config: AnatomyConfig
    organs: OrganSet


def prepare_cases(
    context: Context,
    folder: Path,
    config: AnatomyConfig,
    roles: tuple[Role, ...] = ("source", "target"),
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Prepare the cases of a run into ``folder``, resumably; ``cases.json`` lists them.

    Returns the rows of that list, and the refused cases with the reason.
    """
    run = context.config
    jobs = []
    if "source" in roles:
        jobs += _jobs(context, folder, config, context.source, "source", run.limit_source)
    if "target" in roles:
        jobs += _jobs(context, folder, config, context.target, "target", run.limit_target)
    failed = context.each(
        "cases prepared",
        _prepare_one,
        jobs,
        name=lambda job: job.case.id,
        made=lambda job: job.folder / "case.json",
        workers=run.workers,
    )
    rows = [
        read_json(job.folder / "case.json", schema=CASE_SCHEMA)
        for job in jobs
        # not by the id: a CT and an MRI may share one
        if (job.folder / "case.json").exists()
    ]
    write_json(folder / "cases.json", {"schema_version": CASE_SCHEMA, "cases": rows})
    return rows, failed


def _jobs(
    context: Context, folder: Path, config: AnatomyConfig, cohort: Cohort, role: Role, limit: int
) -> list[_Job]:
    cases = sorted(cohort, key=lambda case: case.id)
    return [
        _Job(case, role, folder / role / case.id, config, context.organs)
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
