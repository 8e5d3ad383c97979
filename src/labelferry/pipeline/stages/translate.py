"""translate: learn CT → MRI in anatomy space or without, make the fake MRI, and audit it (2.1)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from labelferry.files import read_json, write_json
from labelferry.io.nifti import read_image, read_labels, write_volume
from labelferry.pipeline.prepared import PreparedCase, prepared_cases
from labelferry.pipeline.stage import Context, Stage, Summary, merge_failed
from labelferry.volume import Grid, Volume

_MEASURES_SCHEMA = 1
_Cases = tuple[PreparedCase, ...]


def run(context: Context) -> Summary:
    """Train the translators, translate every source case, and judge what came out."""
    config = context.config.translate
    if not config.enabled:
        return Summary("off: this method makes no fake MRI")
    source = prepared_cases(context.of("prepare"), "source")
    target = prepared_cases(context.of("prepare"), "target")
    notes = _compare_sections(context, source, target)
    for note in notes:
        context.events.note(note, "warning")
    steps = _learn(context, source, target)
    failed = _apply(context, source)
    made = sum(_fake(context, case).exists() for case in source)
    text = f"{made} fake MRI, {steps} steps, {config.space} space"
    facts: dict[str, Any] = {"iterations": steps, "space": config.space, "notes": list(notes)}
    if not config.audit.enabled:
        return Summary(text, facts, failed)
    found, unjudged = _audit(context, source)
    for note in found["notes"]:
        context.events.note(note, "warning")
    facts |= found | {"notes": [*notes, *found["notes"]]}
    if found["left_out"]:
        text += f", {len(found['left_out'])} left out by the audit"
    return Summary(text, facts, merge_failed((failed, unjudged)))


def _learn(context: Context, source: _Cases, target: _Cases) -> int:
    """Train unless it is done; the number of steps."""
    from labelferry.translate.training import train

    config = context.config.translate
    done = context.folder / "trained.json"
    if not done.exists():
        stem = _stem(context)
        steps = train(
            [case.file(stem) for case in source],
            [case.file(stem) for case in target],
            config,
            context.folder / "model",
            seed=context.seed,
            device=context.device,
            names=([case.id for case in source], [case.id for case in target]),
            samples=context.folder / "samples",
            progress=context.progress("translator steps"),
        )
        write_json(done, {"schema_version": 1, "steps": steps})
    return int(read_json(done, schema=1)["steps"])


def _apply(context: Context, source: _Cases) -> dict[str, str]:
    from labelferry.translate.apply import Translator, load_translator

    loaded: list[Translator] = []  # loaded on first need: a finished stage opens no model

    def work(case: PreparedCase) -> None:
        if not loaded:
            loaded.append(load_translator(context.folder / "model", context.device))
        volume = read_image(case.file(_stem(context))).volume
        fake = loaded[0].to_target(np.asarray(volume.array, np.float32))
        write_volume(_fake(context, case), volume.with_array(fake))

    return context.each(
        "fake MRI",
        work,
        source,
        name=lambda case: case.id,
        made=lambda case: _fake(context, case),
    )


def _audit(context: Context, source: _Cases) -> tuple[dict[str, Any], dict[str, str]]:
    """Measure every fake (``audit/<case>.json``, and a map beside it), then judge them together.

    Returns facts for the summary, and the cases that could not be measured.
    """
    from labelferry.translate.audit import Measures
    from labelferry.translate.verdict import AUDIT_FILE, judge, summarise, write_audit

    made = [case for case in source if _fake(context, case).exists()]
    failed = context.each(
        "fake MRI audited",
        lambda case: _measure(context, case),
        made,
        name=lambda case: case.id,
        made=lambda case: context.folder / "audit" / f"{case.id}.json",
    )
    measured = {
        case.id: Measures.from_json(
            read_json(context.folder / "audit" / f"{case.id}.json", schema=_MEASURES_SCHEMA)
        )
        for case in made
        if case.id not in failed
    }
    config = context.config.translate.audit
    verdicts = judge(measured, config, context.organs)
    write_audit(context.folder / AUDIT_FILE, verdicts, measured)
    return summarise(verdicts, measured, config), failed


def _measure(context: Context, case: PreparedCase) -> None:
    from labelferry.translate.audit import audit
    from labelferry.translate.explain import Scene

    ready = case.read()
    fake = read_image(_fake(context, case)).volume
    scene = Scene(
        np.asarray(ready.image.array, np.float32),
        np.asarray(ready.anatomy.array, np.float32),
        np.asarray(fake.array, np.float32),
        ready.body.array,
        read_labels(case.file("label"), context.organs).array,
        fake.grid.spacing,
        context.config.translate.space == "anatomy",
    )
    found = audit(scene)
    grid = _coarser(fake.grid, found.by, found.structure.shape)
    folder = context.folder / "audit"
    write_volume(folder / f"{case.id}.nii.gz", Volume(found.structure, grid))
    row = {"schema_version": _MEASURES_SCHEMA, **found.measures.to_json()}
    write_json(folder / f"{case.id}.json", row)


def _compare_sections(context: Context, source: _Cases, target: _Cases) -> tuple[str, ...]:
    from labelferry.translate.sections import Section, compare_sections, section

    def of(case: PreparedCase) -> Section:
        body = read_image(case.file("body")).volume
        label = case.file("label")
        labels = read_labels(label, context.organs).array if label.exists() else None
        return section(body.array > 0.5, body.grid.spacing, labels)

    domains: dict[str, list[Section]] = {}
    for case in target:
        domains.setdefault(case.domain, []).append(of(case))
    return compare_sections([of(case) for case in source], domains, context.organs)


def _stem(context: Context) -> str:
    return "anatomy" if context.config.translate.space == "anatomy" else "image"


def _fake(context: Context, case: PreparedCase) -> Path:
    return context.folder / "fake" / f"{case.id}.nii.gz"


def _coarser(grid: Grid, by: tuple[int, int, int], shape: tuple[int, ...]) -> Grid:
    """The grid whose voxels are blocks of ``by`` voxels of ``grid``."""
    scale = np.diag([*by, 1.0])
    scale[:3, 3] = [(n - 1) / 2 for n in by]
    x, y, z = shape
    return Grid((x, y, z), grid.affine @ scale)


STAGE = Stage(
    "translate",
    lambda config: {"translate": config.translate},
    ("prepare",),
    run,
    revision=2,
)
