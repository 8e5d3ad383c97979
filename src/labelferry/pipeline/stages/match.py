"""match: carry labels from the sequences that work to those that do not (2.2, eq. 5–6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labelferry.files import read_json, write_json
from labelferry.io.nifti import read_image, read_labels, write_volume
from labelferry.match.carry import carry_to
from labelferry.match.case import Descriptor, TargetCase, describe
from labelferry.match.choose import AnchorChoice, choose_anchors
from labelferry.match.config import MatchConfig
from labelferry.match.likeness import Alike, find_alike, sketch
from labelferry.match.neighbours import match_cases
from labelferry.organs import OrganSet
from labelferry.pipeline.executor import for_light_work
from labelferry.pipeline.plausible import judge, read_plausibility, write_plausibility
from labelferry.pipeline.prepared import PreparedCase, prepared_cases, read_prior
from labelferry.pipeline.stage import Context, Stage, Summary
from labelferry.pipeline.students import known_organs
from labelferry.predict.config import PredictConfig
from labelferry.predict.tidy import tidy
from labelferry.prior.model import Prior
from labelferry.volume import Volume


@dataclass(frozen=True)
class _Job:
    follower: PreparedCase
    candidates: tuple[PreparedCase, ...]
    distances: tuple[float, ...]
    how: str
    likeness: dict[str, float]
    labels_in: Path
    folder: Path
    config: MatchConfig
    predict: PredictConfig
    prior: Prior
    organs: OrganSet
    annotated: frozenset[int]


@dataclass(frozen=True)
class _Description:
    case: PreparedCase
    labels_in: Path
    folder: Path
    organs: OrganSet
    is_sketched: bool

    @property
    def path(self) -> Path:
        """What the job makes last."""
        return self.folder / "descriptors" / f"{self.case.id}.json"

    @property
    def sketch_path(self) -> Path:
        """What the same patient is known by where no id tells."""
        return _sketch_path(self.folder, self.case.id)


def run(context: Context) -> Summary:
    """Write ``labels/<case>.nii.gz`` and ``provenance/<case>.json`` for every target case."""
    config = context.config.match
    own = context.of("teach") / "labels"
    target = [
        case
        for case in prepared_cases(context.of("prepare"), "target")
        if (own / f"{case.id}.nii.gz").exists()
    ]
    prior = read_prior(context.of("prepare"))
    judged = read_plausibility(context.of("teach") / "plausibility.json")
    choice = choose_anchors(judged, {case.id: case.domain for case in target}, config)
    write_json(context.folder / "anchors.json", {"schema_version": 1, **choice.to_json()})
    followers = [case for case in target if config.enabled and case.domain not in choice.anchors]
    failed = _describe_all(context, target, own) if followers else {}
    jobs = _jobs(
        context,
        [case for case in followers if case.id not in failed],
        [case for case in target if case.domain in choice.anchors and case.id not in failed],
        prior,
        own,
    )
    failed |= context.each(
        "labels carried",
        _carry_one,
        jobs,
        name=lambda job: job.follower.id,
        made=lambda job: job.folder / "provenance" / f"{job.follower.id}.json",
        workers=context.config.workers,
    )
    carried = {job.follower.id for job in jobs} - set(failed)
    _keep_own(context, [case for case in target if case.id not in carried], own, failed)
    labels = context.folder / "labels"
    after = judge(target, labels, prior, context.organs, workers=context.config.workers)
    medians = write_plausibility(context.folder / "plausibility.json", after, target)
    return _summary(choice, _count_carried(context, target), medians, config, failed)


def _describe_all(context: Context, cases: Sequence[PreparedCase], own: Path) -> dict[str, str]:
    """Write ``descriptors/<case>.json``, and ``sketches/<case>.nii.gz`` where they are asked for;
    a run that goes on reads them again."""
    sketched = _by_image(context.config.match)
    jobs = [_Description(case, own, context.folder, context.organs, sketched) for case in cases]
    return context.each(
        "cases described",
        _describe_one,
        jobs,
        name=lambda job: job.case.id,
        made=lambda job: job.path,
        workers=for_light_work(context.config.workers, len(jobs)),
    )


def _describe_one(job: _Description) -> None:
    case = job.case
    labels = read_labels(job.labels_in / f"{case.id}.nii.gz", job.organs)
    row = describe(case.id, case.patient, case.domain, case.body(), labels, job.organs)
    if job.is_sketched:
        prepared = case.read()
        write_volume(job.sketch_path, sketch(prepared.anatomy, prepared.body))
    write_json(job.path, row.to_json())


def _sketch_path(folder: Path, case: str) -> Path:
    return folder / "sketches" / f"{case}.nii.gz"


def _by_image(config: MatchConfig) -> bool:
    return config.same_patient_first and config.same_patient_by == "images"


def _jobs(
    context: Context,
    followers: Sequence[PreparedCase],
    anchors: Sequence[PreparedCase],
    prior: Prior,
    own: Path,
) -> list[_Job]:
    """Each follower with its candidates; ``cases described`` has described them all."""
    if not followers:
        return []
    by_id = {case.id: case for case in (*followers, *anchors)}
    config = context.config.match

    def described(cases: Sequence[PreparedCase]) -> list[Descriptor]:
        folder = context.folder / "descriptors"
        return [Descriptor.read(folder / f"{case.id}.json") for case in cases]

    def sketched(case: str) -> Volume:
        return read_image(_sketch_path(context.folder, case)).volume

    rows, lenders = described(followers), described(anchors)
    alike: Alike = {}
    if _by_image(config):
        alike = find_alike(rows, lenders, sketched, config.least_likeness)
    matches = match_cases(rows, lenders, config, alike)
    annotated = known_organs(context)
    return [
        _Job(
            by_id[match.follower],
            tuple(by_id[c] for c in match.candidates),
            match.distances,
            match.how,
            alike.get(match.follower, {}),
            own,
            context.folder,
            config,
            context.config.predict,
            prior,
            context.organs,
            annotated,
        )
        for match in matches
    ]


def _load(case: PreparedCase, labels: Path, organs: OrganSet) -> TargetCase:
    prepared = case.read()
    return TargetCase(
        case.id,
        case.patient,
        case.domain,
        prepared.image,
        prepared.anatomy,
        prepared.body,
        read_labels(labels / f"{case.id}.nii.gz", organs),
    )


def _carry_one(job: _Job) -> None:
    follower = _load(job.follower, job.labels_in, job.organs)
    candidates = (_load(case, job.labels_in, job.organs) for case in job.candidates)
    result = carry_to(follower, candidates, job.config, job.prior, job.annotated, how=job.how)
    name, labels = job.follower.id, result.labels
    tidied = tidy(labels.array, follower.image, job.organs, job.predict)
    write_volume(job.folder / "labels" / f"{name}.nii.gz", labels.with_array(tidied))
    write_json(
        job.folder / "provenance" / f"{name}.json",
        {**result.provenance, "distances": list(job.distances), "likeness": job.likeness},
    )


def _keep_own(
    context: Context, cases: Sequence[PreparedCase], own: Path, failed: dict[str, str]
) -> None:
    """Anchors, and followers whose match failed, keep the network's own label."""
    for case in cases:
        name = case.id
        labels = read_labels(own / f"{name}.nii.gz", context.organs)
        write_volume(context.folder / "labels" / f"{name}.nii.gz", labels)
        reason = failed.get(name, "anchor domain, or nothing to carry")
        write_json(
            context.folder / "provenance" / f"{name}.json",
            {"schema_version": 1, "case": name, "from": None, "reason": reason},
        )


def _count_carried(context: Context, target: Sequence[PreparedCase]) -> int:
    """Counted from what was written: a run that goes on did not carry the first ones itself."""
    folder = context.folder / "provenance"
    rows = (read_json(folder / f"{case.id}.json", schema=1) for case in target)
    return sum(row["from"] is not None for row in rows)


def _summary(
    choice: AnchorChoice,
    carried: int,
    medians: dict[str, float | None],
    config: MatchConfig,
    failed: dict[str, str],
) -> Summary:
    if not config.enabled:
        text = "off: every case keeps the network's own label"
    else:
        text = f"anchors {', '.join(choice.anchors)} ({choice.note}); {carried} cases carried"
    facts = {"anchors": list(choice.anchors), "carried": carried, "plausibility": medians}
    return Summary(text, facts, failed)


STAGE = Stage(
    "match",
    lambda config: {"match": config.match, "predict": config.predict},
    ("prepare", "teach"),
    run,
    revision=5,
)
