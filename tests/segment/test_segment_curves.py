"""Random intensity curves."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from labelferry.segment.curves import Curve, Scanner, draw_curve, draw_scanner, repaint


@given(st.integers(0, 2**32))
def test_curves_stay_in_range_and_repeat(seed):
    one = draw_curve(np.random.default_rng(seed))
    again = draw_curve(np.random.default_rng(seed))
    values = one(np.linspace(-0.5, 1.5, 101))
    assert values.min() >= 0 and values.max() <= 1
    np.testing.assert_array_equal(one.table, again.table)


def test_repainted_patch_is_normalised_as_the_whole_image_would_be():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(8, 32, 32)).astype(np.float32)
    low, high = float(image.min()), float(image.max())
    counts, _ = np.histogram(image, bins=256)
    curve = draw_curve(np.random.default_rng(3))
    whole = repaint(image, (low, high), counts / counts.sum(), curve)
    assert abs(whole.mean()) < 0.02 and abs(whole.std() - 1) < 0.02
    part = repaint(image[2:4, 5:9], (low, high), counts / counts.sum(), curve)
    np.testing.assert_array_equal(part, whole[2:4, 5:9])


def test_identity_curve_by_hand():
    # values 0 and 1 in equal shares: mean 0.5, SD 0.5
    curve = Curve(np.linspace(0, 1, 1024).astype(np.float32))
    histogram = np.zeros(256)
    histogram[[0, -1]] = 0.5
    out = repaint(np.array([0.0, 1.0], np.float32), (0.0, 1.0), histogram, curve)
    np.testing.assert_allclose(out, [-1, 1], atol=0.01)


def test_scanner_repeats_and_keeps_the_shape():
    image = np.random.default_rng(1).random((3, 20, 24)).astype(np.float32)
    one = draw_scanner(np.random.default_rng(5), 2)(image)
    again = draw_scanner(np.random.default_rng(5), 2)(image)
    np.testing.assert_array_equal(one, again)
    assert one.shape == image.shape and one.min() >= 0, "a magnitude image is never negative"


def test_scanner_without_effects_by_hand():
    image = np.array([[[0.0, 0.5], [0.25, 1.0]]], np.float32)
    flat = Scanner(np.zeros((2, 2), np.float32), blur=0.0, noise=0.0, seed=0)
    np.testing.assert_allclose(flat(image), image, atol=1e-6)
    doubled = Scanner(np.full((2, 2), np.log(2), np.float32), blur=0.0, noise=0.0, seed=0)
    np.testing.assert_allclose(doubled(image), 2 * image, atol=1e-6)
