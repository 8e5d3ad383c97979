"""labelferry evaluate: scores against truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labelferry.evaluate.results import Evaluation


def evaluate(
    pred: Path,
    truth: Path,
    *,
    json: Path | None = None,
    csv: Path | None = None,
    organs: Path | None = None,
    protocol: str = "strict",
) -> int:
    """Score predictions against true labels: DSC and NSD of every organ.

    Organs that a true label map does not annotate are left out; a missing prediction counts 0.
    Leaves with 3 when a prediction is missing or a file was refused.

    Parameters
    ----------
    pred
        Folder of predicted label maps, named as the true ones, or one file.
    truth
        Folder of true label maps, or one file. A cohort.csv beside them says which organs each one
        annotates; without it, those that it holds.
    json
        Write all scores to this JSON file.
    csv
        Write all scores to this CSV file, one row for each case and organ.
    organs
        A JSON list of your own organs, with tolerances, instead of the 13 of FLARE.
    protocol
        The rules of scoring: strict.
    """
    from labelferry.cli.console import TerminalEvents
    from labelferry.errors import EXIT_DONE, EXIT_PARTIAL, UserError
    from labelferry.evaluate.folder import evaluate as score
    from labelferry.organs import FLARE, OrganSet

    for path in (json, csv):
        if path is not None and path.is_dir():
            raise UserError("this is a folder, not a file to write", path=path)
    chosen = FLARE if organs is None else OrganSet.read(organs)
    with TerminalEvents() as events:
        evaluation = score(
            pred,
            truth,
            organs=chosen,
            protocol=protocol,
            progress=lambda done, total: events.progress("scoring", done, total),
        )
    if json is not None:
        evaluation.write_json(json)
    if csv is not None:
        evaluation.write_csv(csv)
    print_scores(evaluation)
    return EXIT_DONE if evaluation.is_complete else EXIT_PARTIAL


def print_scores(evaluation: Evaluation) -> None:
    """Print warnings, the table of organs, and the mean as the last line."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from labelferry.cli.console import console, error_console

    warn = error_console()
    for case in evaluation.missing:
        if case not in evaluation.refused:
            warn.print(f"missing: {case}: no prediction; counts 0", style="yellow", markup=False)
    for case, reason in evaluation.refused.items():
        counts = "counts 0" if case in evaluation.missing else "not scored"
        warn.print(f"refused: {case}: {reason} ({counts})", style="yellow", markup=False)
    for case in evaluation.extra:
        warn.print(f"extra: {case}: no truth; not scored", style="yellow", markup=False)
    table = Table("organ", box=box.SIMPLE, show_edge=False)
    for title in ("DSC", "NSD", "n"):
        table.add_column(title, justify="right")
    for name, score in evaluation.organs.items():
        count = evaluation.counts[name]
        table.add_row(escape(name), _number(score.dsc), _number(score.nsd), str(count))
    out = console()
    out.print(table)
    organs = sum(score.dsc is not None for score in evaluation.organs.values())
    mean = evaluation.mean
    out.print(
        f"mean DSC {_number(mean.dsc)}  NSD {_number(mean.nsd)}  "
        f"({_count(len(evaluation.cases), 'case')}, {_count(organs, 'organ')})",
        markup=False,
    )


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
