from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from labelferry.anatomy.config import AnatomyConfig
from labelferry.anatomy.space import anatomy_space, gradient_magnitude

PLAIN = AnatomyConfig(smoothing_mm=(0, 0, 0), gradient_gamma=1.0)


def ramp(
    slope: tuple[float, float, float], spacing: tuple[float, float, float], n: int = 7
) -> np.ndarray:
    """slope · position in mm, at the voxels of a grid."""
    index = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), axis=-1)
    return np.asarray(index * spacing @ np.array(slope))


def test_ramp_by_hand() -> None:
    # 3 units per mm along x, 4 along z; voxels 0.5 x 2 x 5 mm: sqrt(9 + 16) = 5 per mm
    spacing = (0.5, 2.0, 5.0)
    image = ramp((3.0, 0.0, 4.0), spacing)
    assert_allclose(gradient_magnitude(image, spacing)[1:-1, :, 1:-1], 5.0, rtol=1e-5)
    # in the axial plane only the slope along x is seen
    assert_allclose(gradient_magnitude(image, spacing, (0, 1))[1:-1], 3.0, rtol=1e-5)
    # spacing in the other order of axes would give another number
    assert gradient_magnitude(image, spacing[::-1])[3, 3, 3] != pytest.approx(5.0, rel=0.1)


def test_sobel_weights_by_hand() -> None:
    # one bright voxel: its neighbour along x has derivative -1/2 x (1/2)², the one at the corner
    # of the plane 1/2 x 1/4 x 1/2 along both x and y
    image = np.zeros((5, 5, 5))
    image[2, 2, 2] = 1.0
    found = gradient_magnitude(image, (1.0, 1.0, 1.0))
    assert found[2, 2, 2] == 0.0
    assert found[3, 2, 2] == pytest.approx(0.125)
    assert found[3, 3, 2] == pytest.approx(np.hypot(1 / 16, 1 / 16))


@settings(max_examples=40, deadline=None)
@given(
    slope=st.tuples(*[st.floats(-5, 5)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 8)] * 3),
)
def test_a_slope_in_mm_does_not_depend_on_the_voxels(
    slope: tuple[float, float, float], spacing: tuple[float, float, float]
) -> None:
    found = gradient_magnitude(ramp(slope, spacing, 4), spacing)[1:-1, 1:-1, 1:-1]
    assert_allclose(found, np.linalg.norm(slope), rtol=1e-3, atol=1e-3)


@settings(max_examples=20, deadline=None)
@given(
    factor=st.floats(0.2, 5),
    sobel=st.sampled_from(["3d", "2d"]),
)
def test_the_unit_of_length_does_not_matter(factor: float, sobel: str) -> None:
    image = np.random.default_rng(3).random((9, 8, 6), np.float32)
    body = np.ones(image.shape, bool)
    config = PLAIN.model_copy(update={"sobel": sobel})
    small = anatomy_space(image, (1.0, 2.0, 3.0), body, config)
    large = anatomy_space(image, (factor, 2 * factor, 3 * factor), body, config)
    assert_allclose(small, large, rtol=1e-3, atol=1e-4)


def test_scaled_by_its_own_percentile_within_the_body() -> None:
    image = np.zeros((20, 20, 3), np.float32)
    image[:, 5:, :] = 0.2  # a weak edge in the body
    image[:, 15:, :] = 1.0  # a strong one outside
    body = np.zeros(image.shape, bool)
    body[:, :11] = True
    found = anatomy_space(image, (1, 1, 1), body, PLAIN)
    assert found[:, 5].min() == pytest.approx(1.0)
    assert found.max() == 1.0
    assert found.min() == 0.0


def test_gamma_and_none() -> None:
    image = np.random.default_rng(0).random((8, 8, 4), np.float32)
    body = np.ones(image.shape, bool)
    linear = anatomy_space(image, (1, 1, 1), body, PLAIN)
    lifted = anatomy_space(image, (1, 1, 1), body, PLAIN.model_copy(update={"gradient_gamma": 0.5}))
    assert_allclose(lifted, np.sqrt(linear), rtol=1e-5)
    same = anatomy_space(image, (1, 1, 1), body, AnatomyConfig(sobel="none"))
    assert np.array_equal(same, image)


@pytest.mark.parametrize("shape", [(6, 5, 1), (1, 1, 1), (1, 7, 2)])
def test_thin_and_flat_images(shape: tuple[int, int, int]) -> None:
    body = np.ones(shape, bool)
    for image in (np.zeros(shape, np.float32), np.random.default_rng(0).random(shape, np.float32)):
        found = anatomy_space(image, (1, 1, 5), body, AnatomyConfig())
        assert found.shape == shape
        assert np.isfinite(found).all()
        assert found.min() >= 0
        assert found.max() <= 1
