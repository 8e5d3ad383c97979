"""labelferry evaluate: scores against truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labelferry.evaluate.results import Evaluation
    from labelferry.evaluate.statistics import Interval


def evaluate(
    pred: Path,
    truth: Path,
    *,
    json: Path | None = None,
    csv: Path | None = None,
    organs: str | None = None,
    labels: str | None = None,
    protocol: str = "strict",
) -> int:
    """Score predictions against true labels: DSC, NSD and HD95 of every organ.

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
        Write all scores, means and intervals to this JSON file.
    csv
        Write all scores to this CSV file: one row for each case and organ, or with flare24 the
        columns of the challenge's own script.
    organs
        The organs that every case annotates, by name or id with commas between them
        (liver,spleen), whatever a cohort.csv says. Or a JSON file: a list of your own organs, with
        tolerances, instead of the 13 of FLARE.
    labels
        How the truth is numbered: amos, btcv, chaos, totalsegmentator, or a JSON file of names and
        values; otherwise by the ids of the organs.
    protocol
        The rules of scoring: strict, or flare24 (the challenge's script, quirks included).
    """
    from labelferry.errors import EXIT_DONE, EXIT_PARTIAL

    refuse_folders(json, csv)
    evaluation = score(pred, truth, organs=organs, labels=labels, protocol=protocol)
    if json is not None:
        evaluation.write_json(json)
    if csv is not None:
        evaluation.write_csv(csv)
    print_scores(evaluation)
    return EXIT_DONE if evaluation.is_complete else EXIT_PARTIAL


def score(
    pred: Path, truth: Path, *, organs: str | None, protocol: str, labels: str | None = None
) -> Evaluation:
    """Evaluate with a progress bar; ``organs`` is what the option of that name was given."""
    from labelferry.cli.console import TerminalEvents
    from labelferry.evaluate.folder import evaluate as run
    from labelferry.organs import FLARE, OrganSet

    own, annotated = FLARE, None
    if organs is not None:
        path = Path(organs)
        if path.suffix.lower() == ".json" or ("," not in organs and path.is_file()):
            own = OrganSet.read(path)
        else:
            annotated = organs.split(",")
    with TerminalEvents() as events:
        return run(
            pred,
            truth,
            organs=own,
            protocol=protocol,
            annotated=annotated,
            labels=labels,
            progress=lambda done, total: events.progress("scoring", done, total),
        )


def refuse_folders(*paths: Path | None) -> None:
    """Refuse a folder where a file is to be written, before anything is worked out."""
    from labelferry.errors import UserError

    for path in paths:
        if path is not None and path.is_dir():
            raise UserError("this is a folder, not a file to write", path=path)


def print_scores(evaluation: Evaluation) -> None:
    """Print warnings, the table of organs, and the mean as the last line."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from labelferry.cli.console import console
    from labelferry.report.words import count

    print_warnings(evaluation)
    table = Table("organ", box=box.SIMPLE, show_edge=False)
    for title in ("DSC", "NSD", "HD95 mm", "n"):
        table.add_column(title, justify="right")
    for name, score in evaluation.organs.items():
        cells = _number(score.dsc), _number(score.nsd), _number(score.hd95_mm, 1)
        table.add_row(escape(name), *cells, str(evaluation.counts[name]))
    out = console()
    out.print(table)
    organs = sum(score.dsc is not None for score in evaluation.organs.values())
    mean, sure = evaluation.mean, evaluation.intervals["all"]
    out.print(
        f"mean DSC {_number(mean.dsc)}{_range(sure['dsc'])}  "
        f"NSD {_number(mean.nsd)}{_range(sure['nsd'])}  "
        f"({count(len(evaluation.cases), 'case')}, {count(organs, 'organ')})",
        markup=False,
    )


def print_warnings(evaluation: Evaluation, which: str = "") -> None:
    """Name the cases that are missing, refused or extra; ``which`` says of what evaluation."""
    from labelferry.cli.console import error_console

    warn = error_console()
    for case in evaluation.missing:
        if case not in evaluation.refused:
            text = f"{which}missing: {case}: no prediction; counts 0"
            warn.print(text, style="yellow", markup=False)
    for case, reason in evaluation.refused.items():
        counts = "counts 0" if case in evaluation.missing else "not scored"
        text = f"{which}refused: {case}: {reason} ({counts})"
        warn.print(text, style="yellow", markup=False)
    for case in evaluation.extra:
        text = f"{which}extra: {case}: a prediction without ground truth; not scored"
        warn.print(text, style="yellow", markup=False)


def _number(value: float | None, decimals: int = 3) -> str:
    return "n/a" if value is None else f"{value:.{decimals}f}"


def _range(found: Interval) -> str:
    """The 95 % interval over patients, where there is one."""
    if found.low is None or found.high is None:
        return ""
    return f" [{found.low:.3f}, {found.high:.3f}]"
