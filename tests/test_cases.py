from __future__ import annotations

from pathlib import Path

import pytest

from labelferry.cases import Case, Cohort
from labelferry.errors import UserError


def case(case_id: str, patient: str = "p1", domain: str = "T1", labelled: bool = False) -> Case:
    label = Path(f"labels/{case_id}.nii.gz") if labelled else None
    return Case(
        case_id,
        patient,
        "MR",
        domain,
        domain,
        Path(f"images/{case_id}.nii.gz"),
        label,
        frozenset({1, 2}) if labelled else None,
    )


COHORT = Cohort((case("a", "p2", "T2"), case("b", "p1", "T1", True), case("c", "p1", "T2")))


def test_a_cohort_is_a_table_of_cases():
    assert len(COHORT) == 3
    assert [c.id for c in COHORT] == ["a", "b", "c"]
    assert COHORT["b"].domain == "T1"
    assert COHORT.domains == ("T1", "T2")
    assert COHORT.patients == ("p1", "p2")
    assert [c.id for c in COHORT.of_domain("T2")] == ["a", "c"]
    assert [c.id for c in COHORT.of_patient("p1")] == ["b", "c"]
    assert len(Cohort(())) == 0


def test_an_unknown_case_is_named():
    with pytest.raises(UserError, match="zz: no such case"):
        COHORT["zz"]


def test_case_ids_are_unique_and_both_files_are_named():
    with pytest.raises(UserError, match=r"a: two images.*a\.nii\.gz and .*a\.nii\.gz"):
        Cohort((case("a"), case("b"), case("a", "p9")))


def test_without_labels_nothing_of_a_label_is_left():
    bare = COHORT.without_labels()
    assert all(c.label is None and c.annotated is None for c in bare)
    assert [c.image for c in bare] == [c.image for c in COHORT]
    assert COHORT["b"].label is not None  # the cohort itself is as it was
