from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from labelferry.anatomy.config import AnatomyConfig
from labelferry.anatomy.intensity import check_contrast, robust_range, scale_intensity
from labelferry.errors import UserError

CONFIG = AnatomyConfig()


def test_ct_window_by_hand() -> None:
    ct = np.array([-2000.0, -1024, -180, 40, 260, 3000]).reshape(6, 1, 1)
    found = scale_intensity(ct, np.ones(ct.shape, bool), "CT", CONFIG)
    assert_allclose(found.ravel(), [0, 0, 0, 0.5, 1, 1])


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e6])
def test_mr_contrast_does_not_depend_on_the_unit(unit: float) -> None:
    rng = np.random.default_rng(1)
    base = rng.random((12, 10, 7))
    body = np.ones(base.shape, bool)
    want = scale_intensity(base.astype(np.float32), body, "MR", CONFIG)
    found = scale_intensity((base * unit).astype(np.float32), body, "MR", CONFIG)
    assert_allclose(found, want, atol=1e-5)
    assert 0.2 < found.std() < 0.5


@pytest.mark.parametrize("shape", [(12, 10, 7), (40, 40, 10), (3, 3, 1)])
def test_one_wild_voxel_does_not_take_the_contrast(shape: tuple[int, int, int]) -> None:
    mr = np.random.default_rng(1).random(shape).astype(np.float32)
    mr[0, 0, 0] = 1e30
    found = scale_intensity(mr, np.ones(shape, bool), "MR", CONFIG)
    assert np.isfinite(found).all()
    assert found.ravel()[1:].std() > 0.2


def test_percentiles_are_those_of_the_body() -> None:
    mr = np.concatenate([np.zeros(1000), np.linspace(10, 20, 101)]).reshape(-1, 1, 1)
    found = scale_intensity(mr, mr > 0, "MR", CONFIG).ravel()[1000:]
    assert found[0] == 0
    assert found[50] == pytest.approx(0.5)
    assert found[-1] == 1


def test_a_two_valued_image_keeps_its_two_values() -> None:
    mr = np.zeros((30, 30, 4))
    mr[10:12, 10:12] = 7
    found = scale_intensity(mr, mr > 0, "MR", CONFIG)
    assert sorted(np.unique(found)) == [0, 1]


def test_no_contrast_is_told() -> None:
    with pytest.raises(UserError, match=r"zero: constant image / no contrast"):
        check_contrast(np.zeros((3, 3, 3)), "MR", "zero")
    with pytest.raises(UserError, match="constant image / no contrast"):
        scale_intensity(np.full((3, 3, 3), -900.0), np.ones((3, 3, 3), bool), "CT", CONFIG)
    spike = np.zeros((3, 3, 3))
    spike[0, 0, 0] = 1e30
    with pytest.raises(UserError, match="constant image / no contrast"):
        scale_intensity(spike, np.ones((3, 3, 3), bool), "MR", CONFIG)
    assert robust_range(np.array([4.0])) is None


def test_ct_scaled_to_unit_is_told_with_its_range() -> None:
    with pytest.raises(UserError, match=r"unit: .*not Hounsfield units; seen: range \[0, 1\]"):
        check_contrast(np.linspace(0, 1, 27), "CT", "unit")


@pytest.mark.parametrize(
    "wrong",
    [
        {"spacing": (0, 1, 1)},
        {"percentiles": (99, 1)},
        {"ct_window": (5, 5)},
        {"smoothing_mm": (-1, 0, 0)},
        {"gradient_gama": 1},
    ],
)
def test_config_refuses(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AnatomyConfig.model_validate(wrong)
