"""How good a teacher's pseudo-labels really are: the truth beside every choice without truth."""

from __future__ import annotations

from pathlib import Path

from labelferry.anatomy.prepare import prepare_labels
from labelferry.evaluate.protocol import find_protocol, on_grid_of
from labelferry.evaluate.results import CaseScores, Evaluation
from labelferry.evaluate.truth import Truth, find_truth, hash_truth
from labelferry.files import hash_value, read_json, write_json
from labelferry.io.nifti import read_labels
from labelferry.organs import OrganSet
from labelferry.pipeline.manifest import Manifest
from labelferry.pipeline.prepared import PreparedCase, prepared_cases
from labelferry.volume import Segmentation


def validate(path: Path, run: Path, truth: Path, organs: OrganSet) -> None:
    """Score the pseudo-labels of a run's teacher against the target's true labels.

    By the protocol ``strict`` on the working grid, where pseudo-labels lie: the truth is brought
    there as the oracle's is. What is unchanged is not scored again. Cases without truth are left
    out; nothing is written where no case has any.
    """
    manifest = Manifest.read(run / "teach")
    assert manifest is not None, "the teacher is trained before"
    mark_path = path.with_suffix(".mark.json")
    mark = hash_value([manifest.output_hash, hash_truth(truth, organs)])
    if path.exists() and mark_path.exists() and read_json(mark_path, schema=1)["mark"] == mark:
        return
    known = find_truth(truth, organs)
    cases = [case for case in prepared_cases(run / "prepare", "target") if case.id in known]
    if not cases:
        return
    scores = tuple(_score(run, case, known[case.id], organs) for case in cases)
    Evaluation("strict", organs.names, scores).write_json(path)
    write_json(mark_path, {"schema_version": 1, "mark": mark})


def true_labels(
    case: PreparedCase, known: Truth, organs: OrganSet
) -> tuple[Segmentation, frozenset[int]]:
    """The truth of a case on the working grid, and the organs that it annotates."""
    labels = read_labels(known.label, organs)
    return prepare_labels(labels, case.read(), case=case.id), known.annotated_in(labels)


def _score(run: Path, case: PreparedCase, known: Truth, organs: OrganSet) -> CaseScores:
    true, annotated = true_labels(case, known, organs)
    path = run / "teach" / "labels" / f"{case.id}.nii.gz"
    predicted = on_grid_of(read_labels(path, organs), true.grid) if path.exists() else None
    scores = find_protocol("strict")(predicted, true, annotated, organs)
    return CaseScores(case.id, scores, case.sequence, case.domain, case.patient)
