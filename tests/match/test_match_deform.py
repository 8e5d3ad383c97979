"""The free-form step after the affine, and what is carried through it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from match_scene import case, dice, grid
from scipy import ndimage

from labelferry.match import deform as room
from labelferry.match.config import MatchConfig
from labelferry.match.deform import Deformation, deform, jacobian, worth_it
from labelferry.match.transfer import carried_shares, carry, carry_image
from labelferry.volume import Grid, Segmentation, Volume

CONFIG = MatchConfig()
STILL = np.eye(4)


def _bent(shape, voxels):
    """A smooth push along x, largest in the middle."""
    places = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    push = voxels * np.prod([np.cos(np.pi / 2 * p) for p in places], axis=0)
    return np.stack([push, np.zeros(shape), np.zeros(shape)]).astype(np.float32)


def test_a_bend_is_found_and_labels_follow_it():
    fixed = case("f", "T2")
    bend = _bent(fixed.image.grid.shape, 3.0)  # 15 mm
    moving = case("m", "T1")
    on = fixed.image.grid
    # the moving patient is the fixed one bent the other way: carrying through the bend undoes it
    bent = replace(
        moving,
        anatomy=carry_image(moving.anatomy, on, STILL, -bend),
        labels=carry(moving.labels, on, STILL, -bend),
    )
    found = deform(fixed.anatomy, bent.anatomy, fixed.body, CONFIG)
    assert found.shift is not None and found.least_jacobian > 0
    assert 4 < found.largest_mm < 30
    before = dice(bent.labels.array, fixed.labels.array)
    after = dice(carry(bent.labels, on, STILL, found.shift).array, fixed.labels.array)
    assert before < 0.8 and after > before + 0.1
    again = deform(fixed.anatomy, bent.anatomy, fixed.body, CONFIG)
    np.testing.assert_array_equal(found.shift, again.shift)
    json.dumps(found.to_json(), allow_nan=False)


def test_a_bend_that_brings_the_edges_no_nearer_is_not_taken():
    """Rows of edges one voxel off: bent onto each other they agree; bent away they do not."""
    one = case("a")
    on = one.image.grid
    bend = _bent(on.shape, 2.0)
    off = carry_image(one.anatomy, on, STILL, -bend)
    found = Deformation(bend, 10.0, 0.8, "demons")
    back = carry_image(off, on, STILL, bend)
    taken = worth_it(found, one.anatomy, off, back, one.body, CONFIG)
    assert taken.shift is bend and "edges agree" in taken.reason
    for wrong in (off, carry_image(off, on, STILL, -bend)):
        refused = worth_it(found, one.anatomy, off, wrong, one.body, CONFIG)
        assert refused.shift is None and "too little" in refused.reason
    always = MatchConfig(deform_least_gain=-2)
    assert worth_it(found, one.anatomy, off, off, one.body, always).shift is bend


def test_nothing_is_bent_where_nothing_differs_or_nothing_is_asked():
    one = case("a")
    same = deform(one.anatomy, one.anatomy, one.body, CONFIG)
    assert same.largest_mm < 0.01 and same.least_jacobian == pytest.approx(1, abs=1e-3)
    off = deform(one.anatomy, one.anatomy, one.body, MatchConfig(deform_iterations=0))
    assert off.shift is None and off.to_json()["ok"] is False
    flat = one.anatomy.with_array(np.zeros_like(one.anatomy.array))
    assert deform(flat, flat, one.body, CONFIG).largest_mm == 0


@pytest.mark.parametrize("shape", [(20, 16, 1), (5, 1, 5), (1, 1, 1)])
def test_thin_images(shape):
    on = Grid(shape, np.diag([3.0, 3.0, 5.0, 1.0]))
    image = Volume(np.random.default_rng(0).random(shape, np.float32), on)
    moved = Volume(np.roll(image.array, 1, axis=0), on)
    body = Volume(np.zeros(shape, bool), on)  # an empty body is everything
    found = deform(image, moved, body, CONFIG)
    assert found.shift is None or np.isfinite(found.shift).all()


def test_a_field_that_folds_is_calmed_or_given_up(monkeypatch):
    one = case("a")
    shape = one.image.grid.shape
    folding = np.zeros((3, *shape), np.float32)
    folding[0, 20:24] = 6.0
    assert jacobian(folding).min() < 0
    monkeypatch.setattr(room, "_demons", lambda *_: folding)
    calmed = deform(one.anatomy, one.anatomy, one.body, MatchConfig(deform_smoothing_mm=15.0))
    assert calmed.shift is not None and calmed.least_jacobian > 0
    given_up = deform(one.anatomy, one.anatomy, one.body, MatchConfig(deform_smoothing_mm=0.1))
    assert given_up.shift is None and given_up.reason == "the deformation folds"
    monkeypatch.setattr(room, "_demons", lambda *_: np.full((3, *shape), np.nan, np.float32))
    assert "not finite" in deform(one.anatomy, one.anatomy, one.body, CONFIG).reason


@given(st.lists(st.floats(-0.25, 0.25), min_size=9, max_size=9))
@settings(max_examples=25, deadline=None)
def test_jacobian_of_a_linear_field_is_its_determinant(values):
    linear = np.array(values, np.float64).reshape(3, 3)
    index = np.indices((5, 4, 3)).astype(np.float64)
    shift = np.tensordot(linear, index, axes=1).astype(np.float32)
    np.testing.assert_allclose(jacobian(shift), np.linalg.det(np.eye(3) + linear), atol=1e-4)


@given(st.tuples(*[st.floats(-2.5, 2.5)] * 3))
@settings(max_examples=15, deadline=None)
def test_a_constant_shift_is_a_translation(voxels):
    """Through a field of one value as through the affine of the same translation."""
    moving = case("m")
    on = moving.labels.grid
    shift = np.ones((3, *on.shape), np.float32) * np.array(voxels, np.float32)[:, None, None, None]
    matrix = np.eye(4)
    matrix[:3, 3] = on.affine[:3, :3] @ np.array(voxels)
    by_field = carry_image(moving.image, on, STILL, shift).array
    by_affine = carry_image(moving.image, on, matrix).array
    inner = (slice(3, -3),) * 3  # at the border the one clips where the other blends
    np.testing.assert_allclose(by_field[inner], by_affine[inner], atol=2e-3)
    maps = carry(moving.labels, on, STILL, shift), carry(moving.labels, on, matrix)
    assert dice(*(labels.array for labels in maps)) > 0.99


def test_shares_are_the_interpolated_masks():
    on = grid(shape=(4, 1, 1))
    labels = Segmentation(np.array([1, 1, 2, 0], np.uint8).reshape(4, 1, 1), on)
    half = np.zeros((3, 4, 1, 1), np.float32)
    half[0] = 0.5
    shares = {organ: share.ravel() for organ, share in carried_shares(labels, on, STILL, half)}
    np.testing.assert_allclose(shares[1], [1, 0.5, 0, 0], atol=1e-5)
    np.testing.assert_allclose(shares[2], [0, 0.5, 0.5, 0], atol=1e-5)
    whole = {organ: share.ravel() for organ, share in carried_shares(labels, on, STILL)}
    np.testing.assert_allclose(whole[1], [1, 1, 0, 0], atol=1e-6)
    smooth = ndimage.gaussian_filter(half, 1)
    assert set(np.unique(carry(labels, on, STILL, smooth).array)) <= {0, 1, 2}
