"""Long lists become short tables, and nothing is lost in counting."""

from __future__ import annotations

import math

from labelferry.report import tables
from labelferry.report.data import CaseScore, OrganValues, ProvenanceRow, Rejected

ORGANS = ("liver", "spleen", "aorta")


def test_provenance_is_counted_per_organ_and_grouped_per_case() -> None:
    rows = [
        ProvenanceRow("a", "liver", "matched", "from b"),
        ProvenanceRow("a", "aorta", "matched", "from b"),
        ProvenanceRow("a", "spleen", "network", "better"),
        ProvenanceRow("c", "all", "network", "anchor"),
    ]
    counts = tables.origin_counts(rows, ORGANS)
    assert counts.columns == ("matched", "network")
    assert {k: dict(v) for k, v in counts.rows.items()} == {
        "liver": {"matched": 1, "network": 1},
        "spleen": {"network": 2},
        "aorta": {"matched": 1, "network": 1},
    }
    groups = tables.provenance_groups(rows)
    assert [(g.case, g.kind, g.organs) for g in groups] == [
        ("a", "matched", ("liver", "aorta")),
        ("a", "network", ("spleen",)),
        ("c", "network", ("all",)),
    ]


def test_rejections_are_counted_by_the_words_before_the_colon() -> None:
    rows = [
        Rejected("a", "liver", "unstable: u 0.4"),
        Rejected("a", "spleen", "unstable: u 0.5"),
        Rejected("a", "aorta", "implausible: z 6"),
        Rejected("b", None, "failed"),
    ]
    counts = tables.rejection_counts(rows, ORGANS)
    assert counts.columns[0] == "unstable" and set(counts.columns[1:]) == {"implausible", "failed"}
    assert counts.rows["whole case"] == {"failed": 1} and counts.rows["liver"] == {"unstable": 1}
    groups = tables.rejection_groups(rows)
    assert groups[0].organs == ("liver (u 0.4)", "spleen (u 0.5)") and len(groups) == 3
    assert groups[-1].organs == ("whole case",)


def test_heat_is_worst_first_with_means_per_domain() -> None:
    rows = [
        OrganValues("a", "T1", 0.1, {"liver": 0.1, "aorta": math.inf}),
        OrganValues("b", "T2", math.inf, {"liver": 0.4}),
        OrganValues("c", "T1", None, {"liver": 0.3}),
    ]
    heat = tables.heat(rows, ORGANS, 2)
    assert heat is not None
    assert heat.organs == ("liver", "aorta") and heat.total == 3
    assert [row.case for row in heat.rows] == ["b", "a"]
    assert heat.means["T1"].organs == {"liver": 0.2} and heat.means["T1"].overall == 0.1
    assert tables.heat([], ORGANS, 2) is None
    empty = tables.heat([OrganValues("a", "T1", math.inf, {"liver": math.inf})], ORGANS, 2)
    assert empty is not None and empty.top == 1.0


def test_case_means_leave_out_what_is_unknown() -> None:
    scores = [CaseScore("a", "T1", "liver", 0.5, None), CaseScore("a", "T1", "aorta", None, None)]
    (row,) = tables.case_means(scores)
    assert (row.dsc, row.nsd, row.organs) == (0.5, None, 2)
