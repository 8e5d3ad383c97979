"""Every row on every seed: adapt, predict the test MRI, score. What is done is not done again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from labelferry.errors import UserError
from labelferry.evaluate import evaluate
from labelferry.evaluate.truth import hash_truth
from labelferry.experiments.criteria import FEWEST, write_criteria
from labelferry.experiments.oracle import train_oracle
from labelferry.experiments.rows import GROUPS, Group, Row
from labelferry.experiments.trial import Trial
from labelferry.experiments.validation import validate
from labelferry.files import hash_file, hash_value, read_json, write_json
from labelferry.organs import FLARE, OrganSet
from labelferry.pipeline.chain import find_input, run_config, set_up_torch
from labelferry.pipeline.config import RunConfig
from labelferry.pipeline.events import Events
from labelferry.pipeline.runner import Input
from labelferry.predict.files import find_images, predict_files
from labelferry.predict.predictor import load_model
from labelferry.workers import spawned_pool

MakeEvents = Callable[[str], AbstractContextManager[Events]]


@dataclass(frozen=True)
class Plan:
    """What every trial does; it is sent to the process of each."""

    rows: tuple[Row, ...]
    size: str
    overrides: tuple[str, ...]
    organs: OrganSet = FLARE
    group: Group = GROUPS["steps"]

    def __post_init__(self) -> None:
        for row in self.rows:
            self.config(row, 0)  # mistakes are told before anything is made

    def config(self, row: Row, seed: int) -> RunConfig:
        """The configuration of a row on a seed."""
        return row.config(self.size, (*self.overrides, f"seed={seed}"))


def run_trials(plan: Plan, trials: Sequence[Trial], jobs: int, events: MakeEvents) -> None:
    """Run every row on every trial; ``scores/<row>.json`` in each trial's folder.

    ``jobs`` trials run side by side, each in a process of its own. Budgets are optimiser steps, so
    that a loaded machine gives the same table. ``events(name)`` opens what a trial tells.
    """
    if min(jobs, len(trials)) <= 1:
        for trial in trials:
            _run_trial(plan, trial, events)
        return
    with spawned_pool(min(jobs, len(trials))) as pool:
        futures = [pool.submit(_run_trial, plan, trial, events) for trial in trials]
        try:
            for future in futures:
                future.result()
        except BrokenProcessPool as error:
            raise UserError(
                "the process of a trial died (out of memory?)",
                fix="the same command goes on; add --jobs 1 to run one trial at a time",
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _run_trial(plan: Plan, trial: Trial, make_events: MakeEvents) -> None:
    with make_events(f"seed {trial.seed}") as events:
        data, refused = find_input(trial.source, trial.target, plan.organs, events)
        images = {image: hash_file(image) for image in find_images(trial.test)}
        _check_apart(data, images)
        test = hash_value(
            [
                sorted((image.name, mark) for image, mark in images.items()),
                hash_truth(trial.truth, plan.organs),
            ]
        )
        for row in plan.rows:
            model = _run_row(plan, trial, row, data, refused, events)
            if model is not None:
                _score(plan, trial, row, model, test, events)
        _judge_teachers(plan, trial, events)


def _check_apart(data: Input, images: Mapping[Path, str]) -> None:
    """No MRI may be scored that a row could learn from; ``images`` come with their hashes."""
    learned = {hash_file(path) for case in data.target for path in case.files}
    for image, mark in images.items():
        if mark in learned:
            raise UserError(
                "this test image is in the target cohort too",
                path=image,
                fix="score MRI of patients that are not in the target cohort",
            )


def _run_row(
    plan: Plan, trial: Trial, row: Row, data: Input, refused: dict[str, str], events: Events
) -> Path | None:
    """Train what the row asks for; returns the model to be scored, None where there is none."""
    config = plan.config(row, trial.seed)
    run = run_path(trial, row)
    events.note(f"row {row.name}", "info")
    run_config(
        run,
        config,
        data,
        refused,
        until="prepare" if row.stage == "oracle" else row.stage,
        reuse=[run_path(trial, other) for other in plan.rows if other.key != row.key],
        events=events,
    )
    if row.stage != "oracle":
        return run / row.stage / "model"
    if trial.target_truth is None:
        events.note("no true labels of the target cohort: no oracle", "warning")
        return None
    device = set_up_torch(config)
    return train_oracle(run, config, plan.organs, trial.target_truth, device=device, events=events)


def _score(plan: Plan, trial: Trial, row: Row, model: Path, test: str, events: Events) -> None:
    """Predict and score, unless the model and ``test`` (hash of images and truth) are as before."""
    config = plan.config(row, trial.seed)
    path = scores_path(trial, row)
    mark_path = path.with_suffix(".mark.json")
    weights = [hash_file(file) for file in sorted(model.iterdir()) if file.is_file()]
    mark = hash_value([weights, config.predict.model_dump(mode="json"), test])
    if path.exists() and mark_path.exists() and read_json(mark_path, schema=1)["mark"] == mark:
        return
    predictions = trial.folder / "predictions" / row.key
    loaded = load_model(model, device=set_up_torch(config), config=config.predict)
    for failure in predict_files(loaded, find_images(trial.test), predictions):
        events.note(f"{failure.case}: {failure.reason}", "warning")
    evaluation = evaluate(predictions, trial.truth, organs=plan.organs)
    evaluation.write_json(path)
    write_json(mark_path, {"schema_version": 1, "mark": mark})


def _judge_teachers(plan: Plan, trial: Trial, events: Events) -> None:
    """Judge the teachers that are scored: first all of them without truth, then each with it."""
    teachers = [row for row in plan.rows if row.stage == "teach"]
    runs = {row.key: run_path(trial, row) for row in teachers}
    write_criteria(criteria_path(trial), runs, plan.organs)
    if len(teachers) < FEWEST or trial.target_truth is None:
        return
    events.note("true labels of the target cohort beside the choice without labels", "info")
    for row in teachers:
        validate(validation_path(trial, row), runs[row.key], trial.target_truth, plan.organs)


def run_path(trial: Trial, row: Row) -> Path:
    """The run folder of a row on a trial."""
    return trial.folder / "runs" / row.key


def criteria_path(trial: Trial) -> Path:
    """What was seen of a trial's teachers without truth."""
    return trial.folder / "criteria.json"


def validation_path(trial: Trial, row: Row) -> Path:
    """The evaluation of a teacher's pseudo-labels on the target cohort."""
    return trial.folder / "validation" / f"{row.key}.json"


def scores_path(trial: Trial, row: Row) -> Path:
    """The evaluation of a row on a trial."""
    return trial.folder / "scores" / f"{row.key}.json"
