"""No file name reaches the page unless it is wanted there."""

from __future__ import annotations

import pytest

from labelferry.report.names import NamedCase, name_cases

CASES = (
    NamedCase("Mueller_Hans_T1", "target", "T1"),
    NamedCase("Mueller_Hans_T1_late", "target", "T1"),
    NamedCase("Mueller_Hans_T1", "test", "T1"),
    NamedCase("7", "target", "T2"),
    NamedCase("Mueller_Hans_T1", "source", "CT"),
)


def test_numbers_follow_the_order_and_one_image_has_one() -> None:
    names = name_cases(CASES, "numbered")
    assert names.of("Mueller_Hans_T1") == "case 001"
    assert names.of("Mueller_Hans_T1_late") == "case 002"
    assert names.of("7") == "case 003"
    assert names.of("Mueller_Hans_T1", source=True) == "case 004"
    assert names.of("never heard of") == "a case"
    assert name_cases([NamedCase(f"c{i}", "target", "") for i in range(1200)], "numbered").of(
        "c1199"
    ) == ("case 1200")


def test_ids_on_wish() -> None:
    names = name_cases(CASES, "ids")
    assert names.of("Mueller_Hans_T1", source=True) == "Mueller_Hans_T1"
    assert names.scrub("Mueller_Hans_T1 failed") == "Mueller_Hans_T1 failed"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Mueller_Hans_T1_0000.nii.gz is damaged", "case 001_0000.nii.gz is damaged"),
        ("Mueller_Hans_T1_late: flat", "case 002: flat"),
        ("z 7.21 > 7", "z 7.21 > 7"),
        ("nothing", "nothing"),
    ],
)
def test_free_text_is_scrubbed(text: str, told: str) -> None:
    assert name_cases(CASES, "numbered").scrub(text) == told


def test_pattern_signs_in_ids_are_taken_as_they_are() -> None:
    names = name_cases([NamedCase("a.b(c)+", "target", "")], "numbered")
    assert names.scrub("axb(c)+ a.b(c)+") == "axb(c)+ case 001"


def test_table_leads_back_to_the_files() -> None:
    lines = name_cases(CASES, "numbered").to_csv().splitlines()
    assert lines[0] == "name,case,role,domain" and len(lines) == 6
    assert "case 004,Mueller_Hans_T1,source,CT" in lines
