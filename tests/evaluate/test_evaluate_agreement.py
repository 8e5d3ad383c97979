"""Agreement between label maps, worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from labelferry.errors import UserError
from labelferry.evaluate.agreement import agreement, mean_agreement, others_vote
from labelferry.evaluate.overlap import dice


def row(*values):
    return np.array(values, np.uint8).reshape(-1, 1, 1)


def test_dice_of_every_organ_that_either_holds():
    a, b = row(1, 1, 1, 2, 0), row(1, 0, 2, 2, 3)
    # 1: 2·1 / (3 + 1); 2: 2·1 / (1 + 2); 3: only in b
    assert agreement(a, b) == pytest.approx({1: 0.5, 2: 2 / 3, 3: 0.0})
    assert mean_agreement(a, b) == pytest.approx((0.5 + 2 / 3) / 3)


def test_empty_label_maps_agree_about_nothing():
    assert agreement(row(0, 0), row(0, 0)) == {}
    assert mean_agreement(row(0, 0), row(0, 0)) is None
    assert mean_agreement(row(0, 0), row(4, 0)) == 0.0


def test_label_maps_of_two_shapes_are_refused():
    with pytest.raises(UserError, match="differ in shape"):
        agreement(row(1, 2), row(1, 2, 3))


maps = arrays(np.uint8, (3, 4, 2), elements=st.integers(0, 5))


@given(maps, maps)
def test_agreement_is_dice_both_ways(a, b):
    found = agreement(a, b)
    assert found == agreement(b, a)
    for organ in range(1, 6):
        assert found.get(organ) == dice(a == organ, b == organ)
    assert set(agreement(a, a).values()) <= {1.0}


def test_the_others_vote_without_oneself():
    maps = [row(1, 1, 2, 0), row(1, 2, 2, 3), row(0, 2, 2, 3), row(1, 2, 0, 0)]
    votes = others_vote(maps)
    # first: 1 of {1,0,1}, 2 of {2,2,2}, 2 of {2,2,0}, 3 of {3,3,0}
    assert votes[0].ravel().tolist() == [1, 2, 2, 3]
    # second: 1 of {1,0,1}, 2 of {1,2,2}, 2 of {2,2,0}, 0 of {0,3,0}
    assert votes[1].ravel().tolist() == [1, 2, 2, 0]
    assert votes[3].ravel().tolist() == [1, 2, 2, 3]


def test_of_equal_votes_the_smallest_id_wins():
    votes = others_vote([row(5, 9), row(3, 2), row(0, 1)])
    assert [vote.ravel().tolist() for vote in votes] == [[0, 1], [0, 1], [3, 2]]


def test_a_vote_needs_three():
    with pytest.raises(UserError, match="three"):
        others_vote([row(1), row(1)])


def test_votes_of_empty_maps_are_empty():
    assert not np.any(others_vote([row(0, 0)] * 3))
