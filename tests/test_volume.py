from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from nibabel import orientations

from labelferry.errors import UserError
from labelferry.volume import (
    Box,
    Grid,
    Segmentation,
    Volume,
    bounding_box,
    canonical,
    canonical_grid,
    crop,
    reorient,
    resample,
    resample_labels,
    through_grid,
    uncrop,
)

relaxed = settings(deadline=None)  # a busy machine is no failure
shapes = st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 7))
spacings = st.tuples(*[st.floats(0.4, 9.0)] * 3)
ALL_ORDERS = [
    (order, flips)
    for order in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]


def rotation(degrees: tuple[float, float, float]) -> np.ndarray:
    out = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        turn = np.eye(3)
        a, b = [i for i in range(3) if i != axis]
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        out = out @ turn
    return out


def grid_of(shape, spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0), turn=(0.0, 0.0, 0.0)) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = rotation(turn) @ np.diag(spacing)
    affine[:3, 3] = origin
    return Grid(shape, affine)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    angles = st.floats(-180, 180)
    origins = st.floats(-500, 500)
    return grid_of(
        draw(shapes),
        draw(spacings),
        draw(st.tuples(origins, origins, origins)),
        draw(st.tuples(angles, angles, angles)),
    )


@st.composite
def boxes(draw: st.DrawFn, shape: tuple[int, int, int]) -> Box:
    start = [draw(st.integers(0, n - 1)) for n in shape]
    stop = [draw(st.integers(lo + 1, n)) for lo, n in zip(start, shape, strict=True)]
    return Box(tuple(start), tuple(stop))


# --- orientation


@pytest.mark.parametrize("turn", [(0, 0, 0), (20, -10, 30)], ids=["straight", "oblique"])
@pytest.mark.parametrize(("order", "flips"), ALL_ORDERS)
def test_every_orientation_comes_back_with_the_same_voxels(order, flips, turn):
    base = grid_of((3, 4, 5), (1.0, 2.0, 3.0), (10, -20, 30), turn)
    ornt = np.array([[axis, flip] for axis, flip in zip(order, flips, strict=True)], float)
    array = np.random.default_rng(0).permutation(60).reshape(3, 4, 5)
    stored = orientations.apply_orientation(array, ornt)
    affine = base.affine @ orientations.inv_ornt_aff(ornt, base.shape)
    volume = Volume(stored, Grid(stored.shape, affine))

    straight = canonical(volume)

    assert straight.grid.axes == "RAS"
    assert straight.grid.matches(base, 1e-9)
    np.testing.assert_array_equal(straight.array, array)
    back = reorient(straight, volume.grid)
    np.testing.assert_array_equal(back.array, stored)
    np.testing.assert_array_equal(back.grid.affine, affine)
    # a marked voxel stays where it is in the world
    for some in (volume, straight, back):
        index = np.argwhere(some.array == 17)[0].astype(float)
        np.testing.assert_allclose(
            some.grid.to_world(index), base.to_world(np.argwhere(array == 17)[0].astype(float))
        )


def test_reorient_refuses_a_grid_of_other_voxels():
    volume = Volume(np.zeros((3, 4, 5)), grid_of((3, 4, 5)))
    with pytest.raises(UserError, match="same voxels"):
        reorient(volume, grid_of((3, 4, 6)))


def test_canonical_keeps_a_segmentation_a_segmentation():
    labels = Segmentation(np.zeros((2, 3, 4), np.uint8), grid_of((2, 3, 4), (-1, 1, 1)))
    assert isinstance(canonical(labels), Segmentation)
    assert canonical_grid(labels.grid).axes == "RAS"


# --- grid


@relaxed
@given(grids(), npst.arrays(float, (4, 3), elements=st.floats(-50, 50)))
def test_index_and_world_are_inverse(grid, index):
    np.testing.assert_allclose(grid.to_index(grid.to_world(index)), index, atol=1e-6)


@relaxed
@given(grids(), spacings)
def test_resampled_grid_keeps_the_extent(grid, spacing):
    new = grid.resampled(spacing)
    assert min(new.shape) >= 1
    np.testing.assert_allclose(
        np.array(new.shape) * new.spacing, np.array(grid.shape) * grid.spacing, rtol=1e-9
    )
    for corner in itertools.product((0, 1), repeat=3):
        outer = [np.array(corner) * g.shape - 0.5 for g in (grid, new)]
        np.testing.assert_allclose(grid.to_world(outer[0]), new.to_world(outer[1]), atol=1e-6)


