"""labelferry efficiency: what a prediction costs in time and memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import cyclopts

from labelferry.predict.config import Export

if TYPE_CHECKING:
    from labelferry.predict.costs import CostTable
    from labelferry.spread import Spread

_TITLES = {
    "seconds": "time s",
    "peak_mb": "peak MB",
    "area_mb_s": "area MB·s",
    "sample_sum_mb": "sum of samples MB",
}
_DIGITS = {"seconds": 1, "peak_mb": 0, "area_mb_s": 0, "sample_sum_mb": 1}


def efficiency(
    *inputs: Annotated[Path, cyclopts.Parameter(name="INPUT", required=True)],
    model: Path,
    device: str = "auto",
    export: Export | None = None,
    interval: float = 0.1,
    json: Path | None = None,
    csv: Path | None = None,
    keep: Path | None = None,
) -> int:
    """Measure time and memory of predicting each image, in a fresh process (Table 8).

    Time runs from the start of the process to its exit. Memory is that in use on the GPU (total
    minus free), or on the CPU the resident memory of the process. Leaves with 3 when a case
    failed, with 2 when all did.

    Parameters
    ----------
    inputs
        Images (.nii, .nii.gz), folders of images, or cohort folders with images/.
    model
        A run of ``labelferry adapt``, or a model folder, or its .zip.
    device
        auto (CUDA where there is one), cpu, cuda or cuda:N.
    export
        fast, exact (as nnU-Net resamples), or paper (sigmoid, threshold, resample). The model's own
        without it.
    interval
        Seconds between two samples of the memory.
    json
        Write everything, samples too, to this JSON file.
    csv
        Write one row a case to this CSV file.
    keep
        A folder for the labels; without it they are thrown away.
    """
    from labelferry.cli import stopped_by
    from labelferry.cli.console import TerminalEvents, error_console
    from labelferry.cli.evaluate import refuse_folders
    from labelferry.errors import EXIT_DONE, EXIT_INPUT, EXIT_PARTIAL
    from labelferry.predict.efficiency import measure

    refuse_folders(json, csv)
    try:
        with TerminalEvents() as events:
            table = measure(
                inputs,
                model,
                device=device,
                export=export,
                interval=interval,
                keep=keep,
                progress=lambda done, total: events.progress("cases measured", done, total),
            )
    except KeyboardInterrupt as stop:
        error_console().print("stopped; no figures were written", style="yellow")
        return stopped_by(stop)
    if json is not None:
        table.write_json(json)
    if csv is not None:
        table.write_csv(csv)
    for failure in table.failures:
        error_console().print(f"failed: {failure.case}: {failure.reason}", markup=False)
    if table.cases:
        print_costs(table)
    if not table.failures:
        return EXIT_DONE
    return EXIT_PARTIAL if table.cases else EXIT_INPUT


def print_costs(table: CostTable) -> None:
    """Print the cases, the rows of Table 8, and the tolerances of the challenge."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from labelferry.cli.console import console
    from labelferry.predict.costs import QUANTITIES

    shown = Table("", box=box.SIMPLE, show_edge=False)
    for name in QUANTITIES:
        shown.add_column(_TITLES[name], justify="right")
    for cost in table.cases:
        marks = {"seconds": cost.over_time, "peak_mb": cost.over_memory}
        cells = [_cell(getattr(cost, q), q, marks.get(q, False)) for q in QUANTITIES]
        shown.add_row(escape(cost.case), *cells)
    shown.add_section()
    summaries = {name: table.summary(name) for name in QUANTITIES}
    for title, part in (("25th percentile", "p25"), ("median", "p50"), ("75th percentile", "p75")):
        shown.add_row(title, *(_cell(getattr(summaries[q], part), q) for q in QUANTITIES))
    shown.add_row("mean ± SD", *(_mean_sd(summaries[q], q) for q in QUANTITIES))
    out = console()
    out.print(shown)
    for line in _remarks(table):
        out.print(line, markup=False)


def _remarks(table: CostTable) -> list[str]:
    from labelferry.predict.costs import MEMORY_TOLERANCE_MB, TIME_TOLERANCE_S

    what = "in use on" if table.memory == "device" else "resident on"
    lines = [f"memory {what} {table.device}, sampled every {table.interval:g} s; 1 MB = 2^20 bytes"]
    if table.baseline_mb:
        lines.append(f"of it {table.baseline_mb:.0f} MB were in use before the first case")
    cases = len(table.cases)
    within = (
        (f"{TIME_TOLERANCE_S:g} s", sum(not cost.over_time for cost in table.cases)),
        (f"{MEMORY_TOLERANCE_MB / 1024:g} GB", sum(not cost.over_memory for cost in table.cases)),
    )
    said = ", ".join(f"{limit}: {count} of {cases}" for limit, count in within)
    lines.append(f"cases within the tolerances of FLARE (beyond them: !): {said}")
    return lines


def _cell(value: float, quantity: str, over: bool = False) -> str:
    return f"{value:.{_DIGITS[quantity]}f}{' !' if over else ''}"


def _mean_sd(summary: Spread, quantity: str) -> str:
    digits = _DIGITS[quantity]
    sd = "n/a" if summary.sd is None else f"{summary.sd:.{digits}f}"
    return f"{summary.mean:.{digits}f} ± {sd}"
