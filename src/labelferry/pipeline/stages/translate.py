"""translate: learn CT → MRI in anatomy space or without, and make the fake MRI (2.1)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from labelferry.files import read_json, write_json
from labelferry.io.nifti import read_image, write_volume
from labelferry.pipeline.prepared import PreparedCase, prepared_cases
from labelferry.pipeline.stage import Context, Stage, Summary

_Cases = tuple[PreparedCase, ...]


def run(context: Context) -> Summary:
    """Train the translators, then translate every source case."""
    config = context.config.translate
    if not config.enabled:
        return Summary("off: this method makes no fake MRI")
    source = prepared_cases(context.of("prepare"), "source")
    target = prepared_cases(context.of("prepare"), "target")
    steps = _learn(context, source, target)
    failed = _apply(context, source)
    made = sum(_fake(context, case).exists() for case in source)
    text = f"{made} fake MRI, {steps} steps, {config.space} space"
    return Summary(text, {"iterations": steps, "space": config.space}, failed)


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


def _stem(context: Context) -> str:
    return "anatomy" if context.config.translate.space == "anatomy" else "image"


def _fake(context: Context, case: PreparedCase) -> Path:
    return context.folder / "fake" / f"{case.id}.nii.gz"


STAGE = Stage(
    "translate",
    lambda config: {"translate": config.translate},
    ("prepare",),
    run,
    revision=2,
)
