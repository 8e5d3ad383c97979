"""Choosing without truth, rank correlation and regret, worked by hand."""

import inspect
import typing

import pytest

from labelferry.experiments import choosing, criteria
from labelferry.experiments.choosing import CRITERION, Judged, Known, best, choose, correlate
from labelferry.experiments.choosingtables import (
    TRUTH,
    Study,
    agreement_table,
    choice_table,
    choice_text,
    study_csv,
    teacher_table,
)


def judged(seed, **values):
    return Judged(seed, {CRITERION: values})


def test_the_largest_mean_over_seeds_is_chosen():
    seeds = [judged(1, a=0.2, b=0.5, c=0.4), judged(2, a=0.9, b=0.5, c=0.1)]
    assert choose(seeds) == "a"
    assert choose(seeds[:1]) == "b"


def test_of_equals_the_first_row_is_chosen():
    assert choose([judged(1, b=0.5, a=0.5)]) == "b"


def test_what_one_seed_lacks_cannot_be_chosen():
    assert choose([judged(1, a=0.2, b=0.9), judged(2, a=0.2)]) == "a"
    assert choose([judged(1, a=0.2, b=0.9), judged(2, a=0.2, b=None)]) == "a"
    assert choose([judged(1, a=None)]) is None
    assert choose([]) is None
    assert choose([judged(1, a=0.2)], "no such criterion") is None


def test_spearman_by_hand():
    truth = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.9}
    seen = {"a": 10.0, "b": 30.0, "c": 20.0, "d": 40.0}
    # rank differences 0, 1, 1, 0: rho = 1 - 6 · 2 / (4 · 15)
    assert correlate([seen], [truth]).raw == pytest.approx(0.8)
    assert correlate([seen], [truth]).within == pytest.approx(0.8)


def test_ties_share_their_rank():
    truth = {"a": 1.0, "b": 2.0, "c": 3.0}
    seen = {"a": 5.0, "b": 5.0, "c": 6.0}
    # ranks 1.5, 1.5, 3 and 1, 2, 3: covariance 1.5, variances 1.5 and 2
    assert correlate([seen], [truth]).raw == pytest.approx(1.5 / (1.5 * 2) ** 0.5)


def test_an_easy_seed_makes_no_correlation_within_seeds():
    """Seed 2 is better in everything; in each seed the criterion is exactly wrong."""
    seen = [{"a": 1.0, "b": 2.0, "c": 3.0}, {"a": 11.0, "b": 12.0, "c": 13.0}]
    truth = [{"a": 3.0, "b": 2.0, "c": 1.0}, {"a": 13.0, "b": 12.0, "c": 11.0}]
    found = correlate(seen, truth)
    # ranks 1…6 and 3 2 1 6 5 4: sum of squared differences 16
    assert found.raw == pytest.approx(1 - 6 * 16 / (6 * 35))
    assert found.within == pytest.approx(-1)
    assert found.seeds == pytest.approx((-1, -1))
    assert found.teachers == 6


def test_what_says_nothing_has_no_correlation():
    assert correlate([{"a": 1.0, "b": 2.0}], [{"a": 1.0, "b": 2.0}]).raw is None
    same = {"a": 1.0, "b": 1.0, "c": 1.0}
    assert correlate([same], [{"a": 1.0, "b": 2.0, "c": 3.0}]).raw is None
    nothing = correlate([same], [{}])
    assert (nothing.raw, nothing.within, nothing.seeds, nothing.teachers) == (
        None,
        None,
        (None,),
        0,
    )


NAMES = {"a": "Row A", "b": "Row B", "c": "Row C"}
VALIDATION = ({"a": 0.3, "b": 0.5, "c": 0.4}, {"a": 0.3, "b": 0.6, "c": 0.5})
TEST = ({"a": 0.2, "b": 0.4, "c": 0.45}, {"a": 0.2, "b": 0.6, "c": 0.3})
SEEN = (judged(1, a=0.1, b=0.2, c=0.3), judged(2, a=0.1, b=0.2, c=0.3))


def study(validation=VALIDATION, test=TEST):
    known = (Known(n, *both) for n, both in enumerate(zip(validation, test, strict=True), start=1))
    return Study(NAMES, SEEN, tuple(known))


def test_regret_is_what_truths_choice_has_more_on_the_test():
    line, truth = choice_table(study()).rows
    # c: validation 45, test 37.5; truth chooses b: validation 55, test 50
    assert line[1:5] == ("Row C", "45.0", "37.5", "+12.5")
    # of each seed: 0.40 - 0.45 and 0.6 - 0.3
    assert line[5] == "−5.0 / +30.0"
    assert truth == (TRUTH, "Row B", "55.0", "50.0", "0.0", "0.0 / 0.0")
    assert choice_text(study()).endswith("Row C; truth would choose Row B")


def test_rank_correlations_stand_beside_the_number_of_teachers():
    table = agreement_table(study())
    line, truth = table.rows
    assert "over 6 teachers" in table.note
    assert line[0] == f"{CRITERION} (decides)"
    # in each seed ranks 1 2 3 against 1 3 2: 0.5; on the test 1 and 0.5
    assert line[2:4] == ("0.50", "0.50 / 0.50")
    assert line[6] == "1.00 / 0.50"
    assert truth[1:4] == ("–",) * 3 and truth[6] == "0.50 / 1.00"


def test_without_truth_the_choice_is_the_same():
    without = study(validation=({}, {}))
    line, truth = choice_table(without).rows
    assert line[1] == choice_table(study()).rows[0][1] == "Row C"
    assert (line[2], line[4], line[5]) == ("–", "–", "– / –")
    assert truth[1] == "–"
    assert choice_text(without).endswith("Row C")
    assert agreement_table(without).rows[0][1:4] == ("–", "–", "– / –")


def test_no_choice_can_take_truth():
    """Truth is of type ``Known`` or a path to labels: neither reaches what judges and chooses."""
    judging = [f for _, f in inspect.getmembers(criteria, inspect.isfunction)]
    judging = [f for f in judging if f.__module__ == criteria.__name__]
    for function in (*judging, choosing.choose):
        hints = typing.get_type_hints(function)
        assert not any("Known" in str(hint) for hint in hints.values()), function
        assert not any("truth" in name for name in hints), function
    assert "evaluate.truth" not in inspect.getsource(criteria)
    assert best(VALIDATION) == "b"  # as truth chooses


def test_teachers_and_csv():
    table = teacher_table(study())
    assert table.header == ("row", CRITERION, "validation DSC %", "test DSC %")
    assert table.rows[1] == ("Row B", "0.200", "55.0", "50.0")
    lines = study_csv(study()).splitlines()
    assert lines[0] == f"row,seed,{CRITERION},validation_dsc,test_dsc"
    assert lines[1] == "a,1,0.1,0.3,0.2" and len(lines) == 7
