from __future__ import annotations

import logging

import numpy as np
import pytest

from labelferry.anatomy.body import body_mask, otsu_threshold


def ellipse(shape: tuple[int, int, int], radii: tuple[float, float]) -> np.ndarray:
    x, y, _ = np.ogrid[: shape[0], : shape[1], : shape[2]]
    inside = ((x - shape[0] / 2) / radii[0]) ** 2 + ((y - shape[1] / 2) / radii[1]) ** 2 < 1
    return np.broadcast_to(inside, shape)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.fixture
def truth() -> np.ndarray:
    return ellipse((60, 50, 8), (24, 17))


def test_ct_without_table_lungs_filled(truth: np.ndarray) -> None:
    ct = np.where(truth, 40.0, -1000.0)
    ct[25:32, 20:30] = -850  # a lung
    ct[:, 47] = 200  # a table
    ct[0, 0] = -2000  # padding
    assert dice(body_mask(ct, (3, 3, 5), "CT"), truth) > 0.99


def test_ct_whose_air_was_clipped_away(truth: np.ndarray) -> None:
    ct = np.where(truth, 60.0, -125.0)
    assert dice(body_mask(ct, (3, 3, 5), "CT"), truth) > 0.95


@pytest.mark.parametrize("unit", [1e-9, 1.0, 500.0])
@pytest.mark.parametrize("spike", [False, True])
def test_mr_of_any_unit(truth: np.ndarray, unit: float, spike: bool) -> None:
    rng = np.random.default_rng(0)
    mr = np.where(truth, rng.uniform(0.5, 1, truth.shape), rng.uniform(0, 0.1, truth.shape))
    mr = (mr * unit).astype(np.float32)
    if spike:
        mr[1, 1, 1] = 1e30
    assert dice(body_mask(mr, (3, 3, 5), "MR"), truth) > 0.95


@pytest.mark.parametrize("outshines", [3, 20, 60])
def test_a_bright_spleen_in_a_dim_body_is_not_the_body(truth: np.ndarray, outshines: int) -> None:
    """Diffusion with fat suppression: the organ alone is above Otsu's threshold."""
    rng = np.random.default_rng(0)
    mr = np.where(truth, rng.normal(11, 1, truth.shape), rng.uniform(0, 1, truth.shape))
    mr[40:48, 20:28, 3:6] = 11 * outshines
    assert dice(body_mask(mr.astype(np.float32), (3, 3, 5), "MR"), truth) > 0.95


def test_a_small_body_stays_small() -> None:
    small = ellipse((60, 50, 8), (8, 7))  # 6 % of the picture
    mr = np.where(small, 500.0, 3.0).astype(np.float32)
    assert dice(body_mask(mr, (3, 3, 5), "MR"), small) > 0.85  # a wide blur on few voxels


def test_fine_voxels_keep_their_shape(truth: np.ndarray) -> None:
    fine = truth.repeat(5, axis=0).repeat(5, axis=1)[:-1, :-2]
    ct = np.where(fine, 40.0, -1000.0)
    mask = body_mask(ct, (0.6, 0.6, 5), "CT")
    assert mask.shape == ct.shape
    assert dice(mask, fine) > 0.98


def test_a_body_cut_by_the_picture_reaches_its_border() -> None:
    mr = np.ones((30, 30, 3), np.float32)
    mr[:, :8] = 0
    mask = body_mask(mr, (3, 3, 3), "MR")
    assert mask[:, -1].all()
    assert mask[0, 15:].all()
    assert not mask[:, 0].any()


def test_single_slice(truth: np.ndarray) -> None:
    ct = np.where(truth, 40.0, -1000.0)[:, :, :1]
    assert dice(body_mask(ct, (3, 3, 1), "CT"), truth[:, :, :1]) > 0.99


def test_nothing_found_is_everything_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    air = np.full((20, 20, 4), -1000.0)
    air[3, 3, 1] = 50.0
    with caplog.at_level(logging.WARNING):
        assert body_mask(air, (3, 3, 3), "CT", case="empty").all()
    assert "empty: no body found" in caplog.text


def test_otsu_splits_two_heaps() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0.2, 0.03, 900), rng.normal(0.8, 0.03, 300)])
    assert 0.25 < otsu_threshold(values.clip(0, 1).astype(np.float32)) < 0.75
