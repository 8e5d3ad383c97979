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
from labelferry.evaluate.results import Evaluation
from labelferry.files import read_json, write_text
from labelferry.io.nifti import is_nifti, read_image, read_labels
from labelferry.organs import OrganSet
from labelferry.pipeline import reporttables as tables
from labelferry.pipeline.manifest import renew
from labelferry.pipeline.prepared import PreparedCase, prepared_cases
from labelferry.pipeline.runfile import STAGE_NAMES, read_manifests, read_run
from labelferry.pipeline.translations import find_translations
from labelferry.predict.files import case_id
from labelferry.report.data import CaseView, Layer, ReportData
from labelferry.report.names import CaseNames, NamedCase, NamesBy, name_cases
from labelferry.report.page import write_report
from labelferry.report.tables import mean
from labelferry.volume import Volume, canonical

NAMES_FILE = "cases.csv"
"""Beside the page: which file is behind a number."""


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

    def __contains__(self, key: object) -> bool:
        return key in self._readers  # a mapping's own way would read the file

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


def report_run(
    run: Path, scored: Scored | None = None, *, case_names: NamesBy | None = None
) -> Path:
    """Write ``report/report.html`` of a run as far as it has come, with scores where given.

    ``case_names`` takes the place of what the run's configuration says (``report.case_names``).
    Where cases are numbered on the page, ``report/cases.csv`` says which file each number is; only
    its owner may read it.
    """
    config, organs = read_run(run)
    evaluation = None
    if scored is not None:
        from labelferry.evaluate import evaluate

        evaluation = evaluate(scored.predictions, scored.truth, organs=organs)
    names = name_run(run, evaluation, case_names)
    data = collect(run, scored, evaluation, names)
    path = run / "report" / "report.html"
    key = path.parent / NAMES_FILE
    if data.names_file:
        write_text(key, names.to_csv())
        key.chmod(0o600)
    else:
        key.unlink(missing_ok=True)
    write_report(path, data, organs, config.report)
    renew(path.parent)  # a page made anew is no damage to the stage
    return path


def name_run(
    run: Path, evaluation: Evaluation | None = None, how: NamesBy | None = None
) -> CaseNames:
    """Names for every case that the page may speak of: MRI, scored, CT, and those that failed."""
    config, _ = read_run(run)
    known = [
        *(NamedCase(c.id, "target", c.domain) for c in _cases(run, "target")),
        *(
            NamedCase(c.case, "test", c.domain or "")
            for c in (evaluation.cases if evaluation else ())
        ),
        *(NamedCase(c, "test", "") for c in (evaluation.refused if evaluation else ())),
        *(NamedCase(c.id, "source", c.domain) for c in _cases(run, "source")),
    ]
    ids = {case.case for case in known}
    failed = {case for manifest in read_manifests(run).values() for case in manifest.failed}
    known += [NamedCase(case, "failed", "") for case in sorted(failed - ids)]
    return name_cases(known, how or config.report.case_names)


def collect(
    run: Path,
    scored: Scored | None = None,
    evaluation: Evaluation | None = None,
    names: CaseNames | None = None,
) -> ReportData:
    """Gather what a run folder holds."""
    config, organs = read_run(run)
    names = names or name_run(run, evaluation)
    manifests = read_manifests(run)
    source, target = _cases(run, "source"), _cases(run, "target")
    stable, judged = _instability(run), _judged(run)
    plausible = {case: math.inf if row["z"] is None else row["z"] for case, row in judged.items()}
    where = {case.id: case.domain for case in target}
    views = [
        *(_target_view(run, case, organs, stable, plausible, names) for case in target),
        *_test_views(scored, evaluation, organs, set(where), names),
        *(_source_view(run, case, organs, names) for case in source),
    ]
    domains = tables.domain_rows(run, target, stable, plausible)
    space = manifests["translate"].summary.get("space") if "translate" in manifests else None
    return ReportData(
        title=run.resolve().name,
        version=__version__,
        command=f"labelferry adapt --preset {config.preset} --size {config.size}"
        + (f" --max-hours {config.max_hours:g}" if config.max_hours else ""),
        preset=config.preset,
        size=config.size,
        seed=config.seed,
        created=time.strftime("%Y-%m-%d %H:%M", time.gmtime()) + " UTC",
        inputs=tables.input_rows(source, target, organs),
        outputs=tables.output_rows(run, manifests),
        problems=tables.problem_rows(run, manifests, evaluation),
        trust=tables.verdicts(domains),
        stages=tuple(
            tables.stage_row(name, manifests.get(name), names)
            for name in STAGE_NAMES
            if name != "report"
        ),
        domains=domains,
        cases=tuple(views),
        scores=None if evaluation is None else tables.score_tables(evaluation, names),
        instability=tables.instability_rows(run, where, organs, names),
        plausibility=tables.plausibility_rows(judged, where, organs, names),
        rejected=tables.rejected_rows(run, manifests, organs, names),
        provenance=tables.provenance_rows(run, organs, names),
        warnings=tables.warning_texts(manifests, evaluation, names),
        # a folder's place is nobody's business
        config_toml=tables.as_toml(
            config.model_dump(mode="json") | {"teacher": Path(config.teacher).name}
        ),
        versions=dict(next(iter(manifests.values())).versions) if manifests else {},
        names_file=NAMES_FILE if names.numbered else "",
        fake_space="anatomy space" if space == "anatomy" else "",
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
    names: CaseNames,
) -> CaseView:
    pseudo, result = _best_labels(run)
    readers = _prepared_layers(case)
    for layer, folder in (("pseudo_label", pseudo), ("result", result)):
        if folder and (folder / f"{case.id}.nii.gz").exists():
            readers[layer] = _labels(folder / f"{case.id}.nii.gz", organs)
    return CaseView(
        names.of(case.id),
        case.domain,
        "target",
        LazyLayers(readers),
        plausibility=plausible.get(case.id),
        instability=stable.get(case.id),
    )


