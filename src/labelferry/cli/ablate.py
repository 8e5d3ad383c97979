"""labelferry ablate: which step of the method gains what."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from labelferry.errors import UserError

if TYPE_CHECKING:
    from labelferry.experiments.ablation import Plan
    from labelferry.experiments.trial import Trial


def ablate(
    run: Path,
    *,
    source: Path | None = None,
    target: Path | None = None,
    test: Path | None = None,
    truth: Path | None = None,
    target_truth: Path | None = None,
    size: str = "demo",
    seeds: int = 2,
    table: str = "steps",
    rows: tuple[str, ...] = (),
    rows_folder: Path | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set")] = (),
    organs: Path | None = None,
    jobs: int = 2,
) -> int:
    """Compare the steps of the method: the rows of the paper's Table 7 and their controls.

    Or, with --table sources, the images that a teacher can learn from, and which of them would be
    chosen without any target label. Rows differ in configuration alone, share what they have in
    common, and are scored on MRI outside the target cohort. Without --source the digital phantom
    is used, a new one for each seed. The same command goes on after a kill. Leaves a page, and
    tables as Markdown, LaTeX and CSV.

    Parameters
    ----------
    run
        Folder for everything that the ablation makes.
    source
        Labelled CT, as for adapt.
    target
        Unlabelled MRI, as for adapt.
    test
        MRI that are scored; none of them may be in the target cohort.
    truth
        True labels of the test MRI.
    target_truth
        True labels of the target cohort, for the row "oracle", which is left out without them, and
        to show beside a choice made without labels what truth would have chosen.
    size
        The budget of every row: demo, laptop, night, full.
    seeds
        Number of seeds: 1, 2, …
    table
        The rows that come with labelferry: steps (of the method, Table 7) or sources (of the
        teacher's training images).
    rows
        Only these rows of the table, by the names of their files. All without it.
    rows_folder
        A folder with further rows, one TOML file each.
    set_
        Change one value of the configuration of every row. May be repeated.
    organs
        A JSON list of your own organs instead of the 13 of FLARE.
    jobs
        Seeds that run side by side; each takes its share of the cores.
    """
    from labelferry.experiments.ablation import Plan
    from labelferry.experiments.rows import GROUPS, load_rows
    from labelferry.experiments.trial import cohort_trials, phantom_trials
    from labelferry.organs import FLARE, OrganSet

    if seeds < 1:
        raise UserError("an ablation needs at least one seed", seen=seeds)
    chosen = FLARE if organs is None else OrganSet.read(organs)
    found = load_rows(rows, rows_folder, group=table)
    plan = Plan(found, size, set_, chosen, GROUPS[table])
    numbers = range(1, seeds + 1)
    if source is None:
        if any(path is not None for path in (target, test, truth, target_truth, organs)):
            raise UserError(
                "a cohort of your own needs --source, --target, --test and --truth",
                fix="name all four, or none for the digital phantom",
            )
        trials = phantom_trials(run, numbers)
    elif target is None or test is None or truth is None:
        raise UserError("--source needs --target, --test and --truth beside it")
    else:
        trials = cohort_trials(
            run,
            numbers,
            source=source,
            target=target,
            test=test,
            truth=truth,
            target_truth=target_truth,
        )
    return _run(run, plan, trials, jobs, shared_patients=source is not None)


def ladder(
    folder: Path = Path("ladder-run"),
    *,
    size: str = "demo",
    seeds: tuple[int, ...] = (1, 2),
    jobs: int = 2,
) -> int:
    """Compare only CT, ASIT, and ASIT + MDM on the digital phantom (Table 7).

    The three rows of ``labelferry ablate`` that the method stands on.

    Parameters
    ----------
    folder
        Folder for cohorts, runs and scores; a second call goes on.
    size
        The budget of every row.
    seeds
        One phantom cohort and one run of every row for each.
    jobs
        Seeds that run side by side; each takes its share of the cores.
    """
    from labelferry.experiments.ablation import Plan
    from labelferry.experiments.rows import load_rows
    from labelferry.experiments.run import LADDER
    from labelferry.experiments.trial import phantom_trials

    plan = Plan(load_rows(LADDER), size, ())
    return _run(folder, plan, phantom_trials(folder, seeds), jobs, shared_patients=False)


def _run(
    folder: Path, plan: Plan, trials: Sequence[Trial], jobs: int, *, shared_patients: bool
) -> int:
    from functools import partial

    from labelferry.cli.console import TerminalEvents, console
    from labelferry.experiments.formats import as_text
    from labelferry.experiments.run import run_ablation

    done = run_ablation(
        folder,
        plan,
        trials,
        jobs=jobs,
        events=partial(TerminalEvents, bars=jobs < 2),
        shared_patients=shared_patients,
    )
    out = console()
    for table in done.main:
        out.print(as_text(table) + "\n", markup=False)
    if done.choice:
        out.print(f"{done.choice}\n", markup=False)
    out.print(f"all tables: {done.markdown}", markup=False)
    out.print(f"page:       {done.page}", markup=False)
    return 0
