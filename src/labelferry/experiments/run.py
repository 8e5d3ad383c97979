"""The ablation as one call: trials, rows, tables on the disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labelferry.errors import UserError
from labelferry.experiments.ablation import MakeEvents, Plan, run_trials
from labelferry.experiments.formats import WordTable, as_latex, as_markdown
from labelferry.experiments.page import write_page
from labelferry.experiments.tables import RowResult, read_results, scores_csv, tables
from labelferry.experiments.trial import Trial
from labelferry.files import write_text
from labelferry.pipeline.runner import locked

LADDER = ("only-ct", "asit", "asit-mdm")
"""The rows that the method stands on: each has to gain on the one before."""


@dataclass(frozen=True)
class Ablation:
    """What an ablation leaves behind."""

    results: tuple[RowResult, ...]
    tables: tuple[WordTable, ...]
    folder: Path

    @property
    def markdown(self) -> Path:
        """All tables, for people."""
        return self.folder / "ablation.md"


def run_ablation(
    folder: Path,
    plan: Plan,
    trials: Sequence[Trial],
    *,
    jobs: int,
    events: MakeEvents,
    shared_patients: bool,
) -> Ablation:
    """Run what is missing; write ``ablation.md``, ``.html``, ``.tex`` and ``.csv`` in ``folder``.

    With several jobs and no number of threads of its own, each job takes its share of the cores.
    """
    if jobs < 1:
        raise UserError("jobs must be at least 1", seen=jobs)
    side_by_side = min(jobs, len(trials))
    if side_by_side > 1 and not any(o.startswith("threads=") for o in plan.overrides):
        share = max(1, (os.cpu_count() or 1) // side_by_side)
        plan = Plan(plan.rows, plan.size, (f"threads={share}", *plan.overrides), plan.organs)
    with locked(folder):
        run_trials(plan, trials, jobs, events)
        return write_tables(folder, plan, trials, shared_patients=shared_patients)


def write_tables(
    folder: Path, plan: Plan, trials: Sequence[Trial], *, shared_patients: bool
) -> Ablation:
    """The tables of what has been scored so far."""
    results = read_results(plan.rows, trials, shared_patients=shared_patients)
    found = tables(results)
    seeds = ", ".join(str(trial.seed) for trial in trials)
    head = f"# Ablation\n\nSize `{plan.size}`, seeds {seeds}.\n\n"
    write_text(folder / "ablation.md", head + "\n".join(as_markdown(table) for table in found))
    write_text(folder / "ablation.tex", "\n".join(as_latex(table) for table in found))
    write_text(folder / "ablation.csv", scores_csv(results))
    write_page(
        folder / "ablation.html",
        results,
        found[1:],
        size=plan.size,
        seeds=[trial.seed for trial in trials],
    )
    return Ablation(results, found, folder)
