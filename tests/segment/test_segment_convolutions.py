"""Random convolutions: by hand, their normalisation, and training with them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelferry.segment.convolutions import Convolutions, convolve, draw_convolutions
from labelferry.segment.curves import draw_scanner

IDENTITY = Convolutions(
    (np.ones((1, 1, 1, 1), np.float32),), (np.zeros(1, np.float32),), alpha=0.0, dark_air=False
)
FULL = (0.0, 1.0)


def test_one_layer_by_hand():
    # 2·x + 1 of (0, 1) is (1, 3), of norm √10; the image has norm 1
    one = replace(IDENTITY, weights=(np.full((1, 1, 1, 1), 2, np.float32),))
    one = replace(one, shifts=(np.ones(1, np.float32),))
    out = one(np.array([[[0.0, 1.0]]], np.float32))
    np.testing.assert_allclose(out, np.array([[[1, 3]]]) / np.sqrt(10), rtol=1e-5)


def test_blend_by_hand():
    # half the image (0, 1), half the answer -x: nothing is left but the shift of 1/2
    half = replace(IDENTITY, weights=(np.full((1, 1, 1, 1), -1, np.float32),), alpha=0.5)
    half = replace(half, shifts=(np.ones(1, np.float32),))
    out = half(np.array([[[0.0, 1.0]]], np.float32))
    np.testing.assert_allclose(out, np.full((1, 1, 2), np.sqrt(0.5)), rtol=1e-5)


def test_hidden_layers_answer_with_a_leaky_ramp():
    # x - 0.5 of (0, 1) is (-0.5, 0.5); the first of the two is kept to a hundredth
    two = Convolutions(
        (np.ones((1, 1, 1, 1), np.float32),) * 2,
        (np.full(1, -0.5, np.float32), np.zeros(1, np.float32)),
        alpha=0.0,
        dark_air=False,
    )
    out = two(np.array([[[0.0, 1.0]]], np.float32))[0, 0]
    assert out[0] / out[1] == pytest.approx(-0.01, rel=1e-4)


def test_borders_repeat_the_nearest_pixel():
    box = replace(IDENTITY, weights=(np.full((1, 1, 3, 3), 1 / 9, np.float32),))
    out = box(np.full((2, 5, 6), 0.7, np.float32))
    np.testing.assert_allclose(out, 0.7, rtol=1e-5)


def test_without_effect_the_patch_is_normalised_by_hand():
    patch = np.linspace(0, 1, 100, dtype=np.float32).reshape(1, 10, 10)
    out = convolve(patch, FULL, np.ones((10, 10), bool), replace(IDENTITY, alpha=1.0))
    tissue = patch[patch > 0.03]
    low, high = np.percentile(tissue, [1, 99])
    seen = np.clip((patch - low) / (high - low), 0, 1)
    np.testing.assert_allclose(out, (seen - seen.mean()) / seen.std(), atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([(3, 20, 24), (1, 4, 20, 24)]))
def test_patches_are_finite_normalised_and_repeat(seed, shape):
    patch = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    inside = np.ones(shape[1:] if len(shape) == 4 else shape[-2:], bool)
    inside[..., :3] = False

    def once():
        rng = np.random.default_rng(seed)
        network = draw_convolutions(rng)
        return convolve(patch, (-3.0, 3.0), inside, network, draw_scanner(rng, inside.ndim))

    out = once()
    np.testing.assert_array_equal(out, once())
    assert out.shape == shape and out.dtype == np.float32 and np.isfinite(out).all()
    shown = np.broadcast_to(inside, shape)
    assert (out[~shown] == 0).all(), "beyond the image is zero, as in prediction"
    assert abs(out[shown].mean()) < 1e-3
    assert abs(out[shown].std() - 1) < 1e-2


@given(st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_dark_air_is_the_darkest(seed):
    network = replace(draw_convolutions(np.random.default_rng(seed)), dark_air=True)
    patch = np.zeros((1, 16, 16), np.float32)
    patch[0, 4:12, 4:12] = np.random.default_rng(2).uniform(0.2, 1, (8, 8))
    out = convolve(patch, FULL, np.ones((16, 16), bool), network)
    assert out[patch == 0].max() == out.min()


def test_equal_values_of_other_texture_come_out_different():
    """What no curve can do: smooth and grained tissue of one mean are parted."""
    patch = np.full((1, 16, 32), 0.5, np.float32)
    grain = np.where(np.add.outer(np.arange(16), np.arange(16)) % 2, 0.1, -0.1)
    patch[0, :, 16:] += grain.astype(np.float32)
    edges = np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]], np.float32)
    laplace = replace(IDENTITY, weights=(edges[None, None],))
    ramp = replace(
        laplace,
        weights=(*laplace.weights, np.ones((1, 1, 1, 1), np.float32)),
        shifts=(np.zeros(1, np.float32),) * 2,
    )
    out = convolve(patch, FULL, np.ones((16, 32), bool), ramp)[0]
    assert out[2:-2, 18:-2].mean() - out[2:-2, 2:14].mean() > 0.5


def test_air_alone_gives_zeros():
    out = convolve(np.zeros((1, 8, 8), np.float32), FULL, np.ones((8, 8), bool), IDENTITY)
    assert not out.any()


def test_slices_of_a_patch_share_the_network():
    slice_ = np.random.default_rng(3).uniform(0, 1, (16, 16)).astype(np.float32)
    network = draw_convolutions(np.random.default_rng(4))
    out = network(np.stack([slice_] * 5))
    assert all(np.allclose(out[0], other, atol=1e-6) for other in out)


def test_global_random_state_is_left_alone():
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    draw_convolutions(np.random.default_rng(0))(np.ones((1, 8, 8), np.float32))
    assert (np.random.get_state()[1] == before[0]).all()
    assert torch.equal(torch.get_rng_state(), before[1])
