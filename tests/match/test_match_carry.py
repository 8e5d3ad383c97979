from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from match_scene import ORGANS, case, dice, pose

from labelferry.errors import UserError
from labelferry.match.carry import carry_to
from labelferry.match.choose import (
    OrganChoice,
    agreement,
    choose_anchors,
    choose_organs,
    merge,
)
from labelferry.match.config import MatchConfig
from labelferry.prior.learn import learn_prior
from labelferry.prior.plausibility import CasePlausibility, OrganPlausibility, plausibility
from labelferry.volume import Segmentation, Volume

CONFIG = MatchConfig()
PAPER = MatchConfig(
    same_patient_first=False,
    candidates=1,
    metric="mean_squares",
    space="anatomy",
    keep_own="never",
)


@pytest.fixture(scope="module")
def prior():
    return learn_prior([(case("s").labels, ORGANS.ids)], ORGANS)


def _spoiled(follower, organs):
    """The follower as a poor network sees it: these organs as shifted scraps."""
    array = follower.labels.array.copy()
    for organ in organs:
        mask = array == organ
        array[mask] = 0
        array[4:7, 4:7, 3 + organ] = organ
    return replace(follower, labels=Segmentation(array, follower.labels.grid))


def test_bad_labels_are_replaced_organ_by_organ(prior):
    truth = case("f", "T2", pose((3, -2, 4), (1.05, 0.97, 1.0), (10, 8, 6)))
    follower = _spoiled(truth, (1, 3))
    result = carry_to(follower, [case("m", "T1")], CONFIG, prior, how="volume")
    rows = result.provenance["organs"]
    assert {k: rows[k]["source"] for k in ("1", "3")} == {"1": "carried", "3": "carried"}
    assert dice(result.labels.array, truth.labels.array) > 0.8
    assert result.labels.array.dtype == np.uint8
    assert rows["1"]["own_z"] > rows["1"]["carried_z"]
    assert result.provenance["from"] == "m"
    assert result.provenance["how"] == "volume"
    score = result.provenance["plausibility"]
    assert score["result"] <= score["own"]


def test_good_own_labels_survive_a_bad_anchor(prior):
    follower = case("f", "T2", patient="p")
    anchor = _spoiled(case("m", "T1", patient="p"), (1, 2, 3, 4))
    result = carry_to(follower, [anchor], CONFIG, prior, how="same patient")
    assert {row["source"] for row in result.provenance["organs"].values()} == {"own"}
    np.testing.assert_array_equal(result.labels.array, follower.labels.array)
    assert result.provenance["how"] == "same patient"
    paper = carry_to(follower, [anchor], PAPER, prior, how="volume")
    assert {row["source"] for row in paper.provenance["organs"].values()} == {"carried"}
    assert paper.provenance["how"] == "volume"
    assert dice(paper.labels.array, follower.labels.array) < 0.3


def test_best_of_k_by_agreement(prior):
    follower = case("f", "T2", pose(shift=(6, 0, 0)))
    other = case("other", "T1", pose((0, 0, 25), (1.3, 0.8, 1.2)))
    twin = case("twin", "T1", seed=3)
    result = carry_to(follower, [other, twin], CONFIG, prior, how="volume")
    assert result.provenance["from"] == "twin"
    scores = {row["id"]: row["agreement"] for row in result.provenance["candidates"]}
    assert scores["twin"] > scores["other"]
    same = carry_to(
        follower, [replace(twin, id="a"), replace(twin, id="b")], CONFIG, prior, how="volume"
    )
    assert same.provenance["from"] == "a"  # equal: the nearer by eq. 5


def test_provenance_is_json_and_the_same_twice(prior):
    follower, anchor = _spoiled(case("f", "T2"), (1,)), case("m", "T1")
    texts, arrays = [], []
    for _ in range(2):
        result = carry_to(follower, iter([anchor]), CONFIG, prior, how="volume")
        texts.append(json.dumps(result.provenance, allow_nan=False))
        arrays.append(result.labels.array)
    assert texts[0] == texts[1]
    np.testing.assert_array_equal(*arrays)
    matrix = json.loads(texts[0])["transform"]["fixed_to_moving_ras_mm"]
    assert np.shape(matrix) == (4, 4)
    with pytest.raises(UserError, match="no candidate"):
        carry_to(follower, [], CONFIG, prior, how="volume")


def test_empty_labels_on_both_sides(prior):
    follower, anchor = case("f", "T2"), case("m", "T1")
    none = Segmentation(np.zeros_like(follower.labels.array), follower.labels.grid)
    result = carry_to(
        replace(follower, labels=none), [replace(anchor, labels=none)], CONFIG, prior, how="volume"
    )
    assert not result.labels.array.any()
    # an empty own label takes whatever the anchor has
    result = carry_to(replace(follower, labels=none), [anchor], CONFIG, prior, how="volume")
    assert dice(result.labels.array, follower.labels.array) > 0.7


def test_organ_without_a_prior_follows_the_case(prior):
    good = plausibility(case("a").labels, prior)
    bad = plausibility(_spoiled(case("a"), (1, 2)).labels, prior)
    rows = choose_organs(good, bad, frozenset({1, 9}), CONFIG)
    assert rows[9].source == "own" and "cannot be judged" in rows[9].reason
    rows = choose_organs(bad, good, frozenset({1, 9}), CONFIG, same_patient=True)
    assert rows[9].source == rows[1].source == "carried"
    equal = choose_organs(good, good, frozenset({1}), CONFIG, same_patient=True)
    assert equal[1].source == "carried"


