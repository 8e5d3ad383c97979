"""Train one network and let it label the target: what ``teach`` and ``distil`` have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from labelferry.organs import OrganSet
from labelferry.pace import read_decision
from labelferry.pipeline.config import RunConfig, StudentConfig, TeachConfig
from labelferry.pipeline.plausible import judge, write_plausibility
from labelferry.pipeline.prepared import PreparedCase, predict_cases, read_prior
from labelferry.pipeline.stage import Context
from labelferry.prior.model import Prior
from labelferry.segment.config import TrainConfig
from labelferry.segment.engine import Task, train_model
from labelferry.segment.examples import Example


def task_of(
    name: str,
    organs: OrganSet,
    run: RunConfig,
    config: TeachConfig | StudentConfig,
    prior: Prior,
) -> Task:
    """What a network of a run is to learn, from the section that speaks of it."""
    return Task(
        name,
        organs,
        config.space,
        run.prepare,
        config.network,
        config.normalisation,
        run.predict.model_dump(mode="json"),
        prior,
    )


def steps_made(folder: Path, config: TrainConfig) -> int:
    """Optimiser steps of the finished training in ``folder``: fewer where its time was limited."""
    decided = read_decision(folder)
    return config.iterations if decided is None else decided.steps


def learn_and_label(
    context: Context,
    name: str,
    config: TeachConfig | StudentConfig,
    examples: Sequence[Example],
    target: Sequence[PreparedCase],
    *,
    what: str,
    warm_start: Path | None = None,
) -> tuple[dict[str, float | None], dict[str, str]]:
    """Write ``model``, ``labels/<case>.nii.gz`` and ``plausibility.json`` of the stage.

    Returns the median z of each domain, and the cases that failed with the reason.
    """
    model = train_model(
        examples,
        task_of(name, context.organs, context.config, config, read_prior(context.of("prepare"))),
        config.train,
        context.folder,
        seed=context.seed,
        device=context.device,
        devices=context.config.devices,
        warm_start=warm_start,
        limit=context.limit(name),
        progress=context.progress(f"{name} steps"),
    )
    failed = predict_cases(context, model, target, context.folder / "labels", what=what)
    return judge_labels(context, target), failed


def judge_labels(context: Context, target: Sequence[PreparedCase]) -> dict[str, float | None]:
    """Write ``plausibility.json`` of the stage's ``labels``; the median z of each domain."""
    judged = judge(
        target,
        context.folder / "labels",
        read_prior(context.of("prepare")),
        context.organs,
        told=lambda text: context.events.note(
            f"{text}. Look at the image and its orientation", "warning"
        ),
        workers=context.config.workers,
    )
    return write_plausibility(context.folder / "plausibility.json", judged, target)
