"""The main job on the digital phantom, scored on patients outside the target cohort."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from labelferry.errors import EXIT_PARTIAL, UserError
from labelferry.evaluate.folder import evaluate
from labelferry.evaluate.results import Evaluation
from labelferry.phantom.cohort import write_cohort
from labelferry.pipeline.chain import adapt
from labelferry.pipeline.config import load_config
from labelferry.pipeline.events import Events
from labelferry.pipeline.reporting import Scored, report_run
from labelferry.predict.files import predict_files
from labelferry.predict.predictor import load_model


@dataclass(frozen=True)
class DemoResult:
    """What the demo leaves behind."""

    report: Path
    evaluation: Evaluation
    exit_code: int


def run_demo(
    folder: Path,
    *,
    preset: str = "default",
    size: str = "demo",
    seed: int = 0,
    ct: int = 14,
    mri: int = 16,
    test: int = 5,
    events: Events,
) -> DemoResult:
    """Make a cohort in ``folder/cohort``, adapt, predict the test patients, score, report."""
    config = load_config(preset, size)  # a wrong name is told before anything is made
    cohort, run = folder / "cohort", folder / "run"
    events.note("making the digital phantom", "info")
    write_cohort(cohort, ct=ct, mri=mri, test=test, seed=seed, workers=2)
    adapted = adapt(
        run,
        cohort / "source",
        cohort / "target",
        preset=preset,
        size=size,
        overrides=(f"seed={seed}",),
        events=events,
    )
    predictions = folder / "predictions"
    images = cohort / "test" / "images"
    model = load_model(run, device=config.device, config=config.predict)
    failures = predict_files(model, sorted(images.glob("*.nii.gz")), predictions)
    if failures and len(failures) == len(list(images.glob("*.nii.gz"))):
        raise UserError("no test image could be predicted", path=images, seen=failures[0].reason)
    truth = cohort / "truth" / "test"
    evaluation = evaluate(predictions, truth)
    report = report_run(run, Scored(predictions, truth, images))
    return DemoResult(report, evaluation, EXIT_PARTIAL if failures else adapted.exit_code)
