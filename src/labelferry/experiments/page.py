"""The ablation as a page: the report's own table, fed with our rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from labelferry.experiments.formats import WordTable
from labelferry.experiments.tables import RowResult, first_other
from labelferry.report.ablation import write_ablation_page
from labelferry.report.data import AblationRow, InputRow, TableView


def write_page(
    path: Path,
    title: str,
    results: Sequence[RowResult],
    below: Sequence[WordTable],
    *,
    size: str,
    seeds: Sequence[int],
) -> None:
    """Write the page: the rows as bars with intervals, and ``below`` it further tables."""
    paper = any(result.row.paper for result in results)
    cases = max((len(result.cases) for result in results), default=0)
    patients = max((result.interval("dsc").patients for result in results), default=0)
    write_ablation_page(
        path,
        title,
        ablation_rows(results),
        facts=(
            InputRow("size", size),
            InputRow("seeds", ", ".join(str(seed) for seed in seeds)),
            InputRow("scored", str(cases), f"MRI of {patients} patients outside the target cohort"),
        ),
        tables=[
            TableView(table.title, table.header, table.rows, note=table.note) for table in below
        ],
        notes=(
            "Every row has the same budget of optimiser steps; rows differ in configuration alone.",
            *(["The paper's numbers are of other data and another budget."] if paper else []),
        ),
    )


def ablation_rows(results: Sequence[RowResult]) -> list[AblationRow]:
    """The rows for the report; the paper's numbers as shares."""
    rows = []
    for result in results:
        paper = result.row.paper
        other = first_other(result, results)
        rows.append(
            AblationRow(
                result.row.name,
                result.interval("dsc"),
                result.interval("nsd"),
                domains={k: v for k, v in result.domains.items() if v is not None},
                difference=result.against(other, "dsc") if other else None,
                paper_dsc=paper.dsc / 100 if paper else None,
                paper_nsd=paper.nsd / 100 if paper else None,
                note=f"against {other.row.name}" if other else "",
            )
        )
    return rows
