"""``labelferry data``: what is in a folder, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import cyclopts

from labelferry.cli.dataimport import import_
from labelferry.cli.notes import print_notes

if TYPE_CHECKING:
    from rich.table import Table

    from labelferry.cases import Case
    from labelferry.cli.console import TerminalEvents
    from labelferry.io.check import CheckedCohort, Inspected
    from labelferry.io.discover import Discovery
    from labelferry.organs import LabelScheme, OrganSet
    from labelferry.volume import Grid

_MANY = 200
"""From so many cases on, several processes are worth their start."""

app = cyclopts.App(name="data", help="Look at data, or bring it in, before a night is spent on it.")
app.command(import_, name="import")


@app.command
def check(
    *paths: Annotated[Path, cyclopts.Parameter(name="PATH", required=True)],
    role: Literal["source", "target", "auto"] = "auto",
    organs: Path | None = None,
    labels: str | None = None,
    group: bool = False,
    json: Path | None = None,
    workers: int = 2,
) -> int:
    """Open every image and label map, and say what was understood and what is wrong.

    Nothing is written but what --json asks for. Exit code 0: all cases can be used; 3: some are
    refused; 2: all are.

    Parameters
    ----------
    paths
        Folders with images/ (and labels/, and cohort.csv), folders of images, flat or nested, lists
        of files (.txt, .csv), nnU-Net raw data sets, BIDS, or single images.
    role
        A source is labelled CT, a target is MRI whose labels are never looked at. With auto, a
        path is a source where there are labels.
    organs
        Your own list of organs, a JSON file; the 13 organs of FLARE otherwise.
    labels
        How the label maps of a source are numbered: amos, btcv, chaos, totalsegmentator, or a JSON
        file of names and values; otherwise by the ids of the organs, or by a dataset.json.
    group
        Make domains (group1, group2, …) of the MRI whose sequence nothing says, by how they look,
        as 'adapt --group-sequences' does.
    json
        Write what was found to this JSON file: cases, grids, intensities, the volume and the place
        of every organ, and all remarks.
    workers
        Number of processes for hundreds of cases.
    """
    from labelferry.cli.evaluate import refuse_folders
    from labelferry.errors import EXIT_DONE, EXIT_INPUT, EXIT_PARTIAL
    from labelferry.files import write_json
    from labelferry.io.numbering import find_numbering
    from labelferry.organs import FLARE, OrganSet

    refuse_folders(json)
    known = FLARE if organs is None else OrganSet.read(organs)
    numbering = None if labels is None else find_numbering(labels, known)
    results = [_check_path(path, role, known, numbering, group, workers) for path in paths]
    if json is not None:
        write_json(json, {"schema_version": 1, "paths": [found for _, _, found in results]})
    good, refused = sum(row[0] for row in results), sum(row[1] for row in results)
    if not good:
        return EXIT_INPUT
    return EXIT_PARTIAL if refused else EXIT_DONE


def _check_path(
    path: Path,
    role: Literal["source", "target", "auto"],
    organs: OrganSet,
    numbering: LabelScheme | None,
    group: bool,
    workers: int,
) -> tuple[int, int, dict[str, Any]]:
    """Print what there is to say about a path; the numbers of usable cases and of refusals, and
    all of it in a JSON-able form."""
    from functools import partial

    from labelferry.cli.console import TerminalEvents, console, error_console
    from labelferry.cli.datajson import to_json
    from labelferry.errors import UserError
    from labelferry.io.check import check_cohort
    from labelferry.io.discover import discover, guess_role

    out = console()
    with TerminalEvents() as events:
        try:
            taken = guess_role(path) if role == "auto" else role
            heard = partial(events.progress, "headers read")
            found = discover(path, taken, organs, numbering, heard)
        except UserError as error:
            error_console().print(f"error: {error}", style="red", markup=False)
            return 0, 1, {"path": str(path), "error": str(error)}
        if group and taken == "target":
            found = _grouped(found, events, workers)
        checked = check_cohort(
            found,
            organs,
            lambda done, total: events.progress("cases checked", done, total),
            partial(_mapped, workers=workers if len(found.cohort) >= _MANY else 1),
        )
    out.print(_summary(path, taken, checked), markup=False, style="bold")
    if len(checked.cohort):
        out.print(_table(checked), soft_wrap=False)  # a terminal folds long cells
    print_notes(out, (*checked.refused, *checked.notes))
    return len(checked.cohort), len(checked.refused), to_json(path, taken, checked)


def _grouped(found: Discovery, events: TerminalEvents, workers: int) -> Discovery:
    """The same with domains for cases of unknown sequence."""
    from dataclasses import replace

    from labelferry.anatomy.groups import with_groups
    from labelferry.pipeline.looks import look_cases

    cohort, notes = with_groups(
        found.cohort, lambda _, cases: look_cases(cases, events, None, workers)
    )
    return replace(found, cohort=cohort, notes=(*found.notes, *notes))


def _mapped(
    work: Callable[[Case], Inspected], cases: Sequence[Case], *, workers: int
) -> Iterator[Inspected]:
    """Apply ``work`` to every case, in order, in so many processes."""
    from labelferry.errors import UserError
    from labelferry.pipeline.executor import map_cases

    for _, result in map_cases(work, cases, workers=workers):
        if isinstance(result, UserError):
            raise result
        yield result


def _summary(path: Path, role: str, checked: CheckedCohort) -> str:
    from labelferry.report.words import count

    cohort = checked.cohort
    text = f"{path} ({role}): {count(len(cohort), 'usable case')} of "
    text += count(len(cohort.patients), "patient")
    domains = Counter(case.domain for case in cohort)
    if domains:
        text += " (" + ", ".join(f"{n} {name}" for name, n in sorted(domains.items())) + ")"
    warnings = sum(note.severity == "warning" for note in checked.notes)
    return f"{text}; {len(checked.refused)} refused, {count(warnings, 'warning')}"


def _table(checked: CheckedCohort) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in ("case", "patient", "modality", "sequence", "domain", "shape", "mm", "axes"):
        table.add_column(name, overflow="fold", no_wrap=name in ("modality", "shape", "axes"))
    table.add_column("annotated", overflow="fold")
    for case in checked.cohort:
        table.add_row(*(Text(cell) for cell in _cells(case, checked.grids[case.id])))
    return table


def _cells(case: Case, grid: Grid) -> tuple[str, ...]:
    return (
        case.id,
        case.patient,
        case.modality,
        case.sequence,
        case.domain,
        "×".join(str(n) for n in grid.shape),
        "×".join(f"{s:.3g}" for s in grid.spacing),
        grid.axes,
        _ranges(case.annotated or frozenset()),
    )


def _ranges(ids: frozenset[int]) -> str:
    """Ids with runs drawn together: ``1–4;6``."""
    runs: list[list[int]] = []
    for i in sorted(ids):
        if runs and runs[-1][-1] == i - 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    return ";".join(str(r[0]) if len(r) == 1 else f"{r[0]}–{r[-1]}" for r in runs)
