"""The ablation as one call: trials, rows, tables on the disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from labelferry.errors import UserError
from labelferry.experiments.ablation import MakeEvents, Plan, run_path, run_trials
from labelferry.experiments.choosingtables import (
    choice_text,
    read_study,
    study_csv,
    study_tables,
)
from labelferry.experiments.formats import WordTable, as_latex, as_markdown
from labelferry.experiments.gap import Cost, gap_table, read_cost
from labelferry.experiments.page import write_page
from labelferry.experiments.tables import (
    RowResult,
    main_tables,
    organ_tables,
    read_results,
    scores_csv,
)
from labelferry.experiments.trial import Trial
from labelferry.files import write_text
from labelferry.pipeline.runner import locked

LADDER = ("only-ct", "asit", "asit-mdm")
"""The rows that the method stands on: each has to gain on the one before."""


@dataclass(frozen=True)
class Ablation:
    """What an ablation leaves behind."""

    results: tuple[RowResult, ...]
    main: tuple[WordTable, ...]
    """The rows beside each other, the gap that they close, and the choice without labels."""
    organs: tuple[WordTable, ...]
    """Organ by organ."""
    choice: str | None
    """In words, the teacher that is chosen without labels; None with too few teachers."""
    markdown: Path
    """All tables, for people."""
    page: Path


def run_ablation(
    folder: Path,
    plan: Plan,
    trials: Sequence[Trial],
    *,
    jobs: int,
    events: MakeEvents,
    shared_patients: bool,
) -> Ablation:
    """Run what is missing; write its tables (``ablation.md``, ``.html``, ``.tex`` and ``.csv`` for
    the steps) in ``folder``.

    With several jobs and no number of threads of its own, each job takes its share of the cores.
    """
    if jobs < 1:
        raise UserError("jobs must be at least 1", seen=jobs)
    side_by_side = min(jobs, len(trials))
    if side_by_side > 1 and not any(o.startswith("threads=") for o in plan.overrides):
        share = max(1, (os.cpu_count() or 1) // side_by_side)
        plan = replace(plan, overrides=(f"threads={share}", *plan.overrides))
    with locked(folder):
        run_trials(plan, trials, jobs, events)
        return write_tables(folder, plan, trials, shared_patients=shared_patients)


def write_tables(
    folder: Path, plan: Plan, trials: Sequence[Trial], *, shared_patients: bool
) -> Ablation:
    """The tables of what has been scored so far."""
    results = read_results(plan.rows, trials, shared_patients=shared_patients)
    gap = gap_table(results, _costs(plan, trials))
    study = read_study(results, trials)
    main = (
        *main_tables(results, plan.group.title),
        *([gap] if gap else []),
        *(study_tables(study) if study else ()),
    )
    organs = organ_tables(results)
    found = (*main, *organs)
    seeds = ", ".join(str(trial.seed) for trial in trials)
    stem = folder / plan.group.stem
    head = f"# {plan.group.heading}\n\nSize `{plan.size}`, seeds {seeds}.\n\n"
    markdown, page = stem.with_suffix(".md"), stem.with_suffix(".html")
    write_text(markdown, head + "\n".join(as_markdown(table) for table in found))
    write_text(stem.with_suffix(".tex"), "\n".join(as_latex(table) for table in found))
    write_text(stem.with_suffix(".csv"), scores_csv(results))
    if study:
        write_text(folder / f"{plan.group.stem}-teachers.csv", study_csv(study))
    write_page(
        page,
        plan.group.heading,
        results,
        found[1:],
        size=plan.size,
        seeds=[trial.seed for trial in trials],
    )
    return Ablation(results, main, organs, choice_text(study) if study else None, markdown, page)


def _costs(plan: Plan, trials: Sequence[Trial]) -> dict[str, list[Cost]]:
    """What each row cost on each seed that it is done on."""
    return {
        row.key: [
            cost
            for trial in trials
            if (cost := read_cost(run_path(trial, row), row, plan.config(row, trial.seed)))
        ]
        for row in plan.rows
    }
