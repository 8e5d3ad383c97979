"""labelferry compare: two runs on the same cases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labelferry.evaluate.compare import Compared
    from labelferry.evaluate.results import Evaluation
    from labelferry.evaluate.statistics import Comparison


def compare(
    a: Path,
    b: Path,
    *,
    truth: Path | None = None,
    json: Path | None = None,
    csv: Path | None = None,
    organs: str | None = None,
    protocol: str = "strict",
) -> int:
    """Compare two runs, paired by case: the difference B - A of DSC and NSD of every organ.

    Shows for each organ the difference, its 95 % interval (bootstrap over patients) and the p of
    Wilcoxon's signed-rank test over patients. Leaves with 3 when a prediction is missing or a file
    was refused.

    Parameters
    ----------
    a
        A JSON file written by labelferry evaluate, or, with --truth, a folder of predicted label
        maps.
    b
        The same of the other run.
    truth
        Folder of true label maps, when A or B is a folder of predictions.
    json
        Write all differences to this JSON file.
    csv
        Write all differences to this CSV file, one row for each organ and metric.
    organs
        As for labelferry evaluate; for folders of predictions.
    protocol
        As for labelferry evaluate; for folders of predictions.
    """
    from labelferry.cli.evaluate import print_warnings, refuse_folders
    from labelferry.errors import EXIT_DONE, EXIT_PARTIAL
    from labelferry.evaluate.compare import compare as run

    refuse_folders(json, csv)
    sides = [_scores(side, truth, organs, protocol) for side in (a, b)]
    found = run(*sides)
    for name, side in zip("AB", sides, strict=True):
        print_warnings(side, f"{name}: ")
    if json is not None:
        found.write_json(json)
    if csv is not None:
        found.write_csv(csv)
    _print(found)
    return EXIT_DONE if all(side.is_complete for side in sides) else EXIT_PARTIAL


def _scores(path: Path, truth: Path | None, organs: str | None, protocol: str) -> Evaluation:
    from labelferry.cli.evaluate import score
    from labelferry.errors import UserError
    from labelferry.evaluate.results import read_evaluation

    if path.suffix.lower() == ".json":
        return read_evaluation(path)
    if not path.exists():
        raise UserError("no such file or folder", path=path)
    if truth is None:
        raise UserError(
            "predictions need truth to be compared",
            path=path,
            allowed="a JSON file of scores, or predictions together with --truth",
            fix="give --truth, or score them first with labelferry evaluate … --json",
        )
    return score(path, truth, organs=organs, protocol=protocol)


def _print(found: Compared) -> None:
    """Print the table of organs, and the overall difference as the last line."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from labelferry.cli.console import console, error_console
    from labelferry.evaluate.results import ALL
    from labelferry.report.words import count

    for name, cases in (("A", found.only_a), ("B", found.only_b)):
        for case in cases:
            text = f"only {name} has {case}; left out"
            error_console().print(text, style="yellow", markup=False)
    table = Table("B - A", box=box.SIMPLE, show_edge=False, padding=(0, 0), pad_edge=False)
    for title in ("DSC", "95 %", "p", "NSD", "95 %", "p", "n"):
        table.add_column(title, justify="right", no_wrap=True)
    for organ, metrics in found.rows.items():
        if organ != ALL:
            cells = [*_cells(metrics["dsc"]), *_cells(metrics["nsd"])]
            table.add_row(escape(organ), *map(escape, cells), str(metrics["dsc"].patients))
    out = console()
    out.print(table)
    overall = found.rows[ALL]
    parts = []
    for metric, row in overall.items():
        value, interval, p = _cells(row)
        shown = f" [{interval}]" if interval else ""
        parts.append(f"{metric.upper()} {value}{shown} p {p}")
    patients = count(overall["dsc"].patients, "patient")
    out.print(
        f"mean difference {'  '.join(parts)}  ({count(found.cases, 'case')}, {patients})",
        markup=False,
    )


def _cells(row: Comparison) -> tuple[str, str, str]:
    """Difference, interval and p in words."""
    value = "n/a" if row.difference is None else f"{row.difference:+.3f}"
    known = row.low is not None and row.high is not None
    interval = f"{row.low:+.3f}…{row.high:+.3f}" if known else ""
    p = "n/a" if row.p is None else "<0.001" if row.p < 0.001 else f"{row.p:.3f}"
    return value, interval, p
