"""What ``labelferry data check --json`` writes about one path."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labelferry.io.check import CheckedCohort, Inspected
    from labelferry.io.notes import Note


def to_json(path: Path, role: str, checked: CheckedCohort) -> dict[str, Any]:
    """Cases, refusals and remarks of one path."""
    # of DICOM, no name of the input is written
    said = (*checked.refused, *checked.notes)
    anonymous = any(note.nameless is not None for note in said)
    return {
        "path": None if anonymous else str(path),
        "role": role,
        "cases": [_case_json(checked.inspected[case.id]) for case in checked.cohort],
        "refused": [_note_json(note) for note in checked.refused],
        "notes": [_note_json(note) for note in checked.notes],
    }


def _case_json(found: Inspected) -> dict[str, Any]:
    case, grid = found.case, found.grid
    assert grid is not None
    return {
        "case": case.id,
        "patient": case.patient,
        "modality": case.modality,
        "sequence": case.sequence,
        "domain": case.domain,
        "image": case.image.name,
        "label": case.label.name if case.label else None,
        "annotated": sorted(case.annotated or ()),
        "shape": grid.shape,
        "spacing_mm": grid.spacing,
        "axes": grid.axes,
        "affine_ras_mm": grid.affine.tolist(),
        "intensities": found.intensities,
        "organs": {
            str(organ): {
                "voxels": facts.voxels,
                "ml": round(facts.ml, 4),
                "centroid_ras_mm": [round(v, 3) for v in facts.centroid],
                "mean_intensity": facts.mean,
            }
            for organ, facts in sorted(found.organs.items())
        },
    }


def _note_json(note: Note) -> dict[str, str | None]:
    named = note.nameless is None
    return {
        "case": note.case,
        "file": note.path.name if named and note.path else None,
        "severity": note.severity,
        "text": note.text if named else note.nameless,
        "fix": note.fix,
    }
