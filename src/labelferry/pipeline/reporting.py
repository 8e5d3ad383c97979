"""From a run folder to the report: the only place that knows where everything lies."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelferry import __version__
from labelferry.errors import UserError
from labelferry.files import read_json
from labelferry.io.nifti import is_nifti, read_image, read_labels, stem
from labelferry.organs import OrganSet
from labelferry.pipeline import reporttables as tables
from labelferry.pipeline.manifest import Manifest, renew
from labelferry.pipeline.prepared import PreparedCase, prepared_cases
from labelferry.pipeline.runfile import STAGE_NAMES, read_run
from labelferry.report.data import CaseView, Layer, ReportData
from labelferry.report.page import write_report
from labelferry.volume import Volume, canonical


@dataclass(frozen=True)
class Scored:
    """Predictions with truth, for scores and pictures; no stage of the method sees them."""

    predictions: Path
    truth: Path
    images: Path | None = None


class LazyLayers(Mapping[Layer, Volume]):
    """Volumes that are read when the report draws them."""

    def __init__(self, readers: Mapping[Layer, Callable[[], Volume]]) -> None:
        self._readers = dict(readers)

    def __getitem__(self, key: Layer) -> Volume:
        return canonical(self._readers[key]())

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


def report_run(run: Path, scored: Scored | None = None) -> Path:
    """Write ``report/report.html`` of a run as far as it has come, with scores where given."""
    config, organs = read_run(run)
    evaluation = None
    if scored is not None:
        from labelferry.evaluate import evaluate

        evaluation = evaluate(scored.predictions, scored.truth, organs=organs).to_json()
    data = collect(run, scored, evaluation)
    path = run / "report" / "report.html"
    write_report(path, data, organs, config.report)
    renew(path.parent)  # a page made anew is no damage to the stage
    return path


def collect(
    run: Path, scored: Scored | None = None, evaluation: Mapping[str, Any] | None = None
) -> ReportData:
    """Gather what a run folder holds."""
    config, organs = read_run(run)
    manifests = {
        name: manifest
        for name in STAGE_NAMES
        if (manifest := Manifest.read(run / name)) is not None
    }
    source, target = _cases(run, "source"), _cases(run, "target")
    stable = _instability(run)
    plausible = _plausibility(run)
    views = [
        *(_target_view(run, case, organs, stable, plausible) for case in target),
        *(_source_view(run, case, organs) for case in source),
        *_test_views(scored, evaluation, organs, {case.id for case in target}),
    ]
    domains = tables.domain_rows(run, target, stable, plausible)
    return ReportData(
        title=run.resolve().name,
        version=__version__,
        command=f"labelferry adapt --preset {config.preset} --size {config.size}",
        preset=config.preset,
        size=config.size,
        seed=config.seed,
        created=time.strftime("%Y-%m-%d %H:%M", time.gmtime()) + " UTC",
        inputs=tables.input_rows(source, target, organs),
        trust=tables.verdicts(domains),
        stages=tuple(
            tables.stage_row(name, manifests.get(name)) for name in STAGE_NAMES if name != "report"
        ),
        domains=domains,
        cases=tuple(views),
        scores=None if evaluation is None else tables.score_tables(evaluation),
        rejected=tables.rejected_rows(run, manifests, organs),
        provenance=tables.provenance_rows(run, organs),
        warnings=tables.warning_texts(manifests),
        config_toml=tables.as_toml(config.model_dump(mode="json")),
        versions=dict(next(iter(manifests.values())).versions) if manifests else {},
        losses=tables.loss_curves(run),
    )


def _cases(run: Path, role: Any) -> tuple[PreparedCase, ...]:
    return prepared_cases(run / "prepare", role) if (run / "prepare/cases.json").exists() else ()


def _best_labels(run: Path) -> tuple[Path | None, Path | None]:
    """Pseudo-labels (the last made before the student) and results (the student's)."""
    pseudo = next(
        (run / s / "labels" for s in ("refine", "match", "teach") if (run / s / "labels").exists()),
        None,
    )
    result = run / "distil" / "labels"
    return pseudo, result if result.exists() else None


def _target_view(
    run: Path,
    case: PreparedCase,
    organs: OrganSet,
    stable: Mapping[str, float],
    plausible: Mapping[str, float],
) -> CaseView:
    pseudo, result = _best_labels(run)
    readers = _prepared_layers(case)
    for layer, folder in (("pseudo_label", pseudo), ("result", result)):
        if folder and (folder / f"{case.id}.nii.gz").exists():
            readers[layer] = _labels(folder / f"{case.id}.nii.gz", organs)  # type: ignore[index]
    return CaseView(
        case.id,
        case.domain,
        "target",
        LazyLayers(readers),
        plausibility=plausible.get(case.id),
        instability=stable.get(case.id),
    )


def _source_view(run: Path, case: PreparedCase, organs: OrganSet) -> CaseView:
    readers = _prepared_layers(case)
    fake = run / "translate" / "fake" / f"{case.id}.nii.gz"
    if fake.exists():
        readers["fake"] = _image(fake)
    readers["truth"] = _labels(case.file("label"), organs)
    return CaseView(case.id, case.domain, "source", LazyLayers(readers))


def _prepared_layers(case: PreparedCase) -> dict[Layer, Callable[[], Volume]]:
    return {"image": _image(case.file("image")), "anatomy": _image(case.file("anatomy"))}


def _image(path: Path) -> Callable[[], Volume]:
    return lambda: read_image(path).volume


def _labels(path: Path, organs: OrganSet) -> Callable[[], Volume]:
    return lambda: read_labels(path, organs)


def _test_views(
    scored: Scored | None,
    evaluation: Mapping[str, Any] | None,
    organs: OrganSet,
    seen: set[str],
) -> list[CaseView]:
    if scored is None or evaluation is None:
        return []
    views = []
    images = _by_stem(scored.images) if scored.images else {}
    predictions, truths = _by_stem(scored.predictions), _by_stem(scored.truth)
    for row in evaluation["cases"]:
        name = row["case"]
        readers: dict[Layer, Callable[[], Volume]] = {}
        if name in images:
            readers["image"] = _image(images[name])
        if name in predictions:
            readers["result"] = _labels(predictions[name], organs)
        if name in truths:
            readers["truth"] = _labels(truths[name], organs)
        layers = LazyLayers(readers if "image" in readers else {})
        means = {
            label: tables.mean(organ[key] for organ in row["organs"].values())
            for label, key in (("DSC", "dsc"), ("NSD", "nsd"))
        }
        views.append(
            CaseView(
                name,
                str(row.get("domain") or ""),
                "test",
                layers,
                notes="its image, without label, was in the target cohort" if name in seen else "",
                scores={k: v for k, v in means.items() if v is not None},
            )
        )
    return views


def _by_stem(folder: Path) -> dict[str, Path]:
    """Images of a file, a folder or a folder with images/, by case id without ``_0000``."""
    if folder.is_file():
        return {stem(folder).removesuffix("_0000"): folder}
    if not folder.is_dir():
        raise UserError("no such file or folder", path=folder)
    inner = folder / "images" if (folder / "images").is_dir() else folder
    return {stem(p).removesuffix("_0000"): p for p in sorted(inner.iterdir()) if is_nifti(p)}


def _instability(run: Path) -> dict[str, float]:
    path = run / "refine" / "selection.json"
    if not path.exists():
        return {}
    rows = read_json(path, schema=1)["instability"]
    return {k: math.inf if v["case"] is None else v["case"] for k, v in rows.items()}


def _plausibility(run: Path) -> dict[str, float]:
    for stage in ("distil", "refine", "match", "teach"):
        path = run / stage / "plausibility.json"
        if path.exists():
            rows = read_json(path, schema=1)["cases"]
            return {k: math.inf if v["z"] is None else v["z"] for k, v in rows.items()}
    return {}
