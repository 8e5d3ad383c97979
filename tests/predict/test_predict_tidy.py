from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from labelferry.organs import FLARE
from labelferry.predict.config import PredictConfig
from labelferry.predict.tidy import cut_necks, drop_dark, keep_largest, tidy
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


def dumbbell(organ: int, neck: int) -> np.ndarray:
    """A cube of 12 voxels, one of 6 beside it, and a bar of ``neck`` voxels between."""
    labels = np.zeros((28, 14, 14), np.uint8)
    labels[1:13, 1:13, 1:13] = organ
    labels[19:25, 4:10, 4:10] = organ
    labels[13:19, 7 : 7 + neck, 7 : 7 + neck] = organ
    return labels


@pytest.mark.parametrize(
    ("signal", "neck", "cut"),
    [(0.5, 1, True), (0.95, 1, True), (0.65, 1, False), (0.5, 5, False)],
    ids=["darker", "brighter", "alike", "thick"],
)
def test_bowel_that_hangs_on_a_liver_by_a_neck_is_cut_off(
    signal: float, neck: int, cut: bool
) -> None:
    """The large cube is 6 voxels deep, and 0.7 its signal; a neck of 1 is 0.5 to 1 deep."""
    labels = dumbbell(LIVER, neck)
    image = np.full(labels.shape, 0.7)
    image[16:] = signal
    kept = cut_necks(labels, image_of(image), FLARE, 0.2)
    assert (kept[:13] == labels[:13]).all()
    assert bool(kept[19:].any()) is not cut
    if not cut:
        np.testing.assert_array_equal(kept, labels)


def test_necks_of_what_is_hollow_are_left_alone() -> None:
    labels = dumbbell(AORTA, 1)
    image = np.full(labels.shape, 0.7)
    image[16:] = 0.2
    np.testing.assert_array_equal(cut_necks(labels, image_of(image), FLARE, 0.2), labels)


@pytest.mark.parametrize(("x_mm", "cut"), [(8.0, True), (1.0, False)])
def test_how_thick_a_neck_is_is_measured_in_mm(x_mm: float, cut: bool) -> None:
    """Two blocks of 7 by 6 by 6 voxels and a bar of 2 by 2: thin between cubes of 8 mm, but wider
    than the blocks are thick where a voxel has 1 mm in x."""
    labels = np.zeros((20, 8, 8), np.uint8)
    labels[1:8, 1:7, 1:7] = LIVER
    labels[12:19, 1:7, 1:7] = LIVER
    labels[8:12, 3:5, 3:5] = LIVER
    signal = np.full(labels.shape, 0.8, np.float32)
    signal[10:] = 0.3
    grid = Grid(labels.shape, np.diag([x_mm, 8, 8, 1]))
    kept = cut_necks(labels, Volume(signal, grid), FLARE, 0.5)
    assert bool(kept[12:].any()) is not cut
    np.testing.assert_array_equal(kept[:10], labels[:10])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.9))
def test_cutting_adds_nothing_and_does_not_depend_on_the_gain(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    blobs = ndimage.gaussian_filter(rng.standard_normal((16, 14, 12)), 1.5)
    labels = np.where(blobs > 0, LIVER, np.where(blobs < -0.1, AORTA, 0)).astype(np.uint8)
    image = image_of(rng.random(labels.shape))
    before = labels.copy()
    kept = cut_necks(labels, image, FLARE, share)
    np.testing.assert_array_equal(labels, before)
    assert ((kept == labels) | ((kept == 0) & (labels == LIVER))).all()
    assert not (labels == LIVER).any() or (kept == LIVER).any()
    dimmer = Volume(image.array * np.float32(0.5), image.grid)
    np.testing.assert_array_equal(cut_necks(labels, dimmer, FLARE, share), kept)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_both_rules_at_once_are_one_after_the_other(seed: int) -> None:
    """Holes of an organ that are labelled as another are no part of it for either."""
    rng = np.random.default_rng(seed)
    blobs = ndimage.gaussian_filter(rng.standard_normal((16, 14, 12)), 1.5)
    labels = np.where(blobs > -0.05, LIVER, AORTA).astype(np.uint8)
    image = image_of(rng.random(labels.shape))
    after = cut_necks(drop_dark(labels, image, FLARE, 0.9), image, FLARE, 0.4)
    both = tidy(labels, image, FLARE, PredictConfig(solid_signal=0.9, neck=0.4))
    np.testing.assert_array_equal(both, after)


def test_without_a_solid_organ_nothing_is_looked_at() -> None:
    labels = np.zeros((4, 4, 4), np.uint8)
    assert cut_necks(labels, image_of(np.zeros((4, 4, 4))), FLARE, 0.5) is labels
    assert drop_dark(labels, image_of(np.zeros((4, 4, 4))), FLARE, 0.5) is labels
