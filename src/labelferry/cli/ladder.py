"""labelferry ladder: does each step of the method help?"""

from __future__ import annotations

from pathlib import Path


def ladder(
    folder: Path = Path("ladder-run"),
    *,
    size: str = "demo",
    seeds: tuple[int, ...] = (1, 2),
) -> int:
    """Compare only CT, ASIT, and ASIT + MDM on the digital phantom (Table 7).

    The rows differ in configuration alone and are scored on patients outside the target cohort.

    Parameters
    ----------
    folder
        Folder for cohorts, runs and scores; a second call goes on.
    size
        The budget of every row.
    seeds
        One phantom cohort and one run of every row for each.
    """
    from labelferry.cli.console import TerminalEvents, console
    from labelferry.experiments.ladder import run_ladder

    with TerminalEvents() as events:
        table = run_ladder(folder, size=size, seeds=seeds, events=events)
    console().print(table.text(), markup=False)
    return 0
