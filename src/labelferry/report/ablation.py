"""The ablation (Table 7): one row beside the next, with intervals, and the paper's own numbers."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from labelferry.files import write_text
from labelferry.report.data import AblationRow, InputRow, TableView
from labelferry.report.render import render


@dataclass(frozen=True)
class AblationView:
    """The rows as the page shows them."""

    rows: tuple[AblationRow, ...]
    domains: tuple[str, ...]
    scale: float
    """The share at the right end of the bars: a round number above every value."""
    paper: bool
    """Whether any row has the paper's numbers."""
    differences: bool
    notes: bool


def ablation_view(rows: Sequence[AblationRow]) -> AblationView | None:
    """What the table needs; None without rows."""
    if not rows:
        return None
    values = [
        value
        for row in rows
        for value in (
            row.dsc.mean,
            row.dsc.high,
            row.nsd.mean,
            row.nsd.high,
            row.paper_dsc,
            row.paper_nsd,
        )
        if value is not None
    ]
    top = max(values, default=1.0)
    return AblationView(
        rows=tuple(rows),
        domains=tuple(sorted({domain for row in rows for domain in row.domains})),
        scale=min(1.0, math.ceil(10 * top + 0.2) / 10),
        paper=any(row.paper_dsc is not None or row.paper_nsd is not None for row in rows),
        differences=any(row.difference is not None for row in rows),
        notes=any(row.note for row in rows),
    )


def write_ablation_page(
    path: Path,
    title: str,
    rows: Sequence[AblationRow],
    *,
    intro: Sequence[str] = (),
    facts: Sequence[InputRow] = (),
    tables: Sequence[TableView] = (),
    notes: Sequence[str] = (),
    created: str | None = None,
) -> None:
    """Write a page of the ablation alone, whole or not at all; it opens by double click.

    ``intro`` is text above the table, a paragraph each; ``facts`` are a few numbers such as seeds
    and patients; ``tables`` follow below it, such as scores per organ; ``notes`` are remarks at the
    end. ``created`` is the date told (default: now). Everything is escaped.
    """
    text = render(
        "ablation.html.j2",
        title=title,
        version=version("labelferry"),
        created=created or time.strftime("%Y-%m-%d %H:%M", time.gmtime()) + " UTC",
        ablation=ablation_view(rows),
        intro=tuple(intro),
        facts=tuple(facts),
        tables=tuple(tables),
        notes=tuple(notes),
    )
    write_text(path, text)
