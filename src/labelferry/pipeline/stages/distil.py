"""distil: train the small network on the selected pseudo-labels and ship it (2.4, Tables 1–2)."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from labelferry.files import read_json, write_json
from labelferry.io.nifti import read_image, read_labels, write_volume
from labelferry.pace import cut_short
from labelferry.pipeline.config import DistilConfig
from labelferry.pipeline.learn import learn_and_label, steps_made
from labelferry.pipeline.plausible import tell
from labelferry.pipeline.prepared import PreparedCase, prepared_cases
from labelferry.pipeline.preparing import prepare_cases
from labelferry.pipeline.spacing import (
    Choice,
    Setting,
    Spacing,
    choose_spacing,
    mean_lost,
    round_trip,
)
from labelferry.pipeline.stage import Context, Stage, Summary
from labelferry.pipeline.students import source_examples, target_examples
from labelferry.segment.engine import CHANNELS
from labelferry.volume import Grid, resample_labels

_CASES_LOOKED_AT = 12
"""So many pseudo-labels, spread over the cohort, tell what a spacing loses."""


@dataclass(frozen=True)
class _Lesson:
    """What the student learns from."""

    context: Context
    """The stage's, with the student's own voxels and patch in its configuration."""
    prepared: Path | None
    """The folder of its cases; None: those of the stage ``prepare``."""
    target: tuple[PreparedCase, ...]
    labels: Path
    """Pseudo-labels on the grids of ``target``."""


def run(context: Context) -> Summary:
    """Train the student on what ``refine`` selected; label the target with it for the report."""
    target = prepared_cases(context.of("prepare"), "target")
    believed = _believed(context)
    lesson = _Lesson(context, None, target, context.of("refine") / "labels")
    told, facts = _settle(context, target, believed)
    spacing = told.spacing or context.config.prepare.spacing
    prepare = context.config.prepare.model_copy(update={"spacing": spacing})
    own = context.config.model_copy(update={"prepare": prepare, "distil": told})
    lesson = replace(lesson, context=replace(context, config=own))
    refused: dict[str, str] = {}
    if spacing != context.config.prepare.spacing:
        lesson, refused = _on_own_voxels(lesson, believed)
    config = own.distil
    mri = target_examples(lesson.target, lesson.labels, believed, config.space)
    examples = [*mri, *source_examples(lesson.context, config, len(mri), lesson.prepared)]
    medians, failed = learn_and_label(
        lesson.context,
        "student",
        config,
        examples,
        lesson.target,
        what="MRI labelled by the student",
        warm_start=context.of("refine") / "model" if config.inherit else None,
    )
    shutil.rmtree(_own(context), ignore_errors=True)
    return Summary(
        f"small network from {len(mri)} MRI{facts.pop('text', '')}; implausibility "
        f"{tell(medians)}{cut_short(context.folder)}",
        {
            "plausibility": medians,
            "selected": len(mri),
            "steps": steps_made(context.folder, config.train),
            **facts,
        },
        refused | failed,
    )


def _settle(
    context: Context, target: Sequence[PreparedCase], believed: Mapping[str, frozenset[int]]
) -> tuple[DistilConfig, dict[str, Any]]:
    """The configuration with ``auto`` replaced by what the search finds, and what it tells."""
    config = context.config.distil
    if config.spacing != "auto":
        return config, {}
    choice = _search(context, target, believed)
    names = {organ.id: organ.name for organ in context.organs}
    write_json(context.folder / "spacing.json", choice.to_json(names))
    one = choice.chosen
    network = config.network.model_copy(update={"patch": one.patch})
    text = f" with voxels of {'×'.join(f'{mm:g}' for mm in one.spacing)} mm"
    text += (
        f", {choice.gain:.1f} times less work" if choice.gain > 1 else ", no larger ones will do"
    )
    facts: dict[str, Any] = {
        "text": text,
        "spacing": one.spacing,
        "patch": one.patch,
        "gain": choice.gain,
    }
    return config.model_copy(update={"spacing": one.spacing, "network": network}), facts


def _search(
    context: Context, target: Sequence[PreparedCase], believed: Mapping[str, frozenset[int]]
) -> Choice:
    config, labels = context.config.distil, context.of("refine") / "labels"
    grids = [read_image(case.file("image")).volume.grid for case in target]
    named = [case.id for case in target if believed.get(case.id)]
    named = [case for case in named if (labels / f"{case}.nii.gz").exists()]
    shown = named[:: -(-len(named) // _CASES_LOOKED_AT) or 1]

    def lost(spacing: Spacing) -> dict[int, float]:
        maps = ((case, read_labels(labels / f"{case}.nii.gz", context.organs)) for case in shown)
        return mean_lost(round_trip(found, spacing, believed[case]) for case, found in maps)

    setting = Setting(
        config.network,
        context.config.prepare.spacing,
        [_extent(grid) for grid in grids],
        images=len(CHANNELS[config.space]),
        classes=len(context.organs) + 1,
        step=context.config.predict.step,
    )
    return choose_spacing(setting, lost, allowed=config.auto_loss)


def _extent(grid: Grid) -> Spacing:
    x, y, z = (float(n * mm) for n, mm in zip(grid.shape, grid.spacing, strict=True))
    return x, y, z


def _on_own_voxels(
    lesson: _Lesson, believed: Mapping[str, frozenset[int]]
) -> tuple[_Lesson, dict[str, str]]:
    """The cases prepared again with the student's voxels, and their labels resampled to them.

    Returns the refused cases beside it. The student's labels are written on the run's voxels.
    """
    context, folder = lesson.context, _own(lesson.context)
    config = context.config
    _, failed = prepare_cases(
        context,
        folder,
        config.prepare,
        ("source", "target") if config.distil.source_share else ("target",),
    )
    known = {case.id: case for case in lesson.target}
    target = tuple(
        replace(case, like=known[case.id].file("image"))
        for case in prepared_cases(folder, "target")
        if case.id in known
    )
    for case in target:
        path, made = lesson.labels / f"{case.id}.nii.gz", folder / "labels" / f"{case.id}.nii.gz"
        if believed.get(case.id) and path.exists() and not made.exists():
            found = read_labels(path, context.organs)
            write_volume(made, resample_labels(found, read_image(case.file("image")).volume.grid))
    return _Lesson(context, folder, target, folder / "labels"), failed


def _own(context: Context) -> Path:
    """The cases on the student's own voxels, as long as it learns from them."""
    return context.folder / "own"


def _believed(context: Context) -> dict[str, frozenset[int]]:
    """The organs of each case that ``refine`` kept."""
    rows = read_json(context.of("refine") / "selection.json", schema=1)["cases"]
    return {row["case"]: frozenset(row["organs"]) for row in rows}


STAGE = Stage(
    "distil",
    lambda config: {
        "distil": config.distil,
        "prepare": config.prepare,
        "predict": config.predict,
    },
    ("prepare", "teach", "refine"),
    run,
    revision=3,
    trains=True,
)
