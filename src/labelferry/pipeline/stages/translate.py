"""translate: learn CT → MRI in anatomy space or without, make the fake MRI, and audit it (2.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labelferry.files import read_json, write_json
from labelferry.io.nifti import read_image, read_labels, write_volume
from labelferry.pace import cut_short
from labelferry.pipeline.config import RunConfig
from labelferry.pipeline.prepared import PreparedCase, prepared_cases
from labelferry.pipeline.stage import Context, Stage, Summary, merge_failed, stage_seed
from labelferry.pipeline.translations import Translation, plan_translations
from labelferry.volume import Grid, Volume

_MEASURES_SCHEMA = 1
_Cases = tuple[PreparedCase, ...]


@dataclass(frozen=True)
class _Outcome:
    """What came of one translation."""

    steps: int
    fakes: int
    audit: Mapping[str, Any]
    """Facts of the audit; nothing where it is off."""
    failed: Mapping[str, str]


def run(context: Context) -> Summary:
    """Train the translators, translate every source case, and judge what came out."""
    config = context.config.translate
    if not config.enabled:
        return Summary("off: this method makes no fake MRI")
    source = prepared_cases(context.of("prepare"), "source")
    target = prepared_cases(context.of("prepare"), "target")
    notes = list(_compare_sections(context, source, target))
    for note in notes:
        context.events.note(note, "warning")
    made: dict[Translation, _Outcome] = {}
    plan = _plan(context, target)
    for translation, images in plan.items():
        alike = len(plan) - len(made)
        made[translation] = found = _translate(context, translation, source, images, alike)
        told = [f"{translation.of_domain}{note}" for note in found.audit.get("notes", ())]
        for note in told:
            context.events.note(note, "warning")
        notes += told
    return _summary(context, made, notes)


def _plan(context: Context, target: _Cases) -> dict[Translation, _Cases]:
    """The translations to be made, and what each learns from; an image too poor is refused now."""
    from labelferry.translate.slices import usable_slices

    if not context.config.translate.per_domain:
        return {Translation(context.folder): target}
    for case in target:  # not after hours of training for the domains before it
        usable_slices(case.file(_stem(context)), "target", case.id)
    return {
        translation: tuple(case for case in target if case.domain == translation.domain)
        for translation in plan_translations(context.folder, (case.domain for case in target))
    }


def _translate(
    context: Context, translation: Translation, source: _Cases, target: _Cases, alike: int
) -> _Outcome:
    """One translation whole; ``alike``: how many are still to come, this one among them."""
    steps = _learn(context, translation, source, target, alike)
    failed = _apply(context, translation, source)
    made = sum(translation.fake(case.id).exists() for case in source)
    found: dict[str, Any] = {}
    if context.config.translate.audit.enabled:
        found, unjudged = _audit(context, translation, source)
        failed = merge_failed((failed, unjudged))
    return _Outcome(steps, made, found, failed)


def _summary(
    context: Context, made: Mapping[Translation, _Outcome], notes: Sequence[str]
) -> Summary:
    space = context.config.translate.space
    fakes, steps = (sum(getattr(one, of) for one in made.values()) for of in ("fakes", "steps"))
    text = f"{fakes} fake MRI, {steps} steps, {space} space"
    facts: dict[str, Any] = {"iterations": steps, "space": space, "notes": list(notes)}
    if context.config.translate.per_domain:
        text = f"{fakes} fake MRI of {len(made)} domains, {steps} steps, {space} space"
        facts["domains"] = {
            str(translation.domain): {
                "iterations": one.steps,
                **{key: value for key, value in one.audit.items() if key != "notes"},
            }
            for translation, one in made.items()
        }
        if context.config.translate.audit.enabled:
            facts["left_out"] = sorted(c for one in made.values() for c in one.audit["left_out"])
    else:
        (only,) = made.values()
        facts |= {**only.audit, "notes": list(notes)}
    text += cut_short(*(translation.folder / "model" for translation in made))
    if facts.get("left_out"):
        text += f", {len(facts['left_out'])} left out by the audit"
    failed = merge_failed(
        {case: f"{translation.of_domain}{reason}" for case, reason in one.failed.items()}
        for translation, one in made.items()
    )
    return Summary(text, facts, failed)


def _learn(
    context: Context, translation: Translation, source: _Cases, target: _Cases, alike: int
) -> int:
    """Train unless it is done; the number of steps."""
    from labelferry.translate.training import train

    done = translation.folder / "trained.json"
    if not done.exists():
        stem, domain = _stem(context), translation.domain
        steps = train(
            [case.file(stem) for case in source],
            [case.file(stem) for case in target],
            context.config.translate,
            translation.folder / "model",
            # a domain's translators are the same whatever other domains there are
            seed=context.seed if domain is None else stage_seed(context.seed, domain),
            device=context.device,
            devices=_devices(context.config),
            names=([case.id for case in source], [case.id for case in target]),
            samples=translation.folder / "samples",
            limit=context.limit("translator", of=translation.of_domain, alike=alike),
            progress=context.progress(f"{translation.of_domain}translator steps"),
        )
        write_json(done, {"schema_version": 1, "steps": steps})
    return int(read_json(done, schema=1)["steps"])


def _apply(context: Context, translation: Translation, source: _Cases) -> dict[str, str]:
    from labelferry.translate.apply import Translator, load_translator

    loaded: list[Translator] = []  # loaded on first need: a finished stage opens no model

    def work(case: PreparedCase) -> None:
        if not loaded:
            loaded.append(load_translator(translation.folder / "model", context.device))
        volume = read_image(case.file(_stem(context))).volume
        fake = loaded[0].to_target(np.asarray(volume.array, np.float32))
        write_volume(translation.fake(case.id), volume.with_array(fake))

    return context.each(
        f"{translation.of_domain}fake MRI",
        work,
        source,
        name=lambda case: case.id,
        made=lambda case: translation.fake(case.id),
    )


def _audit(
    context: Context, translation: Translation, source: _Cases
) -> tuple[dict[str, Any], dict[str, str]]:
    """Measure every fake (``audit/<case>.json``, and a map beside it), then judge them together.

    Returns facts for the summary, and the cases that could not be measured.
    """
    from labelferry.translate.audit import Measures
    from labelferry.translate.verdict import AUDIT_FILE, judge, summarise, write_audit

    folder = translation.folder / "audit"
    made = [case for case in source if translation.fake(case.id).exists()]
    failed = context.each(
        f"{translation.of_domain}fake MRI audited",
        lambda case: _measure(context, case, translation.fake(case.id), folder),
        made,
        name=lambda case: case.id,
        made=lambda case: folder / f"{case.id}.json",
    )
    measured = {
        case.id: Measures.from_json(read_json(folder / f"{case.id}.json", schema=_MEASURES_SCHEMA))
        for case in made
        if case.id not in failed
    }
    config = context.config.translate.audit
    verdicts = judge(measured, config, context.organs)
    write_audit(translation.folder / AUDIT_FILE, verdicts, measured)
    return summarise(verdicts, measured, config), failed


def _measure(context: Context, case: PreparedCase, made: Path, folder: Path) -> None:
    from labelferry.translate.audit import audit
    from labelferry.translate.explain import Scene

    ready = case.read()
    fake = read_image(made).volume
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


def _devices(config: RunConfig) -> int:
    """The most of the devices among which a batch can be divided: CycleGAN's own is of one."""
    return max(n for n in range(1, config.devices + 1) if config.translate.batch % n == 0)


def _stem(context: Context) -> str:
    return "anatomy" if context.config.translate.space == "anatomy" else "image"


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
    trains=True,
)
