"""The ablation as a page of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from labelferry.report.ablation import ablation_view, write_ablation_page
from labelferry.report.data import AblationRow, Estimate, InputRow, TableView


@dataclass(frozen=True)
class Difference:
    difference: float | None
    low: float | None
    high: float | None
    p: float | None


ROWS = (
    AblationRow("Only CT", Estimate(0.21, 0.18, 0.24), Estimate(0.164), {"T1": 0.304, "T2": 0.08}),
    AblationRow(
        "ASIT <x>",
        Estimate(0.293, 0.25, 0.33),
        Estimate(0.223),
        {"T1": 0.467},
        Difference(0.083, 0.051, 0.115, 0.00049),
        paper_dsc=0.2953,
        paper_nsd=0.3001,
        note="a <note>",
    ),
)


def test_page_holds_rows_intervals_differences_and_the_paper(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "ablation.html"
    write_ablation_page(
        path,
        "Ablation <1>",
        ROWS,
        intro=("Two seeds & more.",),
        facts=(InputRow("seeds", "2"),),
        tables=(
            TableView(
                "Table 6", ("Row", "liver", "text"), (("ASIT", 0.5, "a<b"), ("CT", None, "c"))
            ),
        ),
        notes=("PLF does not help.",),
        created="2025-01-02",
    )
    text = path.read_text(encoding="utf-8")
    for part in (
        "21.0",
        "18.0–24.0",
        "+8.3",
        "+5.1 to +11.5",
        "p &lt; 0.001",
        "29.5",
        "30.0",
        "8.0",
    ):
        assert part in text, part
    for part in (
        "ASIT &lt;x&gt;",
        "a &lt;note&gt;",
        "a&lt;b",
        "Ablation &lt;1&gt;",
        "Two seeds &amp; more",
    ):
        assert part in text, part
    assert "PLF does not help." in text and "50.0" in text and "2025-01-02" in text
    assert "http:" not in text and "https:" not in text


def test_without_rows_it_says_so(tmp_path: Path) -> None:
    write_ablation_page(tmp_path / "a.html", "Empty", ())
    assert "No row is scored yet" in (tmp_path / "a.html").read_text(encoding="utf-8")
    assert ablation_view(()) is None


def test_scale_is_round_and_holds_every_value() -> None:
    view = ablation_view(ROWS)
    assert view is not None and view.domains == ("T1", "T2") and view.paper and view.differences
    assert view.scale == pytest.approx(0.4)
    top = ablation_view((AblationRow("x", Estimate(0.99, 0.9, 1.0), Estimate(None)),))
    assert top is not None and top.scale == 1.0 and not top.paper


@pytest.mark.parametrize("wrong", [60.53, -0.1])
def test_shares_only(wrong: float) -> None:
    with pytest.raises(ValueError, match="share in"):
        AblationRow("PLF", Estimate(0.6), Estimate(0.6), paper_dsc=wrong)
