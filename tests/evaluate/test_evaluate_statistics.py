"""Statistics over patients, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from labelferry.errors import UserError
from labelferry.evaluate.scores import UNDEFINED, ZERO, CaseScores, Score
from labelferry.evaluate.statistics import (
    Comparison,
    Interval,
    compare_cases,
    interval,
    signed_rank_p,
    spread,
)
from labelferry.spread import Spread


def case(name, patient=None, **dsc):
    return CaseScores(name, {k: Score(v, v) for k, v in dsc.items()}, patient=patient)


def cases(*liver):
    return [case(f"c{n}", liver=value) for n, value in enumerate(liver)]


def test_the_mean_is_over_organs_of_the_means_over_cases():
    given_cases = [case("a", liver=0.8, spleen=0.2), case("b", liver=0.6), case("c", liver=0.4)]
    found = interval(given_cases)
    assert found.mean == pytest.approx((0.6 + 0.2) / 2)
    assert (found.patients, found.cases) == (3, 3)
    assert interval(given_cases, organ="liver").mean == pytest.approx(0.6)
    assert interval(given_cases, organ="spleen") == Interval(0.2, None, None, 1, 1)


def test_two_patients_give_three_equally_known_means():
    # drawn twice out of {0, 1}: both 0 in a quarter of all samples, both 1 in a quarter
    found = interval(cases(0.0, 1.0))
    assert (found.low, found.high) == (0.0, 1.0)
    middle = interval(cases(0.0, 1.0), level=0.4)
    assert (middle.low, middle.high) == (0.5, 0.5)


def test_cases_of_one_patient_are_drawn_together():
    # ten equal images of each of two patients are two patients
    many = [case(f"a{n}", "a", liver=0.0) for n in range(10)]
    many += [case(f"b{n}", "b", liver=1.0) for n in range(10)]
    found = interval(many)
    assert (found.low, found.high, found.patients, found.cases) == (0.0, 1.0, 2, 20)
    apart = interval([CaseScores(c.case, c.organs) for c in many])
    assert 0.2 < apart.low < 0.5 < apart.high < 0.8


def test_a_patient_with_more_cases_weighs_more_in_the_mean():
    found = interval([case("a1", "a", liver=0), case("a2", "a", liver=0), case("b1", "b", liver=3)])
    assert found.mean == 1.0


def test_the_interval_is_that_of_the_normal_distribution_for_many_patients():
    values = np.random.default_rng(1).normal(0.7, 0.1, 400)
    found = interval(cases(*values), samples=4000)
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=1e-3)
    assert found.high == pytest.approx(values.mean() + half, abs=1e-3)


def test_nothing_defined():
    nothing = [CaseScores("a", {"liver": UNDEFINED}), CaseScores("b", {})]
    assert interval(nothing) == interval([]) == Interval(None, None, None, 0, 0)
    assert spread(nothing) == Spread(None, None, None, None, None, 0)
    assert compare_cases(nothing, nothing) == Comparison(None, None, None, None, None, 0, 0)


def test_the_seed_decides():
    some = cases(*np.random.default_rng(0).random(9))
    assert interval(some) == interval(some) == interval(some[::-1])
    assert interval(some) != interval(some, seed=1)


def test_metrics_and_levels_are_checked():
    with pytest.raises(UserError, match="unknown metric; seen: dice; allowed: dsc, nsd, hd95_mm"):
        interval(cases(1), "dice")
    with pytest.raises(UserError, match="a level of coverage"):
        interval(cases(1), level=95)
    assert interval([CaseScores("a", {"liver": Score(1, 1, hd95_mm=4)})], "hd95_mm").mean == 4


def test_a_comparison_by_hand():
    a = [case("1", liver=0.5, spleen=0.4), case("2", liver=0.7), case("3", liver=0.1)]
    b = [case("1", liver=0.6, aorta=0.9), case("2", liver=0.9), case("4", liver=1.0)]
    found = compare_cases(a, b, organ="liver")
    assert found.difference == pytest.approx(0.15)
    assert (found.patients, found.cases, found.left_out) == (2, 2, 2)
    assert (found.low, found.high) == (pytest.approx(0.1), pytest.approx(0.2))
    assert found.p == 0.5  # ranks 1 and 2, both positive: 2 of 4 signs, two-sided
    overall = compare_cases(a, b)
    assert overall.difference == pytest.approx(0.15)
    assert overall.left_out == 4  # spleen, aorta, case 3, case 4


def test_the_overall_difference_is_over_organs():
    a = [case("1", liver=0.5, spleen=0.5), case("2", liver=0.5)]
    b = [case("1", liver=0.7, spleen=0.6), case("2", liver=0.9)]
    assert compare_cases(a, b).difference == pytest.approx((0.3 + 0.1) / 2)
    back = compare_cases(b, a)
    assert back.difference == pytest.approx(-0.2)
    assert (back.low, back.high) == (
        pytest.approx(-compare_cases(a, b).high),
        pytest.approx(-compare_cases(a, b).low),
    )


def test_one_patient_gives_one_difference():
    a = [case("1", "p", liver=0.1), case("2", "p", liver=0.2)]
    b = [case("1", "p", liver=0.3), case("2", "p", liver=0.4)]
    found = compare_cases(a, b)
    assert found.difference == pytest.approx(0.2)
    assert (found.low, found.high, found.p) == (None, None, 1.0)


def test_no_difference_has_no_p():
    same = cases(0.3, 0.4)
    found = compare_cases(same, same)
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, None)


def test_two_cases_of_one_id_are_refused():
    with pytest.raises(UserError, match="x: two cases of one id"):
        compare_cases([case("x", liver=1), case("x", liver=1)], [])


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([0.5], 1.0),
        ([1, 2, 3], 0.25),  # 2 / 8
        ([1, 2, 3, 4, 5, 6], 0.03125),  # 2 / 64
        ([-1, 2, 3, 4, 5, 6], 0.0625),  # rank sums 0 and 1: 2 of 64, two-sided
        ([1, 1], 0.5),
        ([1, -1], 1.0),
        ([0.0, 0.0, 1, 2, 3], 0.25),
    ],
)
def test_signed_ranks_by_hand(differences, expected):
    assert signed_rank_p(differences) == pytest.approx(expected)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40, unique_by=lambda v: round(abs(v), 9)))
def test_signed_ranks_as_scipy(values):
    values = [round(v, 9) for v in values if round(v, 9)]
    if values:
        expected = stats.wilcoxon(values, method="exact").pvalue
        assert signed_rank_p(values) == pytest.approx(expected, rel=1e-9)


def test_many_patients_go_by_the_normal_distribution():
    values = np.random.default_rng(3).normal(0.02, 0.1, 300)
    near = signed_rank_p(values[:100])
    assert near == pytest.approx(stats.wilcoxon(values[:100], method="asymptotic").pvalue, abs=0.01)
    assert 0 < signed_rank_p(values) < near


def test_spread_by_hand():
    found = spread(cases(0.0, 0.2, 0.4, 1.0), organ="liver")
    assert found.mean == pytest.approx(0.4)
    assert found.sd == pytest.approx(np.sqrt((0.16 + 0.04 + 0 + 0.36) / 3))
    assert (found.p25, found.p50, found.p75) == (
        pytest.approx(0.15),
        pytest.approx(0.3),
        pytest.approx(0.55),
    )
    assert found.n == 4
    assert spread(cases(0.5)).sd is None
    whole = spread([case("a", liver=1.0, spleen=0.0), CaseScores("b", {"liver": ZERO})])
    assert (whole.mean, whole.n) == (0.25, 2)
