"""Labels that complete each other: what one CT annotates teaches what another is silent on (ours).

Sets of labels are made for one organ or another. Before the teacher, a network learns on the CT as
they are what each of them annotates; it then labels what each is silent on. CT to CT is an easy
way, and the prior refuses what it finds implausible. The teacher and its students learn from both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from labelferry.files import read_json, write_json
from labelferry.io.nifti import read_labels
from labelferry.pipeline.learn import task_of
from labelferry.pipeline.plausible import judge
from labelferry.pipeline.prepared import PreparedCase, predict_cases, prepared_cases, read_prior
from labelferry.pipeline.stage import Context
from labelferry.prior.plausibility import CasePlausibility
from labelferry.segment.engine import train_model
from labelferry.volume import Segmentation

_SCHEMA = 1


def source_cases(context: Context) -> tuple[PreparedCase, ...]:
    """The labelled cases, with what :func:`complete_source` added where it did."""
    cases = prepared_cases(context.of("prepare"), "source")
    folder = _folder(context)
    if not (folder / "cases.json").exists():
        return cases
    added = read_json(folder / "cases.json", schema=_SCHEMA)["added"]
    return tuple(
        replace(
            case,
            annotated=case.annotated | frozenset(added[case.id]),
            label=folder / "labels" / f"{case.id}.nii.gz",
        )
        if case.id in added
        else case
        for case in cases
    )


def complete_source(context: Context) -> str:
    """Write ``complete/labels/<case>.nii.gz`` and ``complete/cases.json`` of the stage ``teach``.

    Returns what was added, in words (empty: nothing). A case that fails keeps its own labels.
    """
    config = context.config.teach
    cases, folder = prepared_cases(context.of("prepare"), "source"), _folder(context)
    wanted = _teachable(cases, config.complete_least)
    todo = [case for case in cases if wanted - case.annotated]
    lacking = sum(len(wanted - case.annotated) for case in todo)
    if not config.complete or not todo or lacking < config.complete_from * len(cases) * len(wanted):
        return ""
    prior = read_prior(context.of("prepare"))
    window = context.config.prepare.ct_window
    model = train_model(
        [case.example(config.space, window) for case in cases],
        task_of("completion", context.organs, context.config, config, prior),
        config.train,
        folder,
        seed=context.seed,
        device=context.device,
        devices=context.config.devices,
        limit=context.limit("teacher", of="completion before the ", alike=2),
        progress=context.progress("completion steps"),
    )

    def complete(case: PreparedCase, found: Segmentation) -> Segmentation:
        own = read_labels(case.file("label"), context.organs).array
        new = np.isin(found.array, sorted(wanted - case.annotated)) & (own == 0)
        return found.with_array(np.where(new, found.array, own).astype(np.uint8))

    labels = folder / "labels"
    predict_cases(context, model, todo, labels, what="CT labels completed", change=complete)
    judged = judge(todo, labels, prior, context.organs, workers=context.config.workers)
    added = {
        case.id: _accepted(judged[case.id], wanted - case.annotated, config.complete_limit)
        for case in todo
        if case.id in judged
    }
    write_json(folder / "cases.json", {"schema_version": _SCHEMA, "added": added})
    organs = sum(len(row) for row in added.values())
    return f"{organs} of {lacking} organs added to the labels of {len(todo)} CT; "


def _teachable(cases: Sequence[PreparedCase], least: int) -> frozenset[int]:
    """Organs that at least so many cases annotate."""
    times = Counter(organ for case in cases for organ in case.annotated)
    return frozenset(organ for organ, n in times.items() if n >= least)


def _accepted(judged: CasePlausibility, organs: frozenset[int], limit: float) -> list[int]:
    rows = {organ: judged.organs.get(organ) for organ in sorted(organs)}
    return [
        organ
        for organ, row in rows.items()
        if row is not None and row.present and row.z <= limit and not row.wrong_side
    ]


def _folder(context: Context) -> Path:
    return context.of("teach") / "complete"
