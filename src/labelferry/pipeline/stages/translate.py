"""translate: learn CT → MRI in anatomy space or without, and make the fake MRI (2.1)."""

from __future__ import annotations

import numpy as np

from labelferry.io.nifti import read_image, write_volume
from labelferry.pipeline.prepared import PreparedCase, prepared_cases
from labelferry.pipeline.stage import Context, Stage, Summary


def run(context: Context) -> Summary:
    """Train the translators, then translate every source case."""
    from labelferry.translate.apply import Translator, load_translator
    from labelferry.translate.training import train

    config = context.config.translate
    if not config.enabled:
        return Summary("off: this method makes no fake MRI")
    source = prepared_cases(context.of("prepare"), "source")
    target = prepared_cases(context.of("prepare"), "target")
    stem = "anatomy" if config.space == "anatomy" else "image"
    model = context.folder / "model"
    train(
        [case.file(stem) for case in source],
        [case.file(stem) for case in target],
        config,
        model,
        seed=context.seed,
        device=context.device,
        progress=context.progress("translator steps"),
    )
    loaded: list[Translator] = []

    def work(case: PreparedCase) -> None:
        if not loaded:
            loaded.append(load_translator(model, context.device))
        volume = read_image(case.file(stem)).volume
        fake = loaded[0].to_target(np.asarray(volume.array, np.float32))
        write_volume(context.folder / "fake" / f"{case.id}.nii.gz", volume.with_array(fake))

    failed = context.each(
        "fake MRI",
        work,
        source,
        name=lambda case: case.id,
        made=lambda case: context.folder / "fake" / f"{case.id}.nii.gz",
    )
    return Summary(
        f"{len(source) - len(failed)} fake MRI, {config.iterations} steps, {config.space} space",
        {"iterations": config.iterations, "space": config.space},
        failed,
    )


STAGE = Stage("translate", lambda config: {"translate": config.translate}, ("prepare",), run)
