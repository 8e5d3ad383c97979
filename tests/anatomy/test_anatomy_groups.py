"""Cases without a known sequence are grouped by how they look."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelferry.anatomy.groups import group_looks, look_of_case, with_groups
from labelferry.anatomy.looks import MEASURES, look_of
from labelferry.cases import UNKNOWN_SEQUENCE, Case, Cohort
from labelferry.errors import UserError
from labelferry.io.discover import discover
from labelferry.io.nifti import read_image
from labelferry.organs import FLARE
from labelferry.phantom.cohort import write_cohort
from labelferry.phantom.frame import PhantomGrid
from labelferry.volume import Grid, Volume

UNKNOWN = UNKNOWN_SEQUENCE


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> Cohort:
    """T1 (fat-saturated and in phase), T2 (some fat-saturated) and DWI, their sequences known."""
    folder = tmp_path_factory.mktemp("looks") / "cohort"
    write_cohort(folder, ct=1, mri=14, test=0, seed=11, grid=PhantomGrid.of_spacing((6, 6, 8)))
    return discover(folder / "target", "target", FLARE).cohort


def nameless(cohort: Cohort) -> Cohort:
    """As if nothing said the sequence."""
    cases = [
        replace(case, id=f"case{n:02}", patient=f"case{n:02}", sequence=UNKNOWN, domain=UNKNOWN)
        for n, case in enumerate(cohort)
    ]
    return Cohort(tuple(cases))


def purity(domains: list[str], sequences: list[str]) -> float:
    """Share of the cases whose sequence is the commonest of their group."""
    pairs = Counter(zip(domains, sequences, strict=True))
    return sum(max(n for (d, _), n in pairs.items() if d == g) for g in set(domains)) / len(domains)


def test_groups_are_pure_and_few(phantoms):
    found, (note,) = with_groups(nameless(phantoms))
    domains = [case.domain for case in found]
    # five looks: T1 with and without fat, T2 with and without fat, DWI
    assert 3 <= len(set(domains)) <= 6
    assert purity(domains, [case.sequence for case in phantoms]) >= 0.9
    assert all(case.sequence == UNKNOWN for case in found)
    assert set(domains) == {f"group{n}" for n in range(1, len(set(domains)) + 1)}
    counts = Counter(domains)
    assert [n for _, n in sorted(counts.items())] == sorted(counts.values(), reverse=True)
    for name, number in counts.items():
        assert f"{name} ({number})" in note.text


def test_one_look_is_one_group(phantoms):
    found, _ = with_groups(nameless(phantoms.of_domain("DWI")))
    assert found.domains == ("group1",)


def test_the_order_of_cases_does_not_matter(phantoms):
    cohort = nameless(phantoms)
    turned = Cohort(cohort.cases[::-1])
    first = {case.id: case.domain for case in with_groups(cohort)[0]}
    assert {case.id: case.domain for case in with_groups(turned)[0]} == first


def test_what_is_known_stays(phantoms):
    cohort = nameless(phantoms)
    known = replace(cohort.cases[0], sequence="T1", domain="T1")
    named = replace(cohort.cases[1], domain="group1")
    ct = replace(cohort.cases[2], modality="CT")
    lost = replace(cohort.cases[3], image=Path("gone.nii.gz"))
    mixed = Cohort((known, named, ct, lost, *cohort.cases[4:8]))
    found, _ = with_groups(mixed)
    assert found.cases[:4] == (known, named, ct, lost)
    # a name that a table gave is not given again
    assert all(case.domain.startswith("group") for case in found.cases[4:])
    assert "group1" not in {case.domain for case in found.cases[4:]}


def test_nothing_unknown_is_nothing_to_do(phantoms):
    assert with_groups(phantoms) == (phantoms, [])


# --- looks


@pytest.mark.parametrize("change", ["gain", "offset", "flip", "finer"])
def test_a_look_says_nothing_of_unit_and_grid(phantoms, change):
    volume = read_image(phantoms.cases[0].image).volume
    look = look_of(volume)
    array, grid = volume.array, volume.grid
    tolerance = 1e-3
    if change == "gain":
        array = array * 1e-9
    if change == "offset":
        array, tolerance = array * 3 + 100, 0.5  # the body is found by an absolute threshold
    if change == "flip":
        affine = np.array(grid.affine)
        affine[:3, 3] = affine[:3, 3] + affine[:3, 0] * (grid.shape[0] - 1)
        affine[:3, 0] *= -1
        array, grid = array[::-1], Grid(grid.shape, affine)
    if change == "finer":
        affine = np.array(grid.affine)
        affine[:3, :3] /= 2
        array = array.repeat(2, 0).repeat(2, 1).repeat(2, 2)
        grid, tolerance = Grid(array.shape, affine), 3.0  # another blur
    np.testing.assert_allclose(look_of(Volume(array, grid)), look, atol=tolerance)
    assert look.shape == (len(MEASURES),)


def test_a_look_by_hand():
    """A block of fat (1) round muscle (0.2) in air (0)."""
    array = np.zeros((60, 40, 3), np.float32)
    array[5:55, 5:35] = 1000
    array[10:50, 10:30] = 200
    look = look_of(Volume(array, Grid(array.shape, np.diag([5.0, 5.0, 5.0, 1]))))
    spreads = np.array([measure.spread for measure in MEASURES])
    found = {(m.place, m.percentile): v for m, v in zip(MEASURES, look * spreads, strict=True)}
    # the body spans 200 … 1000: muscle is 0, fat is 1
    assert found["rim", 50] == pytest.approx(1)
    assert found["muscle", 50] == found["right", 50] == found["sides", 50] == pytest.approx(0)
    assert found["core", 90] == pytest.approx(0) and found["edges", 50] == pytest.approx(0)


def test_an_image_without_contrast_has_no_look(tmp_path):
    array = np.full((9, 9, 9), 7, np.float32)
    with pytest.raises(UserError, match="constant"):
        look_of(Volume(array, Grid(array.shape, np.eye(4))))
    case = Case("x", "x", "MR", UNKNOWN, UNKNOWN, tmp_path / "none.nii.gz")
    assert look_of_case(case) is None


def test_a_single_slice_has_a_look(phantoms):
    volume = read_image(phantoms.cases[0].image).volume
    middle = volume.array.shape[2] // 2
    thin = volume.array[:, :, middle : middle + 1]
    assert np.isfinite(look_of(Volume(thin, Grid(thin.shape, volume.grid.affine)))).all()


# --- the criterion


def test_the_criterion_by_hand():
    """n = 4, d = 1, two pairs D apart: one group costs 4·(D/2)² + ln 4, two cost 2·ln 4. So there
    are two where D² > ln 4."""
    limit = np.log(4) ** 0.5
    for apart, groups in ((limit - 0.01, 1), (limit + 0.01, 2)):
        looks = np.array([[0.0], [0.0], [apart], [apart]])
        assert len(set(group_looks(looks))) == groups


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(3, 12), min_size=1, max_size=5),
    st.integers(0, 2**32 - 1),
)
def test_groups_that_are_far_apart_are_found(sizes, seed):
    rng = np.random.default_rng(seed)
    middles = 100 * np.eye(len(sizes), 6)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    looks = middles[truth] + rng.uniform(-0.5, 0.5, (len(truth), 6))
    found = group_looks(looks)
    assert len(set(zip(found, truth.tolist(), strict=True))) == len(sizes) == len(set(found))
    counts = [found.count(group) for group in range(len(sizes))]
    assert counts == sorted(sizes, reverse=True)