def test_merge_gives_a_contested_voxel_to_the_more_plausible():
    grid = case("a").labels.grid
    own, carried = np.zeros(grid.shape, np.uint8), np.zeros(grid.shape, np.uint8)
    own[0, 0, :4] = 1
    carried[0, 0, 2:6] = 2
    maps = Segmentation(own, grid), Segmentation(carried, grid)
    first = {1: OrganChoice("own", "", 0.5, 1.0), 2: OrganChoice("carried", "", 3.0, 1.0)}
    assert merge(*maps, first).array[0, 0, :7].tolist() == [1, 1, 1, 1, 2, 2, 0]
    tie = {1: OrganChoice("own", "", 1.0, 2.0), 2: OrganChoice("carried", "", 3.0, 1.0)}
    assert merge(*maps, tie).array[0, 0, :7].tolist() == [1, 1, 2, 2, 2, 2, 0]


def test_agreement():
    one = case("a")
    assert agreement(one.anatomy, one.anatomy, one.body) == pytest.approx(1)
    opposite = one.anatomy.with_array(1 - one.anatomy.array)
    assert agreement(one.anatomy, opposite, one.body) == pytest.approx(-1)
    flat = Volume(np.ones(one.body.grid.shape, np.float32), one.body.grid)
    assert agreement(one.anatomy, flat, one.body) == 0
    nothing = one.body.with_array(np.zeros(one.body.grid.shape, bool))
    assert agreement(one.anatomy, one.anatomy, nothing) == pytest.approx(1)


def _judged(z: float) -> CasePlausibility:
    return CasePlausibility(z, {}, 0.0, frozenset(), frozenset())


def test_anchors_by_the_prior():
    cases = {"a": _judged(1.0), "b": _judged(1.1), "c": _judged(2.0), "d": _judged(math.inf)}
    domains = {"a": "T1", "b": "T2", "c": "DWI", "d": "ADC"}
    choice = choose_anchors(cases, domains, MatchConfig())
    assert choice.anchors == ("T1", "T2")  # T2 is within 15 % of T1
    assert [row.domain for row in choice.ranking] == ["T1", "T2", "DWI", "ADC"]
    strict = choose_anchors(cases, domains, MatchConfig(anchor_tolerance=0.0))
    assert strict.anchors == ("T1",)
    json.dumps(choice.to_json(), allow_nan=False)
    named = choose_anchors(cases, domains, MatchConfig(anchors=("DWI",)))
    assert named.anchors == ("DWI",)
    with pytest.raises(UserError, match="unknown anchor domain") as caught:
        choose_anchors(cases, domains, MatchConfig(anchors=("T1", "T9")))
    assert "ADC, DWI, T1, T2" in str(caught.value)


def test_a_domain_of_one_case_lends_to_none_where_another_has_more():
    cases = {"a": _judged(1.0), **{f"b{n}": _judged(1.8) for n in range(3)}, "c": _judged(1.9)}
    domains = {case: {"a": "T1", "b": "T2", "c": "DWI"}[case[0]] for case in cases}
    choice = choose_anchors(cases, domains, MatchConfig())
    assert choice.anchors == ("T2",) and "3 cases or more" in choice.note
    assert [row.domain for row in choice.ranking] == ["T1", "T2", "DWI"]
    every = choose_anchors(cases, domains, MatchConfig(anchor_least_cases=1))
    assert every.anchors == ("T1",) and "or more" not in every.note
    named = choose_anchors(cases, domains, MatchConfig(anchors=("T1",)))
    assert named.anchors == ("T1",)


def test_one_domain_carries_nothing():
    choice = choose_anchors({"a": _judged(3.0)}, {"a": "T2"}, MatchConfig())
    assert choice.anchors == ("T2",)
    assert "nothing is carried" in choice.note
    both = choose_anchors(
        {"a": _judged(1.0), "b": _judged(1.0)}, {"a": "T1", "b": "T2"}, MatchConfig()
    )
    assert both.anchors == ("T1", "T2") and "nothing is carried" in both.note
    with pytest.raises(UserError, match="no target case"):
        choose_anchors({}, {}, MatchConfig())
    unjudged = choose_anchors(
        {"a": _judged(math.inf), "b": _judged(math.inf)}, {"a": "T1", "b": "T2"}, MatchConfig()
    )
    assert unjudged.anchors == ("T1", "T2")


def _organ_scores(z):
    organs = {
        organ: OrganPlausibility(value, 0.0, value, True, 1, 1.0, False, False)
        for organ, value in z.items()
    }
    return CasePlausibility(float(np.mean(list(z.values()))), organs, 0.0, frozenset(), frozenset())


def test_a_plausible_own_organ_is_not_given_up_for_another_patients():
    own, carried = _organ_scores({1: 2.9, 2: 3.1}), _organ_scores({1: 0.5, 2: 0.5})
    config = MatchConfig(own_limit=3.0)
    rows = choose_organs(own, carried, frozenset({1, 2}), config)
    assert (rows[1].source, rows[2].source) == ("own", "carried")
    rows = choose_organs(own, carried, frozenset({1, 2}), config, same_patient=True)
    assert (rows[1].source, rows[2].source) == ("carried", "carried")
