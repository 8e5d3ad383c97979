from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from match_scene import ORGANS, case, grid

from labelferry.errors import UserError
from labelferry.files import write_json
from labelferry.match.case import Descriptor, describe
from labelferry.match.config import MatchConfig
from labelferry.match.neighbours import match_cases

PAPER = MatchConfig(same_patient_first=False, candidates=1)


def _row(name, litres=0.0, patient=None, extent=(0.0, 0.0, 0.0), organs=(0.0,)) -> Descriptor:
    return Descriptor(name, patient or name, "T1", litres * 1e6, extent, organs)


def _described(seen) -> Descriptor:
    return describe(seen.id, seen.patient, seen.domain, seen.body, seen.labels, ORGANS)


def test_equation_5_by_hand():
    anchors = [_row("a", 20), _row("b", 26), _row("c", 31)]
    (match,) = match_cases([_row("x", 27.5)], anchors, PAPER)
    assert (match.candidates, match.how) == (("b",), "volume")
    assert match.distances == pytest.approx((1.5e6,))
    (ranked,) = match_cases(
        [_row("x", 27.5)], anchors, MatchConfig(candidates=9, same_patient_first=False)
    )
    assert ranked.candidates == ("b", "c", "a")


def test_ties_go_by_id_whatever_the_order():
    anchors = [_row(n, v) for n, v in (("d", 30), ("b", 20), ("c", 20), ("a", 30), ("e", 20))]
    for order in (anchors, anchors[::-1]):
        (match,) = match_cases([_row("x", 25)], order, PAPER)
        assert match.candidates == ("a",)
        (three,) = match_cases([_row("x", 25)], order, MatchConfig(candidates=3))
        assert three.candidates == ("a", "b", "c")


def test_same_patient_first():
    anchors = [_row("a", 20, "p"), _row("b", 29, "q"), _row("c", 25, "p")]
    follower = _row("x", 29, "p")
    (match,) = match_cases([follower], anchors, MatchConfig())
    assert (match.how, match.candidates) == ("same patient", ("c", "a"))
    (paper,) = match_cases([follower], anchors, PAPER)
    assert (paper.how, paper.candidates) == ("volume", ("b",))
    (other,) = match_cases([_row("y", 21, "r")], anchors, MatchConfig())
    assert (other.how, other.candidates[0]) == ("volume", "a")


def test_same_patient_by_image():
    """Where no id finds an anchor; ids come first, and preset paper looks at neither."""
    anchors = [_row("a", 20, "p"), _row("b", 29, "q"), _row("c", 25)]
    alike = {"x": ("c", "a"), "y": ("b",)}
    follower, known = _row("x", 24.5), _row("y", 21, "p")
    (match,) = match_cases([follower], anchors, MatchConfig(), alike)
    assert (match.how, match.candidates) == ("same patient by image", ("c", "a"))
    (match,) = match_cases([known], anchors, MatchConfig(), alike)
    assert (match.how, match.candidates) == ("same patient", ("a",))
    (paper,) = match_cases([follower], anchors, PAPER, alike)
    assert (paper.how, paper.candidates) == ("volume", ("c",))


def test_other_criteria():
    anchors = [
        _row("a", extent=(300, 200, 250), organs=(1.5e6, 1e3)),
        _row("b", extent=(320, 230, 200), organs=(1.4e6, 5e3)),
    ]
    follower = _row("x", extent=(310, 210, 250), organs=(1.4e6, 5e3))
    extent = MatchConfig(criterion="extent", candidates=1)
    organs = MatchConfig(criterion="organs", candidates=1)
    (match,) = match_cases([follower], anchors, extent)
    assert (match.candidates, match.distances) == (("a",), (20.0,))
    (match,) = match_cases([follower], anchors, organs)
    assert (match.candidates, match.how) == (("b",), "organs")


def test_agrees_with_the_double_loop():
    rng = np.random.default_rng(0)
    anchors = [_row(f"a{i:03}", v) for i, v in enumerate(rng.integers(10, 40, 200))]
    followers = [_row(f"x{i:03}", v) for i, v in enumerate(rng.uniform(10, 40, 50))]
    for match, follower in zip(match_cases(followers, anchors, PAPER), followers, strict=True):
        gaps = sorted((abs(a.body_mm3 - follower.body_mm3), a.id) for a in anchors)
        assert (match.distances[0], match.candidates[0]) == gaps[0]


@pytest.mark.parametrize("alike", [False, True])
def test_4000_cases_in_little_memory(alike):
    """A double loop holds 32 MB of distances; anchors that are all alike must not bring it back."""
    rng = np.random.default_rng(0)
    litres = [20.0] * 4000 if alike else rng.normal(20, 4, 4000)
    rows = [_row(f"x{i:04}", v) for i, v in enumerate(litres)]
    tracemalloc.start()
    try:
        matches = match_cases(rows[2000:], rows[:2000], MatchConfig())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(matches) == 2000 and all(len(match.candidates) == 5 for match in matches)
    assert peak < 5e6
    if alike:
        assert matches[0].candidates == tuple(f"x{i:04}" for i in range(5))


def test_descriptor_comes_back_from_its_file(tmp_path):
    row = _described(case("a"))
    write_json(tmp_path / "a.json", row.to_json())
    assert Descriptor.read(tmp_path / "a.json") == row
    write_json(tmp_path / "a.json", {**row.to_json(), "extent_mm": [1.0]})
    with pytest.raises(UserError, match="not a descriptor"):
        Descriptor.read(tmp_path / "a.json")


def test_never_itself_and_never_nothing():
    anchors = [_row("a", 20), _row("b", 30)]
    (match,) = match_cases([anchors[0]], anchors, MatchConfig(candidates=1))
    assert match.candidates == ("b",)
    with pytest.raises(UserError, match="no anchor case"):
        match_cases([_row("x")], [], PAPER)
    with pytest.raises(UserError, match="this case itself"):
        match_cases([anchors[0]], anchors[:1], PAPER)
    assert match_cases([], anchors, PAPER) == []


def test_volume_is_physical():
    """The same body on a finer grid has the same volume, not the same number of voxels."""
    coarse = _described(case("a"))
    fine = _described(case("a", on=grid(spacing=(5, 5, 5), shape=(60, 46, 42))))
    assert coarse.body_mm3 == pytest.approx(4 / 3 * np.pi * 130 * 95 * 88, rel=0.02)
    assert fine.body_mm3 == pytest.approx(coarse.body_mm3, rel=0.02)
    assert fine.organs_mm3[0] == pytest.approx(coarse.organs_mm3[0], rel=0.05)
    assert fine.extent_mm == pytest.approx(coarse.extent_mm, abs=16)
    assert len(fine.organs_mm3) == len(ORGANS)


def test_config_refuses():
    for wrong in ({"shrink": ()}, {"shrink": (1, 2)}, {"shrink": (0,)}, {"candidates": 0}):
        with pytest.raises(ValueError):
            MatchConfig(**wrong)