@relaxed
@given(grids())
def test_resampling_to_the_own_spacing_changes_nothing(grid):
    assert grid.resampled(grid.spacing).matches(grid, 1e-6)


@relaxed
@given(grids(), st.data())
def test_a_cropped_grid_stays_in_place(grid, data):
    box = data.draw(boxes(grid.shape))
    part = grid.cropped(box)
    np.testing.assert_allclose(
        part.to_world(np.zeros(3)), grid.to_world(np.array(box.start, float)), atol=1e-9
    )
    assert part.shape == tuple(b - a for a, b in zip(box.start, box.stop, strict=True))


def test_spacing_volume_and_distance():
    grid = grid_of((10, 20, 30), (0.5, 2.0, 5.0), turn=(10, 20, 30))
    np.testing.assert_allclose(grid.spacing, (0.5, 2.0, 5.0))
    assert grid.voxel_mm3 == pytest.approx(5.0)
    moved = np.array(grid.affine)
    moved[:3, 3] += (0, 3, 4)
    assert grid.distance(Grid(grid.shape, moved)) == pytest.approx(5.0)
    assert not grid.matches(Grid(grid.shape, moved))
    assert not grid.matches(grid_of((10, 20, 31), (0.5, 2.0, 5.0)))


@pytest.mark.parametrize(
    ("shape", "affine"),
    [
        ((2, 2), np.eye(4)),
        ((2, 2, 0), np.eye(4)),
        ((2, 2, 2), np.eye(3)),
        ((2, 2, 2), np.diag([1.0, 0.0, 1.0, 1.0])),
        ((2, 2, 2), np.diag([1.0, np.nan, 1.0, 1.0])),
    ],
)
def test_impossible_grids_are_refused(shape, affine):
    with pytest.raises(UserError):
        Grid(shape, affine)


def test_a_grid_does_not_change():
    affine = np.eye(4)
    grid = Grid((2, 2, 2), affine)
    affine[0, 0] = 5
    assert grid.spacing[0] == 1
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 5


def test_array_and_grid_must_agree():
    with pytest.raises(UserError, match="shape"):
        Volume(np.zeros((2, 3, 4)), grid_of((4, 3, 2)))


# --- crop


@relaxed
@given(grids(), st.data())
def test_uncrop_puts_a_part_back(grid, data):
    box = data.draw(boxes(grid.shape))
    array = np.arange(np.prod(grid.shape)).reshape(grid.shape) + 1
    volume = Volume(array, grid)
    part = crop(volume, box)
    back = uncrop(part, grid, box, fill=-1)
    np.testing.assert_array_equal(back.array[box.slices], array[box.slices])
    outside = np.ones(grid.shape, bool)
    outside[box.slices] = False
    assert (back.array[outside] == -1).all()
    assert back.array.dtype == array.dtype
    assert back.grid is grid


@relaxed
@given(npst.arrays(bool, shapes), st.integers(0, 2))
def test_bounding_box_holds_all_of_the_mask(mask, margin):
    box = bounding_box(mask, (margin,) * 3)
    assert mask[box.slices].sum() == mask.sum()
    if margin == 0 and mask.any():
        inside = mask[box.slices]
        assert all(inside.take(end, axis).any() for axis in range(3) for end in (0, -1))
    if not mask.any():
        assert box == Box((0, 0, 0), mask.shape)


# --- resampling


def ramp(grid: Grid) -> np.ndarray:
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), -1)
    x, y, z = np.moveaxis(grid.to_world(index.astype(float)), -1, 0)
    return 2 * x - 3 * y + 0.5 * z + 7


@settings(max_examples=30, deadline=None)
@given(spacings, st.sampled_from(["linear", "cubic"]), st.booleans())
def test_a_linear_ramp_is_exact_inside(spacing, order, oblique):
    grid = grid_of((36, 32, 30), (2.0, 2.5, 3.0), (5, 6, 7), (15, 0, 25) if oblique else (0, 0, 0))
    new = grid.resampled(np.clip(spacing, 1.5, 5.0))
    out = resample(Volume(ramp(grid), grid), new, order)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in new.shape), indexing="ij"), -1)
    old = grid.to_index(new.to_world(index.astype(float)))
    # smoothing, and the spline's edge, reach this far in from the border
    reach = 4.0 * np.maximum(0.0, (np.array(new.spacing) / grid.spacing - 1) / 2) + (
        9 if order == "cubic" else 1
    )
    inside = ((old >= reach) & (old <= np.array(grid.shape) - 1 - reach)).all(-1)
    assert inside.any()
    np.testing.assert_allclose(out.array[inside], ramp(new)[inside], atol=0.02)


