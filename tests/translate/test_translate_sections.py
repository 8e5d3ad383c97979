from __future__ import annotations

import numpy as np
import pytest

from labelferry.organs import FLARE
from labelferry.translate.sections import Section, compare_sections, section

SPACING = (10.0, 10.0, 5.0)


def body(areas: list[int]) -> np.ndarray:
    """Slices with so many voxels each."""
    out = np.zeros((20, 20, len(areas)), np.bool_)
    for z, area in enumerate(areas):
        out.reshape(400, -1)[:area, z] = True
    return out


def test_a_section_by_hand() -> None:
    labels = np.zeros((20, 20, 6), np.uint8)
    labels[3, 3, 2:5] = 1
    labels[4, 4, 5] = 3
    found = section(body([0, 100, 100, 300, 300, 300]), SPACING, labels)
    assert found.extent_mm == 25
    assert found.slices == 5
    assert found.area_cm2 == 300
    assert found.organs_mm == 20
    assert found.cut == {3}
    assert np.mean(found.profile) == pytest.approx(1)
    assert found.profile[0] < 0.5 < 1.2 < found.profile[-1]


def test_no_body_and_one_slice() -> None:
    assert section(body([0, 0]), SPACING).slices == 0
    one = section(body([50]), SPACING)
    assert one.profile == (1.0,) * 10
    assert one.organs_mm is None


ABDOMEN = section(body([300] * 40), SPACING)


def test_alike_is_silent() -> None:
    assert compare_sections([ABDOMEN], {"T1": [ABDOMEN], "T2": [ABDOMEN]}, FLARE) == ()


@pytest.mark.parametrize(
    ("areas", "told"),
    [
        ([300] * 80, "CT show 200 mm of the body, T1 400 mm"),
        ([300] * 20, "CT show 200 mm of the body, T1 100 mm"),
        ([120] * 40, "cross-section is 300 cm² in CT, 120 cm² in T1"),
        ([100] * 20 + [400] * 20, "widen and narrow at other heights"),
    ],
)
def test_other_sections_are_told(areas: list[int], told: str) -> None:
    notes = compare_sections([ABDOMEN], {"T1": [section(body(areas), SPACING)]}, FLARE)
    assert any(told in note and "learn the section as style" in note for note in notes)


def test_an_mri_too_low_for_the_organs_is_told() -> None:
    source = Section(200, 300, (1.0,) * 10, 40, organs_mm=180.0)
    notes = compare_sections([source], {"T1": [section(body([300] * 28), SPACING)]}, FLARE)
    assert notes == (
        "The labelled organs take up 180 mm in CT, T1 show 140 mm: they cannot show all of them.",
    )


def test_organs_that_most_ct_cut_are_told_but_not_tubes() -> None:
    source = [Section(200, 300, (1.0,) * 10, 40, 200.0, frozenset({1, 5}))] * 3
    notes = compare_sections(source, {"T1": [ABDOMEN]}, FLARE)
    assert notes == ("Most CT end within liver: these are seen in part only.",)


def test_a_domain_with_one_slice_is_told() -> None:
    notes = compare_sections([ABDOMEN], {"DWI": [section(body([300]), SPACING)]}, FLARE)
    (note,) = notes  # nothing of its section, which is a matter of course
    assert note.startswith("The target domain DWI has 1 slice in all")
