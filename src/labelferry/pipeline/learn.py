"""Train one network and let it label the target: what ``teach`` and ``distil`` have in common."""

from __future__ import annotations

from collections.abc import Sequence

from labelferry.pipeline.config import StudentConfig, TeachConfig
from labelferry.pipeline.plausible import judge, write_plausibility
from labelferry.pipeline.prepared import PreparedCase, predict_cases, read_prior
from labelferry.pipeline.stage import Context
from labelferry.segment.engine import Task, train_model
from labelferry.segment.examples import Example


def learn_and_label(
    context: Context,
    name: str,
    config: TeachConfig | StudentConfig,
    examples: Sequence[Example],
    target: Sequence[PreparedCase],
    *,
    what: str,
) -> tuple[dict[str, float | None], dict[str, str]]:
    """Write ``model``, ``labels/<case>.nii.gz`` and ``plausibility.json`` of the stage.

    Returns the median z of each domain, and the cases that failed with the reason.
    """
    task = Task(
        name,
        context.organs,
        config.space,
        context.config.prepare,
        config.network,
        config.normalisation,
        context.config.predict.model_dump(mode="json"),
    )
    model = train_model(
        examples,
        task,
        config.train,
        context.folder,
        seed=context.seed,
        device=context.device,
        progress=context.progress(f"{name} steps"),
    )
    labels = context.folder / "labels"
    failed = predict_cases(context, model, target, labels, what=what)
    judged = judge(target, labels, read_prior(context.of("prepare")), context.organs)
    return write_plausibility(context.folder / "plausibility.json", judged, target), failed
