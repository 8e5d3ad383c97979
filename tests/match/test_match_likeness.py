"""The same patient known by an image where no id tells."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from match_scene import SHAPE, case, grid, pose

from labelferry.match.case import Descriptor
from labelferry.match.likeness import find_alike, likeness, sketch
from labelferry.volume import Grid, Volume


def _sketch(seen):
    return sketch(seen.anatomy, seen.body)


def _line(*values, corner=0):
    """A sketch whose values repeat along x; 8 mm lattice."""
    affine = np.diag([8.0, 8.0, 8.0, 1.0])
    affine[0, 3] = 8.0 * corner
    array = np.broadcast_to(np.array(values, np.int8)[:, None, None], (len(values), 20, 20))
    return Volume(array, Grid(array.shape, affine))


def test_likeness_by_hand():
    """Means 0; products 1·2 + 1·2 over sqrt(2·8): 1 where both rise, -1 where one falls."""
    rising, falling = _line(1, -1, 1, -1), _line(-2, 2, -2, 2)
    assert likeness(rising, _line(2, -2, 2, -2)) == pytest.approx(1)
    assert likeness(rising, falling) == pytest.approx(-1)
    # one lattice step further along x only three columns are shared: (-1, 1, -1) and (-2, 2, -2)
    assert likeness(rising, _line(-2, 2, -2, 2, corner=1)) == pytest.approx(1)
    # 0 is outside the body: three columns of 400 places are enough, two are not
    assert likeness(rising, _line(2, -2, 2, 0)) == pytest.approx(1)
    assert likeness(rising, _line(2, -2, 0, 0)) == 0
    assert likeness(rising, _line(3, 3, 3, 3)) == 0  # no edge
    assert likeness(rising, _line(1, -1, corner=9)) == 0  # apart


def test_one_patient_in_two_sequences_and_two_patients():
    first, second = _sketch(case("a", "T1")), _sketch(case("b", "T2", seed=4))
    other = _sketch(case("c", "T2", pose((6, -5, 10), (1.1, 0.9, 1.05), (10, -8, 12))))
    assert likeness(first, second) > 0.5 > 0.3 > likeness(first, other)
    assert first.array.dtype == np.int8
    assert first.array.size < np.prod(SHAPE)


def test_the_grid_does_not_matter():
    fine, coarse = case("a", "T1"), case("b", "T1", on=grid((12.0, -6.0, 9.0), (6, 6, 5)))
    assert likeness(_sketch(fine), _sketch(coarse)) > 0.6


@given(st.tuples(*[st.integers(-3, 3)] * 3))
@settings(max_examples=10, deadline=None)
def test_moving_both_by_whole_steps_changes_nothing(steps):
    one, two = case("a", "T1"), case("b", "T2", seed=2)
    before = likeness(_sketch(one), _sketch(two))
    shift = tuple(8.0 * n for n in steps)

    def there(seen):
        affine = np.array(seen.anatomy.grid.affine)
        affine[:3, 3] += shift
        on = Grid(SHAPE, affine)
        return sketch(Volume(seen.anatomy.array, on), Volume(seen.body.array, on))

    assert likeness(there(one), there(two)) == pytest.approx(before, abs=1e-3)
    assert likeness(_sketch(two), _sketch(one)) == pytest.approx(before, abs=1e-6)


def _row(name, patient=None, domain="T1") -> Descriptor:
    return Descriptor(name, patient or name, domain, 0.0, (0.0, 0.0, 0.0), (0.0,))


SEEN = {
    "a": _line(1, -1, 1, -1, 1),
    "b": _line(1, 1, -1, -1, 1),
    "x": _line(2, -2, 2, -2, 2),
    "y": _line(3, -3, 3, -3, 2),
}


def test_the_likest_is_paired_and_no_image_twice():
    followers = [_row("x", domain="T2"), _row("y", domain="T2")]
    found = find_alike(followers, [_row("a"), _row("b")], SEEN.__getitem__, 0.5)
    assert set(found) == {"x"} and found["x"] == {"a": pytest.approx(1)}
    # an anchor of another domain is one more image of the patient
    found = find_alike(followers[:1], [_row("a"), _row("y", domain="PD")], SEEN.__getitem__, 0.5)
    assert set(found["x"]) == {"a", "y"}
    assert find_alike(followers, [_row("b")], SEEN.__getitem__, 0.5) == {}


def test_known_patients_are_not_looked_at():
    follower, anchor = _row("x", "p", "T2"), _row("a", "q")
    assert find_alike([follower], [anchor], SEEN.__getitem__, 0.5) == {}
    assert find_alike([follower], [_row("a")], SEEN.__getitem__, 0.5).keys() == {"x"}
    assert find_alike([_row("a")], [_row("a")], SEEN.__getitem__, 0.5) == {}  # itself
