from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import ndimage

from labelferry.anatomy.config import AnatomyConfig
from labelferry.anatomy.local import local_edges
from labelferry.anatomy.space import anatomy_space
from labelferry.phantom.frame import smooth_field

LOCAL = AnatomyConfig(gradient_scale="local", smoothing_mm=(1.5, 1.5, 1.5))
SPACING = (2.0, 2.5, 3.0)


def scene(seed: int = 0, shape: tuple[int, int, int] = (24, 20, 14)) -> np.ndarray:
    """Blobs of several brightnesses in [0.2, 0.8]."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 2.5)
    steps = np.digitize(noise, np.quantile(noise, (0.25, 0.5, 0.75)))
    return np.asarray(0.2 + 0.2 * steps, np.float32)


BODY = np.ones(scene().shape, np.bool_)


def space(image: np.ndarray, config: AnatomyConfig = LOCAL) -> np.ndarray:
    return anatomy_space(np.asarray(image, np.float32), SPACING, BODY, config)


def test_the_same_gradient_everywhere_by_hand() -> None:
    # the mean, here and in all, is the gradient g itself: ε = 0.7 (g + g / 5) = 0.84 g, and
    # g / sqrt(g² + ε²) = 1 / sqrt(1.7056) = 0.7657
    even = np.full((6, 5, 4), 3.0, np.float32)
    found = local_edges(even, SPACING, np.ones(even.shape, bool), 15.0)
    assert_allclose(found, 0.7657, atol=1e-4)


def test_a_lone_edge_by_hand() -> None:
    # a window so wide that the mean round a place is that of all: (7 · 1 + 9) / 8 = 2
    magnitude = np.ones((8, 1, 1), np.float32)
    magnitude[3] = 9
    found = local_edges(magnitude, (1, 1, 1), np.ones((8, 1, 1), bool), 300, (0,))
    edge = 0.7 * (2 + 0.2 * 2)
    assert found[3, 0, 0] == pytest.approx(9 / np.hypot(9, edge), rel=1e-3)
    assert found[0, 0, 0] == pytest.approx(1 / np.hypot(1, edge), rel=1e-3)


def test_only_the_body_counts_and_far_from_it_its_mean() -> None:
    magnitude = np.ones((60, 3, 3), np.float32)
    magnitude[:10] = 100  # a couch
    body = np.zeros(magnitude.shape, bool)
    body[20:30] = True
    found = local_edges(magnitude, (1, 1, 1), body, 3.0)
    assert_allclose(found[20:30], 0.7657, atol=1e-3)
    assert_allclose(found[50:], 0.7657, atol=1e-3)
    assert found[:10].min() > 0.99


def test_a_weak_edge_far_from_a_strong_one_is_lifted() -> None:
    image = np.zeros((120, 8, 8), np.float32)
    image[30:] += 0.5
    image[90:] += 0.05
    body = np.ones(image.shape, bool)
    share = {}
    for scale in ("local", "volume"):
        config = LOCAL.model_copy(update={"gradient_scale": scale, "gradient_gamma": 1.0})
        strong, weak = anatomy_space(image, (3, 3, 3), body, config)[[30, 90], 4, 4]
        share[scale] = weak / strong
    assert share["volume"] < 0.15
    assert share["local"] > 0.7


@settings(max_examples=25, deadline=None)
@given(gain=st.floats(-20, 20).filter(lambda g: abs(g) > 0.01), offset=st.floats(-5, 5))
def test_gain_offset_and_inversion_do_not_matter(gain: float, offset: float) -> None:
    assert_allclose(space(gain * scene() + offset), space(scene()), atol=2e-3)


def test_a_smooth_bias_matters_little() -> None:
    """A coil field of the phantom's strength: less of it is left than at the volume's scale, in the
    mean over scenes."""
    shape = (48, 40, 20)
    body = np.ones(shape, bool)
    left: dict[str, list[float]] = {"local": [], "volume": []}
    for seed in range(8):
        rng = np.random.default_rng(seed)
        image = scene(seed, shape) + 0.02 * rng.standard_normal(shape)
        coil = np.exp(smooth_field(rng, shape, (2, 2, 2), 0.2))
        for scale, found in left.items():
            config = LOCAL.model_copy(update={"gradient_scale": scale})
            one, two = (
                anatomy_space(i.astype(np.float32), SPACING, body, config)
                for i in (image, image * coil)
            )
            found.append(float(np.abs(one - two).mean()))
    assert max(left["local"]) < 0.06
    assert np.mean(left["local"]) < 0.8 * np.mean(left["volume"])


@settings(max_examples=25, deadline=None)
@given(
    order=st.permutations((0, 1, 2)),
    flips=st.sets(st.integers(0, 2)),
    sobel=st.sampled_from(["3d", "2d"]),
)
def test_axes_may_be_turned_and_flipped(order: list[int], flips: set[int], sobel: str) -> None:
    """In 2-D the axial plane stays what it is: its two axes may change places."""
    if sobel == "2d":
        order = [a for a in order if a != 2] + [2]
    config = LOCAL.model_copy(update={"sobel": sobel})
    spacing = tuple(SPACING[a] for a in order)
    body = scene() > 0.3

    def turn(array: np.ndarray) -> np.ndarray:
        return np.flip(array.transpose(order), tuple(flips))

    found = anatomy_space(turn(scene()), spacing, turn(body), config)
    assert_allclose(found, turn(anatomy_space(scene(), SPACING, body, config)), atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(factor=st.floats(0.2, 5))
def test_the_unit_of_length_does_not_matter(factor: float) -> None:
    config = LOCAL.model_copy(
        update={"smoothing_mm": (1.5 * factor,) * 3, "local_mm": 15.0 * factor}
    )
    found = anatomy_space(scene(), tuple(factor * d for d in SPACING), BODY, config)
    assert_allclose(found, space(scene()), atol=1e-3)


def test_in_2d_slices_do_not_see_each_other() -> None:
    config = LOCAL.model_copy(update={"sobel": "2d"})
    one, two = scene(1), scene(2)
    mixed = np.where(np.arange(14) == 5, one, two)
    # only the mean of the whole volume, a fifth of which is added, is shared
    assert_allclose(space(mixed, config)[:, :, 5], space(one, config)[:, :, 5], atol=0.05)
    assert np.abs(space(mixed) - space(one))[:, :, 5].max() > 0.2


@pytest.mark.parametrize("shape", [(6, 5, 1), (1, 1, 1), (1, 7, 2)])
@pytest.mark.parametrize("inside", [True, False])
def test_thin_and_flat_images(shape: tuple[int, int, int], inside: bool) -> None:
    body = np.full(shape, inside)
    for image in (np.zeros(shape, np.float32), np.random.default_rng(0).random(shape, np.float32)):
        found = anatomy_space(image, (1, 1, 5), body, LOCAL)
        assert found.shape == shape
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
        assert found.min() >= 0
        assert found.max() <= 1
