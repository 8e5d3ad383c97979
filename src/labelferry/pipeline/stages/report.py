"""report: one HTML file that says what ran and how far to trust it."""

from __future__ import annotations

from labelferry.pipeline.reporting import report_run
from labelferry.pipeline.stage import Context, Stage, Summary


def run(context: Context) -> Summary:
    """Write ``report.html`` from the stages before."""
    path = report_run(context.run)
    return Summary(f"{path.stat().st_size / 1e6:.1f} MB")


STAGE = Stage(
    "report",
    lambda config: {"report": config.report},
    ("prepare", "translate", "teach", "match", "refine", "distil"),
    run,
)
