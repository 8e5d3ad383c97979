"""Resampling by matrices is nnU-Net's own, on any shape and spacing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunetv2.preprocessing.resampling.default_resampling import (
    compute_new_shape,
    determine_do_sep_z_and_axis,
    resample_data_or_seg_to_shape,
)

from labelferry.segment.resampling import (
    Resampling,
    nearest_index,
    resample_image,
    resampled_shape,
    spline_matrix,
)

SHAPES = st.tuples(st.integers(1, 14), st.integers(1, 14), st.integers(1, 14))
MM = st.sampled_from([0.6, 0.81, 1.2, 1.2, 2.5, 3.0, 7.7])
SPACINGS = st.tuples(MM, MM, MM)
APART = st.sampled_from([None, True, False])


def noise(shape, seed):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    SHAPES, SHAPES, SPACINGS, SPACINGS, st.integers(0, 3), st.integers(0, 3), APART, st.integers(0)
)
def test_it_is_nnunets(shape, new, spacing, new_spacing, order, order_z, separate, seed):
    image = noise(shape, seed)
    expected = resample_data_or_seg_to_shape(
        image[None], new, spacing, new_spacing, order=order, order_z=order_z,
        force_separate_z=separate,
    )[0]  # fmt: skip
    how = Resampling(order, order_z, separate)
    found = resample_image(image, new, spacing, new_spacing, how)
    assert found.dtype == np.float32 and found.shape == new
    np.testing.assert_allclose(found, expected, atol=2e-5)


@settings(max_examples=200, deadline=None)
@given(SHAPES, SPACINGS, SPACINGS, APART)
def test_the_axis_apart_and_the_shape_are_nnunets(shape, spacing, new_spacing, separate):
    expected = determine_do_sep_z_and_axis(separate, spacing, new_spacing)[1]
    assert Resampling(separate=separate).axis_apart(spacing, new_spacing) == expected
    assert resampled_shape(shape, spacing, new_spacing) == tuple(
        compute_new_shape(shape, spacing, new_spacing)
    )


def test_the_keywords_are_those_of_the_plans():
    keywords = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    assert Resampling.of(keywords) == Resampling(1, 0, None)
    assert Resampling.of({}) == Resampling(3, 0, False)  # nnU-Net's own defaults


def test_a_line_by_hand():
    # two voxels become four: at a quarter and three quarters of the way, edges repeated
    expected = [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    np.testing.assert_allclose(spline_matrix(2, 4, 1), expected, atol=1e-6)
    assert nearest_index(2, 4).tolist() == [0, 0, 1, 1]
    assert nearest_index(4, 2).tolist() == [1, 3]  # centres between two old ones: the upper


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 3))
def test_a_constant_stays_itself(old, new, order):
    np.testing.assert_allclose(spline_matrix(old, new, order).sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("apart", [None, True])
def test_splines_do_not_leave_the_range(apart):
    image = np.zeros((6, 9, 9), np.float32)
    image[:, 4:, :] = 1
    image[3] *= 0.5
    how = Resampling(3, 0, apart)
    found = resample_image(image, (6, 20, 20), (5.0, 1.0, 1.0), (5.0, 0.5, 0.5), how)
    assert found.min() >= 0 and found.max() <= 1
    if apart:
        assert found[3].max() <= 0.5, "each plane by itself"
