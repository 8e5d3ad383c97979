"""How much of the gap between the paper's teacher and true labels a row closes, and its cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from labelferry.experiments.formats import WordTable
from labelferry.experiments.rows import Row
from labelferry.experiments.tables import RowResult
from labelferry.pipeline.config import RunConfig
from labelferry.pipeline.manifest import Manifest
from labelferry.report.words import ABSENT, duration, number, percent

LOW, HIGH = "asit", "oracle"
"""Keys of the rows that stand for 0 and 100 % of the gap."""
_LATER = {"teach": (), "refine": ("match", "refine"), "distil": ("match", "refine", "distil")}


@dataclass(frozen=True)
class Cost:
    """Wall seconds behind the model of a row on one seed, as its stages wrote them down."""

    translation: float
    """Making the fake MRI; 0 where no image of the teacher's mix is one."""
    training: float
    """``teach``, and what the row asks for after it, pseudo-labelling included."""
    steps: int
    """Optimiser steps of the teacher."""


def gap_share(score: float | None, low: float | None, high: float | None) -> float | None:
    """(score - low) / (high - low); None where one is unknown or there is no gap to close."""
    if score is None or low is None or high is None or high <= low:
        return None
    return (score - low) / (high - low)


def read_cost(run: Path, row: Row, config: RunConfig) -> Cost | None:
    """The cost of a row from its run folder; None for the oracle, and where a stage is not done."""
    if row.stage == "oracle":
        return None
    fakes = config.translate.enabled and config.teach.mix.fake > 0
    stages = ("teach", *_LATER[row.stage], *(("translate",) if fakes else ()))
    seconds = {}
    for name in stages:
        manifest = Manifest.read(run / name)
        if manifest is None:
            return None
        seconds[name] = manifest.seconds
    translation = seconds.pop("translate", 0.0)
    return Cost(translation, sum(seconds.values()), config.teach.train.iterations)


def gap_table(
    results: Sequence[RowResult], costs: Mapping[str, Sequence[Cost]]
) -> WordTable | None:
    """The share of the gap that each row closes, pooled and for each seed, beside its cost.

    ``costs``: of each seed, by the row's key. None where ``LOW`` or ``HIGH`` was not run.
    """
    by_key = {result.row.key: result for result in results}
    if LOW not in by_key or HIGH not in by_key:
        return None
    low, high = by_key[LOW], by_key[HIGH]
    seeds = sorted({seed for result in results for seed in result.seeds})
    lines = []
    for result in results:
        each = (_share((result, low, high), [seed]) for seed in seeds)
        lines.append(
            (
                result.row.name,
                percent(result.interval("dsc").mean),
                percent(_share((result, low, high), seeds)),
                " / ".join(percent(share) for share in each),
                *_cost_cells(costs.get(result.row.key, ())),
            )
        )
    return WordTable(
        "The gap closed, and what it costs",
        (
            "row",
            "DSC %",
            "gap closed %",
            "of each seed",
            "teacher steps",
            "training",
            "translation",
        ),
        tuple(lines),
        f"Share of the way in mean DSC from {low.row.name} to {high.row.name}, over the seeds that "
        "all three have. Wall time of a seed in the mean, as measured with whatever else the "
        "machine did: training is everything from the teacher on that the row needs, translation "
        "the fake MRI where it uses them. After a kill only the last process counts.",
    )


def _share(rows: tuple[RowResult, RowResult, RowResult], seeds: Sequence[int]) -> float | None:
    """The share of the first row between the second and the third, on the seeds that all have."""
    common = [seed for seed in seeds if all(seed in row.seeds for row in rows)]
    if not common:
        return None
    score, low, high = (
        replace(row, seeds={seed: row.seeds[seed] for seed in common}).interval("dsc").mean
        for row in rows
    )
    return gap_share(score, low, high)


def _cost_cells(costs: Sequence[Cost]) -> tuple[str, str, str]:
    if not costs:
        return ABSENT, ABSENT, ABSENT
    training, translation = (
        float(np.mean([getattr(cost, name) for cost in costs]))
        for name in ("training", "translation")
    )
    return (
        number(costs[0].steps, 0),
        duration(training),
        duration(translation) if translation else ABSENT,
    )