def test_a_rotated_grid_samples_the_same_place():
    grid = grid_of((20, 20, 20), (2, 2, 2), (-19, -19, -19))
    turned = grid_of((8, 8, 8), (2, 2, 2), (-4, -6, -5), (30, 10, 45))
    out = resample(Volume(ramp(grid), grid), turned)
    np.testing.assert_allclose(out.array, ramp(turned), atol=1e-3)


def test_outside_stands_the_fill_or_the_border():
    grid = grid_of((4, 4, 4))
    volume = Volume(np.full((4, 4, 4), 5.0), grid)
    far = grid_of((2, 2, 2), origin=(50, 50, 50))
    assert (resample(volume, far, fill=-1024).array == -1024).all()
    assert (resample(volume, far).array == 5).all()


def test_coarse_resampling_smooths_texture():
    grid = grid_of((40, 8, 8))
    stripes = np.broadcast_to((np.arange(40) % 2)[:, None, None] * 100.0, grid.shape)
    coarse = resample(Volume(np.array(stripes), grid), grid.resampled((4, 1, 1)))
    assert np.ptp(coarse.array[2:-2]) < 25  # sampled alone it would swing by 100


@settings(max_examples=30, deadline=None)
@given(npst.arrays(np.uint8, shapes, elements=st.integers(0, 200)), spacings)
def test_resampled_labels_invent_no_id(array, spacing):
    labels = Segmentation(array, grid_of(array.shape, (2, 2, 2)))
    out = resample_labels(labels, labels.grid.resampled(spacing))
    assert isinstance(out, Segmentation)
    assert out.array.dtype == np.uint8
    assert set(np.unique(out.array)) <= set(np.unique(array)) | {0}


@settings(max_examples=25, deadline=None)
@given(spacings)
def test_a_big_organ_keeps_its_volume(spacing):
    array = np.zeros((40, 40, 40), np.uint8)
    array[8:32, 6:36, 10:30] = 3
    labels = Segmentation(array, grid_of(array.shape, (2, 2, 2)))
    new = labels.grid.resampled(np.minimum(spacing, 5.0))
    volume = (resample_labels(labels, new).array == 3).sum() * new.voxel_mm3
    before = (array == 3).sum() * 8
    # each face may move by half a voxel
    faces = 2 * np.array([30 * 20, 24 * 20, 24 * 30]) * 4
    assert abs(volume - before) <= (faces * np.array(new.spacing) / 2).sum()


def test_labels_on_the_same_grid_are_untouched():
    array = np.random.default_rng(1).integers(0, 14, (5, 6, 7)).astype(np.uint8)
    labels = Segmentation(array, grid_of((5, 6, 7), (1, 2, 3)))
    np.testing.assert_array_equal(resample_labels(labels, labels.grid).array, array)


def test_touching_organs_leave_no_gap():
    array = np.zeros((20, 10, 10), np.uint8)
    array[:10], array[10:] = 1, 2
    labels = Segmentation(array, grid_of(array.shape, (2, 2, 2)))
    out = resample_labels(labels, labels.grid.resampled((1.3, 2, 2)))
    # at the outer faces half a voxel of the sampling lies outside; the inner border has none
    assert (out.array[2:-2] > 0).all()
    assert (np.diff(out.array[2:-2].astype(int), axis=0) >= 0).all()


@relaxed
@given(shapes, spacings, st.integers(0, 2**32 - 1))
def test_labels_come_back_unchanged_from_their_own_grid_and_from_no_other_with_new_ones(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], seed: int
) -> None:
    array = np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint8)
    labels = Segmentation(array, Grid(shape, np.diag([*spacing, 1.0])))
    np.testing.assert_array_equal(through_grid(labels, labels.grid).array, array)
    back = through_grid(labels, labels.grid.resampled([1.7 * mm for mm in spacing]))
    assert back.grid is labels.grid and back.held <= labels.held
