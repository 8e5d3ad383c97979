"""DSC and the normalised surface Dice: golden values, and the reference implementation."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from labelferry.evaluate.boxes import boxes
from labelferry.evaluate.marching import CORNERS, surfel_areas
from labelferry.evaluate.overlap import dice
from labelferry.evaluate.surface import nsd, surface_area, surface_distances

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import surface_distance
    from surface_distance import lookup_tables


def ellipsoid(centre, radius, shape=(40, 40, 20), spacing=(1.2, 1.2, 3.0)):
    index = np.indices(shape)
    offset = [(index[a] - centre[a]) * spacing[a] for a in range(3)]
    return sum(o * o for o in offset) <= radius * radius


TRUTH = ellipsoid((20, 20, 10), 14.0)
PREDICTION = ellipsoid((21, 19, 10), 12.0)
ELLIPSOID_MM = (1.2, 1.2, 3.0)


def box(moved=0):
    mask = np.zeros((12, 12, 12), bool)
    mask[3 + moved : 9 + moved, 3:9, 3:9] = True
    return mask


def test_ellipsoid_dice():
    assert (TRUTH.sum(), PREDICTION.sum()) == (2645, 1661)
    assert dice(PREDICTION, TRUTH) == pytest.approx(0.7714816535, abs=1e-10)


@pytest.mark.parametrize(
    ("tolerance", "expected"),
    [
        (0.5, 0.3205179623),
        (1.0, 0.3205179623),
        (2.0, 0.6352391486),
        (3.0, 0.9177912087),
        (5.0, 1.0),
    ],
)
def test_ellipsoid_nsd(tolerance, expected):
    assert nsd(PREDICTION, TRUTH, ELLIPSOID_MM, tolerance) == pytest.approx(expected, abs=1e-10)


def test_ellipsoid_areas():
    assert surface_area(TRUTH, ELLIPSOID_MM) == pytest.approx(2807.1381842964, abs=1e-9)
    assert surface_area(PREDICTION, ELLIPSOID_MM) == pytest.approx(2020.4668918881, abs=1e-9)


def test_box_dice():
    assert dice(box(1), box()) == pytest.approx(5 / 6)


@pytest.mark.parametrize(
    ("spacing", "tolerance", "expected"),
    [
        ((1, 1, 1), 0.0, 0.66518),
        ((1, 1, 1), 0.5, 0.66518),
        ((1, 1, 1), 1.0, 1.0),
        ((1, 1, 2.5), 0.5, 0.5979),
        ((2, 1, 1), 0.5, 0.773437),
        ((2, 1, 1), 1.0, 0.822516),
        ((2, 1, 1), 2.0, 1.0),
    ],
)
def test_box_nsd(spacing, tolerance, expected):
    # the golden numbers are given with 4 to 6 decimals
    assert nsd(box(1), box(), spacing, tolerance) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [((1, 1, 1), 194.158458), ((1, 1, 2.5), 392.881222), ((2, 1, 1), 326.005631)],
)
def test_box_area(spacing, expected):
    assert surface_area(box(), spacing) == pytest.approx(expected, abs=1e-6)


def test_one_voxel_is_an_octahedron():
    mask = np.ones((1, 1, 1), bool)
    # eight triangles that cut half an edge off each corner: sides of sqrt(1/2)
    assert surface_area(mask, (1, 1, 1)) == pytest.approx(8 * np.sqrt(3) / 8)


def test_an_organ_that_fills_the_image_is_closed_at_its_border():
    full = np.ones((3, 4, 5), bool)
    padded = np.pad(full, 2)
    assert surface_area(full, (1, 2, 3)) == pytest.approx(surface_area(padded, (1, 2, 3)))
    assert nsd(full, full, (1, 2, 3), 0.0) == 1.0


def test_empty_masks():
    empty, full = np.zeros((3, 3, 3), bool), np.ones((3, 3, 3), bool)
    assert dice(empty, empty) is None
    assert nsd(empty, empty, (1, 1, 1), 2.0) is None
    assert dice(empty, full) == dice(full, empty) == 0
    assert nsd(empty, full, (1, 1, 1), 2.0) == nsd(full, empty, (1, 1, 1), 2.0) == 0
    assert np.isinf(surface_distances(full, empty, (1, 1, 1)).prediction_mm).all()


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 2.0, 1.3), (3.2, 3.2, 5.0)])
def test_every_pattern_has_the_area_of_the_reference(spacing):
    reference = lookup_tables.create_table_neighbour_code_to_surface_area(spacing)
    bits = [int(lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL[corner]) for corner in CORNERS]
    theirs = [sum(bits[n] for n in range(8) if code >> n & 1) for code in range(256)]
    np.testing.assert_allclose(surfel_areas(spacing), np.array(reference)[theirs], atol=1e-12)


def reference_nsd(prediction, truth, spacing, tolerances):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = surface_distance.compute_surface_distances(truth, prediction, spacing)
    return [surface_distance.compute_surface_dice_at_tolerance(found, t) for t in tolerances]


size = st.integers(1, 9)
millimetres = st.floats(0.3, 6.0)


@settings(max_examples=120, deadline=None)
@given(
    shape=st.tuples(size, size, size),
    spacing=st.tuples(millimetres, millimetres, millimetres),
    share=st.floats(0.02, 1.0),
    seed=st.integers(0, 2**32 - 1),
    tolerances=st.lists(st.floats(0.0, 8.0), min_size=1, max_size=4),
)
def test_random_masks_as_the_reference(shape, spacing, share, seed, tolerances):
    rng = np.random.default_rng(seed)
    truth, prediction = rng.random((2, *shape)) < share
    truth.flat[rng.integers(truth.size)] = True  # the reference cannot do empty masks
    prediction.flat[rng.integers(truth.size)] = True
    expected = reference_nsd(prediction, truth, spacing, tolerances)
    ours = [nsd(prediction, truth, spacing, t) for t in tolerances]
    np.testing.assert_allclose(ours, expected, rtol=1e-9)


def reference_hd95(prediction, truth, spacing, percent):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = surface_distance.compute_surface_distances(truth, prediction, spacing)
    return surface_distance.compute_robust_hausdorff(found, percent)


@settings(max_examples=120, deadline=None)
@given(
    shape=st.tuples(size, size, st.integers(1, 30)),
    spacing=st.tuples(millimetres, millimetres, millimetres),
    shares=st.tuples(st.floats(0.005, 1.0), st.floats(0.005, 1.0)),
    seed=st.integers(0, 2**32 - 1),
    turned=st.booleans(),
)
def test_hausdorff_of_random_masks_as_the_reference(shape, spacing, shares, seed, turned):
    rng = np.random.default_rng(seed)
    truth, prediction = (rng.random(shape) < share for share in shares)
    truth.flat[rng.integers(truth.size)] = True
    prediction.flat[rng.integers(truth.size)] = True
    if turned:  # as nibabel hands them over
        truth, prediction = np.asfortranarray(truth), np.asfortranarray(prediction)
    ours = surface_distances(prediction, truth, spacing).hausdorff()
    # where a step of the area falls on 95 % exactly, rounding decides
    low, high = (reference_hd95(prediction, truth, spacing, p) for p in (95 - 1e-9, 95 + 1e-9))
    assert low - 1e-9 <= ours <= high + 1e-9
    expected = reference_nsd(prediction, truth, spacing, [2.0])
    assert nsd(prediction, truth, spacing, 2.0) == pytest.approx(expected[0], rel=1e-9)


def test_surfaces_far_apart_are_found():
    truth, prediction = np.zeros((2, 90, 40, 30), bool)
    truth[2:20, 2:20, 2:20] = True
    prediction[60:88, 25:38, 20:28] = True
    spacing = (0.8, 1.0, 2.5)
    found = surface_distances(prediction, truth, spacing)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = surface_distance.compute_surface_distances(truth, prediction, spacing)
    np.testing.assert_allclose(np.sort(found.truth_mm), theirs["distances_gt_to_pred"])
    np.testing.assert_allclose(np.sort(found.prediction_mm), theirs["distances_pred_to_gt"])


def test_hausdorff_by_hand():
    assert surface_distances(box(1), box(), (1, 1, 1)).hausdorff(100) == 1.0
    assert surface_distances(box(1), box(), (2, 1, 1)).hausdorff(100) == 2.0
    assert surface_distances(box(), box(), (1, 1, 1)).hausdorff() == 0.0
    assert surface_distances(box(), np.zeros_like(box()), (1, 1, 1)).hausdorff() is None


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(size, size, size),
    most=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
    turned=st.booleans(),
)
def test_boxes_as_scipy_finds_them(shape, most, seed, turned):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 60, shape).astype(np.uint8) * (rng.random(shape) < 0.2)
    expected = {
        n: found
        for n, found in enumerate(ndimage.find_objects(labels, max_label=most), start=1)
        if found is not None
    }
    assert boxes(np.asfortranarray(labels) if turned else labels, most) == expected


@settings(max_examples=30, deadline=None)
@given(
    spacing=st.tuples(millimetres, millimetres, millimetres),
    centre=st.tuples(st.floats(4, 10), st.floats(4, 10), st.floats(4, 10)),
    radius=st.floats(3.0, 12.0),
    tolerance=st.floats(0.0, 8.0),
)
def test_smooth_shapes_as_the_reference(spacing, centre, radius, tolerance):
    truth = ellipsoid((7, 7, 7), radius, (16, 15, 14), spacing)
    prediction = ellipsoid(centre, radius * 0.8, (16, 15, 14), spacing)
    prediction[7, 7, 7] = True
    (expected,) = reference_nsd(prediction, truth, spacing, [tolerance])
    assert nsd(prediction, truth, spacing, tolerance) == pytest.approx(expected, rel=1e-9)
    # the two masks may change places
    assert nsd(truth, prediction, spacing, tolerance) == pytest.approx(expected, rel=1e-9)