def _source_view(run: Path, case: PreparedCase, organs: OrganSet, names: CaseNames) -> CaseView:
    readers = _prepared_layers(case)
    fakes: dict[Layer, str] = {}
    for translation in find_translations(run / "translate"):
        fake, domain = translation.fake(case.id), translation.domain
        layer = "fake" if domain is None else f"fake-{translation.folder.name}"
        if fake.exists():
            readers[layer] = _image(fake)
            if domain is not None:
                fakes[layer] = domain
    readers["truth"] = _labels(case.file("label"), organs)
    name = names.of(case.id, source=True)
    return CaseView(name, case.domain, "source", LazyLayers(readers), fakes=fakes)


def _prepared_layers(case: PreparedCase) -> dict[Layer, Callable[[], Volume]]:
    return {"image": _image(case.file("image")), "anatomy": _image(case.file("anatomy"))}


def _image(path: Path) -> Callable[[], Volume]:
    return lambda: read_image(path).volume


def _labels(path: Path, organs: OrganSet) -> Callable[[], Volume]:
    return lambda: read_labels(path, organs)


def _test_views(
    scored: Scored | None,
    evaluation: Evaluation | None,
    organs: OrganSet,
    seen: set[str],
    names: CaseNames,
) -> list[CaseView]:
    if scored is None or evaluation is None:
        return []
    views = []
    images = _by_stem(scored.images) if scored.images else {}
    predictions, truths = _by_stem(scored.predictions), _by_stem(scored.truth)
    for row in evaluation.cases:
        readers: dict[Layer, Callable[[], Volume]] = {}
        if row.case in images:
            readers["image"] = _image(images[row.case])
        if row.case in predictions and row.case not in evaluation.missing:
            readers["result"] = _labels(predictions[row.case], organs)
        if row.case in truths:
            readers["truth"] = _labels(truths[row.case], organs)
        means = {
            label: mean(getattr(score, label.lower()) for score in row.organs.values())
            for label in ("DSC", "NSD")
        }
        note = "its image, without label, was in the target cohort" if row.case in seen else ""
        views.append(
            CaseView(
                names.of(row.case),
                row.domain or "",
                "test",
                LazyLayers(readers),
                notes=note,
                scores={k: v for k, v in means.items() if v is not None},
            )
        )
    return views


def _by_stem(folder: Path) -> dict[str, Path]:
    """Images of a file, a folder or a folder with images/, by case id without ``_0000``."""
    if folder.is_file():
        return {case_id(folder): folder}
    if not folder.is_dir():
        raise UserError("no such file or folder", path=folder)
    inner = folder / "images" if (folder / "images").is_dir() else folder
    return {case_id(p): p for p in sorted(inner.iterdir()) if is_nifti(p)}


def _instability(run: Path) -> dict[str, float]:
    path = run / "refine" / "selection.json"
    if not path.exists():
        return {}
    rows = read_json(path, schema=1)["instability"]
    return {k: math.inf if v["case"] is None else v["case"] for k, v in rows.items()}


def _judged(run: Path) -> Mapping[str, Any]:
    """Case → what the prior says of it, by the last stage that made labels."""
    for stage in ("distil", "refine", "match", "teach"):
        path = run / stage / "plausibility.json"
        if path.exists():
            found: Mapping[str, Any] = read_json(path, schema=1)["cases"]
            return found
    return {}
