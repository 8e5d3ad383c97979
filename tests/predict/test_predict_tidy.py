from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from labelferry.organs import FLARE
from labelferry.predict.config import PredictConfig
from labelferry.predict.tidy import drop_dark, keep_largest, tidy
from labelferry.volume import Grid, Volume

LIVER, AORTA = 1, 5


def image_of(array: np.ndarray, spacing: float = 8.0) -> Volume:
    """Voxels so large that smoothing by 2 mm changes nothing that matters."""
    return Volume(array.astype(np.float32), Grid(array.shape, np.diag([*[spacing] * 3, 1.0])))


def test_keeps_the_largest_part_of_each_organ() -> None:
    labels = np.zeros((6, 6, 6), np.uint8)
    labels[:2, :2, :2] = 1
    labels[4, 4, 4] = 1
    labels[3, 0, 0] = 2
    kept = keep_largest(labels)
    assert (kept == 1).sum() == 8
    assert (kept == 2).sum() == 1


def test_a_liver_drawn_into_the_lung_ends_at_its_edge() -> None:
    labels = np.zeros((12, 10, 10), np.uint8)
    labels[2:10, 2:8, 2:8] = LIVER
    signal = np.full(labels.shape, 0.8)
    signal[:, :, 6:] = 0.1  # the lung begins here
    kept = drop_dark(labels, image_of(signal), FLARE, 0.5)
    expected = labels.copy()
    expected[:, :, 6:] = 0
    np.testing.assert_array_equal(kept, expected)


def test_a_cyst_stays_and_a_notch_at_the_edge_goes() -> None:
    labels = np.zeros((16, 16, 6), np.uint8)
    labels[2:14, 2:14, 1:5] = LIVER
    signal = np.full(labels.shape, 0.8)
    signal[6:9, 6:9, :] = 0.05
    signal[:5, 6:9, :] = 0.05
    kept = drop_dark(labels, image_of(signal), FLARE, 0.5)
    assert (kept[6:9, 6:9, 1:5] == LIVER).all()
    assert not kept[2:5, 6:9].any()


def test_what_is_hollow_is_left_alone() -> None:
    labels = np.zeros((8, 8, 8), np.uint8)
    labels[2:6, 2:6, 2:6] = AORTA
    signal = np.full(labels.shape, 0.9)
    signal[:, :, 5:] = 0.0  # fast blood
    np.testing.assert_array_equal(drop_dark(labels, image_of(signal), FLARE, 0.5), labels)


def test_an_image_of_larger_voxels_over_the_same_extent() -> None:
    labels = np.zeros((16, 16, 16), np.uint8)
    labels[4:12, 4:12, 4:12] = LIVER
    signal = np.full((8, 8, 8), 0.8)
    signal[:, :, :3] = 0.0  # the fine planes 0 to 5
    kept = drop_dark(labels, image_of(signal, 16.0), FLARE, 0.5)
    assert (kept[:, :, 7:] == labels[:, :, 7:]).all()
    assert not kept[:, :, :5].any()


def test_the_dark_goes_before_the_largest_part_is_kept() -> None:
    labels = np.zeros((6, 6, 12), np.uint8)
    labels[1:5, 1:5, 1:11] = LIVER
    signal = np.full(labels.shape, 0.8)
    signal[:, :, 7:9] = 0.0  # cuts off a piece of the same signal
    how = PredictConfig(solid_signal=0.5, largest_component=True)
    kept = tidy(labels, image_of(signal), FLARE, how)
    assert (kept[1:5, 1:5, 1:7] == LIVER).all() and not kept[:, :, 7:].any()
    off = tidy(labels, image_of(signal), FLARE, PredictConfig())
    np.testing.assert_array_equal(off, labels)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.95))
def test_nothing_is_added_and_every_organ_keeps_half(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(FLARE) + 1, (9, 8, 7)).astype(np.uint8)
    image = image_of(rng.random(labels.shape))
    before = labels.copy()
    kept = drop_dark(labels, image, FLARE, share)
    np.testing.assert_array_equal(labels, before)  # the argument is not written to
    assert ((kept == labels) | (kept == 0)).all()
    for organ in FLARE:
        had, has = (labels == organ.id).sum(), (kept == organ.id).sum()
        assert has == had if not organ.solid else has >= had / 2
    brighter = Volume(image.array * np.float32(0.5), image.grid)
    np.testing.assert_array_equal(drop_dark(labels, brighter, FLARE, share), kept)


def test_without_a_solid_organ_nothing_is_looked_at() -> None:
    labels = np.zeros((4, 4, 4), np.uint8)
    assert drop_dark(labels, image_of(np.zeros((4, 4, 4))), FLARE, 0.5) is labels
