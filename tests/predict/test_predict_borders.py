"""Borders redrawn along the edges of an image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from labelferry.anatomy.config import AnatomyConfig
from labelferry.anatomy.prepare import prepare
from labelferry.predict import borders
from labelferry.predict.borders import redraw_borders, sharp_image, sharp_spacing
from labelferry.volume import Grid, Volume

relaxed = settings(deadline=None, max_examples=30)


def image(array, spacing=(1.0, 1.0, 1.0)):
    array = np.asarray(array, np.float32)
    return Volume(array, Grid(array.shape, np.diag([*spacing, 1.0])))


def large(array):
    """Voxels so large that smoothing by 1 mm changes nothing that matters."""
    return image(array, (5.0, 5.0, 5.0))


def line(first, last, size=40, value=1):
    out = np.zeros((size, 1, 1), np.uint8)
    out[first:last] = value
    return out


def test_a_label_beside_its_organ_moves_onto_it():
    seen = large(0.1 + 0.5 * line(10, 25))
    assert np.array_equal(redraw_borders(line(13, 28), seen, 25), line(10, 25))
    # the core of a label is believed: what is deeper than the reach remains
    assert redraw_borders(line(20, 35), seen, 25)[25:30].all()
    # nor does anything begin to be an organ further outside than that
    assert not redraw_borders(line(20, 35), seen, 25)[:15].any()


def test_where_a_walker_ends_by_hand():
    # A reach of 31 mm is six voxels: the core of 0..19 ends with 13 (35 mm deep), the outside
    # begins with 26 (35 mm away). Of the 13 steps between, n lie before voxel 13 + n, and from it
    # the walker meets the core first with a chance of 1 - n / 13: more than 0.35 up to n = 8. The
    # image is dark beyond, so that it is not the same everywhere.
    seen = np.full((40, 1, 1), 0.5)
    seen[27:] = 0.1
    assert np.array_equal(redraw_borders(line(0, 20), large(seen), 31), line(0, 22))
    # With a step after voxel 16 that is as long as r, the chance is 1 - 3 / (12 + r) before it and
    # 9 / (12 + r) after it: an edge, where r is large, parts what is the organ's and what is not
    seen[17:27] = 0.3
    assert np.array_equal(redraw_borders(line(0, 20), large(seen), 31), line(0, 17))


def test_two_organs_share_a_border_at_the_edge_between_them():
    truth = line(5, 20) + line(20, 33, value=2)
    seen = large(np.array([0.1, 0.4, 0.8])[truth])
    drawn = line(5, 23) + line(23, 33, value=2)
    assert np.array_equal(redraw_borders(drawn, seen, 30), truth)


def test_what_cannot_be_judged_stays():
    drawn = line(10, 20)
    assert np.array_equal(redraw_borders(drawn, image(np.full((40, 1, 1), 0.5)), 5), drawn)
    assert np.array_equal(redraw_borders(drawn, image(np.zeros((40, 1, 1))), 5), drawn)
    whole = np.ones((6, 6, 6), np.uint8)
    rng = np.random.default_rng(1)
    assert np.array_equal(redraw_borders(whole, image(rng.random((6, 6, 6))), 5), whole)
    none = np.zeros((6, 6, 6), np.uint8)
    assert np.array_equal(redraw_borders(none, image(rng.random((6, 6, 6))), 5), none)


def test_an_organ_that_takes_up_too_much_stays(monkeypatch):
    drawn, seen = line(13, 28), large(0.1 + 0.5 * line(10, 25))
    assert np.array_equal(redraw_borders(drawn, seen, 25), line(10, 25))
    for limit in ("LARGEST", "WIDEST"):
        with monkeypatch.context() as patched:
            patched.setattr(borders, limit, 16)
            assert np.array_equal(redraw_borders(drawn, seen, 25), drawn), limit


def test_borders_are_looked_for_on_small_voxels():
    assert sharp_spacing((1.2, 1.2, 3.0), (3.0, 3.0, 5.0)) == (2.0, 2.0, 3.0)
    assert sharp_spacing((1.2, 1.2, 9.0), (0.8, 0.8, 2.5)) == (0.8, 0.8, 2.5)
    rng = np.random.default_rng(2)
    body = ball((60, 50, 12), (30, 25, 6), 22) * (0.5 + 0.2 * rng.random((60, 50, 12)))
    found = prepare(image(1000 * body, (1.2, 1.2, 4.0)), "MR", AnatomyConfig(spacing=(3, 3, 4)))
    sharp = sharp_image(found)
    np.testing.assert_allclose(sharp.grid.spacing, (2.0, 2.0, 4.0), rtol=0.05)
    ends = [
        grid.to_world(np.array([(-0.5,) * 3, np.array(grid.shape) - 0.5]))
        for grid in (sharp.grid, found.image.grid, found.canonical.cropped(found.box))
    ]
    np.testing.assert_allclose(ends[0], ends[1])
    np.testing.assert_allclose(ends[0], ends[2])
    assert sharp.array.min() >= 0 and sharp.array.max() <= 1
    # a run keeps no finer image, and where the working voxels are no larger none is made
    fine = prepare(image(1000 * body, (1.2, 1.2, 4.0)), "MR", AnatomyConfig(spacing=(1.2, 1.2, 4)))
    assert sharp_image(fine) is fine.image


def ball(shape, centre, radius):
    places = np.indices(shape).T - np.array(centre)
    return (np.linalg.norm(places, axis=-1) < radius).T


@pytest.mark.parametrize("size", [(40, 40, 20), (60, 60, 30), (20, 20, 10)])
def test_the_labels_may_have_voxels_of_another_size(size):
    truth = ball((40, 40, 20), (20, 20, 10), 8)
    drawn = ball((40, 40, 20), (22, 19, 10), 8)
    factors = [b / a for a, b in zip(truth.shape, size, strict=True)]
    fine = ndimage.zoom(drawn.astype(np.uint8), factors, order=0, grid_mode=True, mode="nearest")
    wanted = ndimage.zoom(truth.astype(np.uint8), factors, order=0, grid_mode=True, mode="nearest")
    found = redraw_borders(fine, large(0.2 + 0.6 * truth), 20)
    assert found.shape == size and found.dtype == np.uint8

    def dice(a, b):
        return 2 * (a & b).sum() / (a.sum() + b.sum())

    assert dice(fine, wanted) < 0.9 < dice(found, wanted)


@relaxed
@given(
    st.integers(0, 2**32 - 1),
    st.floats(2, 8),
    st.tuples(*[st.floats(0.8, 4.0)] * 3),
    st.tuples(st.integers(1, 14), st.integers(6, 14), st.integers(1, 6)),
)
def test_no_border_moves_further_than_it_may(seed, reach, spacing, shape):
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.random((3, *shape)), (0, 1.5, 1.5, 1.0))
    labels = (noise.argmax(0) * (rng.random() < 0.9)).astype(np.uint8)
    seen = image(ndimage.gaussian_filter(rng.random(shape), 1), spacing)
    found = redraw_borders(labels, seen, reach)
    assert found.shape == shape and found.dtype == np.uint8
    assert np.array_equal(found, redraw_borders(labels, seen, reach))
    for organ in (1, 2):
        own, now = labels == organ, found == organ
        assert own.any() or not now.any()
        if not own.any():
            continue
        if own.all():
            assert np.array_equal(own, now)
            continue
        depth = ndimage.distance_transform_edt(own, sampling=spacing)
        assert now[depth > min(reach, depth.max() / 2)].all()
        assert not now[ndimage.distance_transform_edt(~own, sampling=spacing) > reach].any()


@relaxed
@given(st.integers(0, 2**32 - 1), st.floats(0.02, 2.0))
def test_every_piece_holds_some_of_the_core(seed, noise):
    rng = np.random.default_rng(seed)
    labels = ball((16, 16, 8), rng.uniform(5, 9, 3), 4).astype(np.uint8)
    seen = np.exp(noise * rng.normal(size=labels.shape)) / 20
    found = redraw_borders(labels, large(np.clip(seen, 0, 1)), 15)
    depth = ndimage.distance_transform_edt(labels, sampling=(5, 5, 5))
    pieces, _ = ndimage.label(found)
    with_core = pieces[depth > min(15, depth.max() / 2)]
    assert set(np.unique(pieces)) - {0} == set(np.unique(with_core))


@relaxed
@given(st.integers(0, 2**32 - 1), st.sampled_from([(0,), (1,), (2,), (0, 1), (0, 1, 2)]))
def test_a_mirrored_image_gives_mirrored_labels(seed, axes):
    rng = np.random.default_rng(seed)
    labels = (ball((14, 16, 9), rng.uniform(4, 8, 3), 4)).astype(np.uint8)
    seen = image(ndimage.gaussian_filter(rng.random((14, 16, 9)), 1), (1.5, 1.5, 3.0))
    turned = image(np.flip(seen.array, axes), seen.grid.spacing)
    there = redraw_borders(np.ascontiguousarray(np.flip(labels, axes)), turned, 4)
    assert np.mean(np.flip(there, axes) != redraw_borders(labels, seen, 4)) < 0.005
