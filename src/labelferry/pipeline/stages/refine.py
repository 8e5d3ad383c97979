"""refine: K rounds of self-training on real MRI, instability, filter and fusion (2.3, eq. 7)."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from labelferry.files import atomic_folder, write_json
from labelferry.io.nifti import read_image, read_labels, write_volume
from labelferry.pace import cut_short
from labelferry.pipeline.learn import task_of
from labelferry.pipeline.plausible import (
    judge,
    median_z,
    read_plausibility,
    tell,
    write_plausibility,
)
from labelferry.pipeline.prepared import PreparedCase, predict_cases, prepared_cases, read_prior
from labelferry.pipeline.stage import Context, Stage, Summary, merge_failed
from labelferry.pipeline.students import known_organs, source_examples, target_examples
from labelferry.predict.tidy import tidy
from labelferry.prior.plausibility import CasePlausibility
from labelferry.refine.fusion import fuse
from labelferry.refine.instability import Instability, instability
from labelferry.refine.rounds import Round, plan_rounds
from labelferry.refine.selection import Selection, select
from labelferry.refine.stopping import choose_round, helps_no_more
from labelferry.segment.engine import train_model
from labelferry.volume import Segmentation

if TYPE_CHECKING:
    from labelferry.predict.predictor import Model


def run(context: Context) -> Summary:
    """Train the rounds; write fused ``labels``, ``selection.json`` and the ``model`` kept."""
    config = context.config.refine.select
    target = [
        case
        for case in prepared_cases(context.of("prepare"), "target")
        if (context.of("match") / "labels" / f"{case.id}.nii.gz").exists()
    ]
    teacher = context.of("teach") / "model" if context.config.from_teacher else None
    rounds = plan_rounds(context.folder, context.of("match") / "labels", config.rounds, teacher)
    rounds, failed, told = _train_rounds(context, rounds, target)
    target = [case for case in target if case.id not in failed]
    organs = known_organs(context)
    unstable = _instabilities(context, rounds, target, organs) if len(rounds) > 1 else None
    labels = context.folder / "labels"
    failed |= _fuse(context, rounds, target)
    target = [case for case in target if case.id not in failed]
    prior, workers = read_prior(context.of("prepare")), context.config.workers
    judged = judge(target, labels, prior, context.organs, workers=workers)
    medians = write_plausibility(context.folder / "plausibility.json", judged, target)
    selection = select([c.id for c in target], unstable, judged, organs, config)
    write_json(
        context.folder / "selection.json",
        {
            "schema_version": 1,
            "cases": selection.to_json(),
            "instability": {k: v.to_json() for k, v in (unstable or {}).items()},
        },
    )
    if not (context.folder / "model").exists():
        with atomic_folder(context.folder / "model") as part:
            model = rounds[-1].model if rounds else context.of("teach") / "model"
            shutil.copytree(model, part, dirs_exist_ok=True)
    told += cut_short(*(this.folder for this in rounds))
    return _summary(selection, len(target), len(organs), medians, told, failed)


def _train_rounds(
    context: Context, planned: Sequence[Round], target: Sequence[PreparedCase]
) -> tuple[tuple[Round, ...], dict[str, str], str]:
    """The rounds that are handed on (none: the teacher is), the failed cases, and the rounds in
    words."""
    config = context.config.refine.select
    if not config.stop and config.keep == "last":
        failed = merge_failed(_train_round(context, this, target) for this in planned)
        return tuple(planned), failed, f"{len(planned)} rounds"
    teach = context.of("teach")
    # a teacher that came from elsewhere is no model of this run: it cannot be handed on
    own = (teach / "model").exists()
    failed, z = {}, [median_z(read_plausibility(teach / "plausibility.json")) if own else math.inf]
    for this in planned:
        failed |= _train_round(context, this, target)
        z.append(median_z(_judge_round(context, this, target)))
        if config.stop and helps_no_more(z[1:], config.stop_gain):
            break
    choice = choose_round(z, config)
    write_json(context.folder / "rounds.json", {"schema_version": 1, **choice.to_json()})
    return tuple(planned[: choice.kept]), failed, choice.why


def _judge_round(
    context: Context, this: Round, target: Sequence[PreparedCase]
) -> dict[str, CasePlausibility]:
    path = this.folder / "plausibility.json"
    if not path.exists():
        prior = read_prior(context.of("prepare"))
        workers = context.config.workers
        judged = judge(target, this.labels, prior, context.organs, workers=workers)
        write_plausibility(path, judged, target)
    return read_plausibility(path)


def _train_round(context: Context, this: Round, target: Sequence[PreparedCase]) -> dict[str, str]:
    config = context.config.refine
    organs = known_organs(context)
    mri = target_examples(target, this.labels_in, {c.id: organs for c in target}, config.space)
    prior = read_prior(context.of("prepare"))
    task = task_of(f"round {this.number}", context.organs, context.config, config, prior)
    model = train_model(
        [*mri, *source_examples(context, config, len(mri))],
        task,
        config.train if this.warm_start is None else config.later,
        this.folder,
        seed=context.seed + this.number,
        device=context.device,
        warm_start=this.warm_start,
        devices=context.config.devices,
        limit=context.limit(f"round {this.number}"),
        progress=context.progress(f"round {this.number} steps"),
    )
    return predict_cases(
        context, model, target, this.labels, what=f"round {this.number} MRI labelled"
    )


def _instabilities(
    context: Context,
    rounds: Sequence[Round],
    target: Sequence[PreparedCase],
    organs: frozenset[int],
) -> dict[str, Instability]:
    out = {}
    for case in target:
        name = f"{case.id}.nii.gz"
        maps = (read_labels(r.labels / name, context.organs).array.astype(np.uint8) for r in rounds)
        out[case.id] = instability(maps, organs)
    return out


def _fuse(
    context: Context, rounds: Sequence[Round], target: Sequence[PreparedCase]
) -> dict[str, str]:
    """Write the fused labels; for mean probability every round's model looks once more.

    Without a round, the labels that matching made stay.
    """
    how = context.config.refine.select.fusion
    folder = context.folder / "labels"
    models: list[Model] = []

    def work(case: PreparedCase) -> None:
        name = f"{case.id}.nii.gz"
        image = read_image(case.file("image")).volume
        made = [r.labels for r in rounds] or [context.of("match") / "labels"]
        maps = [read_labels(part / name, context.organs).array for part in made]
        if how == "mean_probability" and len(rounds) > 1:
            models.extend(_load_models(context, rounds) if not models else [])
            prepared = case.read()
            fused = fuse(how, [], (m.working_probabilities(prepared) for m in models))
        else:
            fused = fuse("last" if how == "mean_probability" else how, maps)
        tidied = tidy(fused, image, context.organs, context.config.predict)
        write_volume(folder / name, Segmentation(tidied, image.grid))

    return context.each(
        "labels fused",
        work,
        target,
        name=lambda case: case.id,
        made=lambda case: folder / f"{case.id}.nii.gz",
    )


def _load_models(context: Context, rounds: Sequence[Round]) -> list[Model]:
    from labelferry.predict.predictor import load_model

    return [
        load_model(r.model, device=context.device, config=context.config.predict) for r in rounds
    ]


def _summary(
    selection: Selection,
    cases: int,
    organs: int,
    medians: dict[str, float | None],
    rounds: str,
    failed: dict[str, str],
) -> Summary:
    kept = sum(len(d.organs) for d in selection.decisions)
    share = kept / max(1, cases * organs)
    return Summary(
        f"{rounds}; {len(selection.kept)} of {cases} MRI and {share:.0%} of their organ "
        f"labels kept; implausibility {tell(medians)}",
        {"plausibility": medians, "kept": len(selection.kept), "kept_share": round(share, 4)},
        failed,
    )


STAGE = Stage(
    "refine",
    lambda config: {
        "refine": config.refine,
        "prepare": config.prepare,
        "predict": config.predict,
    },
    ("prepare", "teach", "match"),
    run,
    revision=3,
    trains=True,
)
