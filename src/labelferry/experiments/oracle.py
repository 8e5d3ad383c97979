"""The oracle: the same network and steps on true MRI labels. What no method here can pass."""

from __future__ import annotations

from pathlib import Path

from labelferry.errors import UserError
from labelferry.evaluate.truth import find_truth, hash_truth
from labelferry.experiments.validation import true_labels
from labelferry.files import hash_value
from labelferry.io.nifti import write_volume
from labelferry.organs import OrganSet
from labelferry.pipeline.config import RunConfig
from labelferry.pipeline.events import Events
from labelferry.pipeline.learn import task_of
from labelferry.pipeline.manifest import Manifest
from labelferry.pipeline.prepared import prepared_cases, read_prior
from labelferry.pipeline.stage import stage_seed
from labelferry.segment.engine import train_model
from labelferry.segment.examples import Example


def train_oracle(
    run: Path,
    config: RunConfig,
    organs: OrganSet,
    truth: Path,
    *,
    device: str,
    events: Events,
) -> Path:
    """Train on the prepared target of ``run`` with its true labels; returns the bundle's folder.

    The network and the steps are those of the first round of ``refine``. It stands apart from the
    stages on purpose: none of them can reach a target label.
    """
    prepared = Manifest.read(run / "prepare")
    assert prepared is not None, "the run is prepared before"
    refine = config.refine.model_dump(mode="json")
    mark = hash_value([prepared.output_hash, refine, config.seed, hash_truth(truth, organs)])
    folder = run / "oracle" / mark[:12]  # another configuration never goes on with this one
    examples = _examples(run, folder / "labels", organs, truth, config)
    return train_model(
        examples,
        task_of("oracle", organs, config, config.refine, read_prior(run / "prepare")),
        config.refine.train,
        folder,
        seed=stage_seed(config.seed, "oracle"),
        device=device,
        progress=lambda done, total: events.progress("oracle steps", done, total),
    )


def _examples(
    run: Path, folder: Path, organs: OrganSet, truth: Path, config: RunConfig
) -> list[Example]:
    known = find_truth(truth, organs)
    examples = []
    for case in prepared_cases(run / "prepare", "target"):
        if case.id not in known:
            continue
        path = folder / f"{case.id}.nii.gz"
        labels, annotated = true_labels(case, known[case.id], organs)
        if not path.exists():
            write_volume(path, labels)
        examples.append(Example(case.id, case.channels(config.refine.space), path, annotated))
    if not examples:
        raise UserError(
            "the oracle has no true label of any target case",
            path=truth,
            fix="name the true labels of the target cohort with --target-truth, or leave the row "
            "'oracle' out",
        )
    return examples
