"""The ladder of the method's steps: only CT, ASIT, ASIT + MDM (paper, Table 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labelferry.evaluate import evaluate
from labelferry.files import read_json, write_json
from labelferry.phantom.cohort import write_cohort
from labelferry.pipeline.chain import adapt
from labelferry.pipeline.config import load_config
from labelferry.pipeline.events import Events
from labelferry.predict.files import predict_files
from labelferry.predict.predictor import load_model


@dataclass(frozen=True)
class Rung:
    """One row: a preset, and the stage whose model is scored."""

    name: str
    preset: str
    stage: str
    overrides: tuple[str, ...] = ()

    @property
    def run_name(self) -> str:
        """Rows of one configuration share a run, and so its finished stages."""
        return "-".join([self.preset, *(o.replace("=", "_") for o in self.overrides)])


RUNGS = (
    Rung("Only CT", "only-ct", "teach"),
    Rung("ASIT", "asit", "teach"),
    Rung("ASIT + MDM", "asit", "refine"),
)


@dataclass(frozen=True)
class Result:
    """Mean scores of one row and seed on the test patients, 0–1."""

    rung: str
    seed: int
    dsc: float
    nsd: float
    domains: dict[str, float]
    """Mean DSC of each sequence."""


@dataclass(frozen=True)
class Table:
    """All rows and seeds."""

    results: tuple[Result, ...]

    def text(self) -> str:
        """For the terminal."""
        lines = [f"{'row':<14} {'seed':>4} {'DSC %':>6} {'NSD %':>6}  per sequence"]
        for r in self.results:
            parts = ", ".join(f"{k} {100 * v:.1f}" for k, v in sorted(r.domains.items()))
            lines.append(f"{r.rung:<14} {r.seed:>4} {100 * r.dsc:6.1f} {100 * r.nsd:6.1f}  {parts}")
        return "\n".join(lines)


def run_ladder(
    folder: Path,
    *,
    size: str,
    seeds: Sequence[int],
    events: Events,
    rungs: Sequence[Rung] = RUNGS,
    ct: int = 14,
    mri: int = 16,
    test: int = 5,
) -> Table:
    """Run every row on every seed, or go on; scores lie in ``folder/ladder.json``."""
    for rung in rungs:
        load_config(rung.preset, size, rung.overrides)  # mistakes are told before anything is made
    results = []
    for seed in seeds:
        cohort = folder / f"seed{seed}" / "cohort"
        write_cohort(cohort, ct=ct, mri=mri, test=test, seed=seed, workers=2)
        for rung in rungs:
            events.note(f"seed {seed}: {rung.name}", "info")
            results.append(_score(folder / f"seed{seed}", cohort, rung, seed, size, events))
            rows = [result.__dict__ for result in results]
            write_json(folder / "ladder.json", {"schema_version": 1, "size": size, "rows": rows})
    return Table(tuple(results))


def _score(folder: Path, cohort: Path, rung: Rung, seed: int, size: str, events: Events) -> Result:
    run = folder / rung.run_name
    adapt(
        run,
        cohort / "source",
        cohort / "target",
        preset=rung.preset,
        size=size,
        overrides=(f"seed={seed}", *rung.overrides),
        until=rung.stage,
        events=events,
    )
    predictions = folder / "predictions" / f"{rung.run_name}-{rung.stage}"
    images = sorted((cohort / "test" / "images").glob("*.nii.gz"))
    config = load_config(rung.preset, size, rung.overrides)
    model = load_model(run / rung.stage / "model", device=config.device, config=config.predict)
    predict_files(model, images, predictions)
    scores = evaluate(predictions, cohort / "truth" / "test").to_json()
    write_json(predictions / "scores.json", scores)
    mean = scores["mean"]["all"]
    domains = {k: v["dsc"] for k, v in scores.get("domains", {}).items()}
    return Result(rung.name, seed, mean["dsc"], mean["nsd"], domains)


def read_table(folder: Path) -> Table:
    """The table of an earlier call."""
    rows = read_json(folder / "ladder.json", schema=1)["rows"]
    return Table(tuple(Result(**row) for row in rows))
