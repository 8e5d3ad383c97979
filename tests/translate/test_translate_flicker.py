from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from labelferry.translate.config import AuditConfig
from labelferry.translate.explain import Scene, explain
from labelferry.translate.faults import Space, trial_scene
from labelferry.translate.flicker import Flicker, flicker


def test_as_smooth_as_the_source_is_1_by_hand() -> None:
    # four voxels a slice, one of each quarter; each slice 0.1 brighter than the last
    source = np.add.outer([0.0, 1.0, 2.0, 3.0], [0.0, 0.1, 0.2, 0.3]).astype(np.float32)
    source, body = source.reshape(4, 1, 4), np.ones((4, 1, 4), np.bool_)
    found = flicker(source, source, body)
    assert found is not None
    assert found.ratio == pytest.approx(1)
    assert found.slices == pytest.approx((0, 0, 0, 0))
    # slice 2 is 0.2 brighter: steps 0.1, 0.3, 0.1 beside 0.1, the median ratio is 1;
    # its style differs from both neighbours' by 0.2, which is 2 steps of the source
    other = source.copy()
    other[:, :, 2] += 0.2
    found = flicker(other, source, body)
    assert found is not None
    assert found.ratio == pytest.approx(1, abs=1e-5)
    assert found.slices == pytest.approx((0, 0, 2, 2), abs=1e-5)  # the last has one neighbour
    assert flicker(2 * source, source, body).ratio == pytest.approx(2)  # type: ignore[union-attr]


def test_too_few_slices_or_no_body() -> None:
    image = np.zeros((4, 4, 2), np.float32)
    assert flicker(image, image, np.ones(image.shape, np.bool_)) is None
    image = np.zeros((4, 4, 5), np.float32)
    assert flicker(image, image, np.zeros(image.shape, np.bool_)) is None


def of(scene: Scene) -> Flicker:
    found = flicker(scene.fake, explain(scene).expected, scene.body)
    assert found is not None
    return found


def stylish(scene: Scene, style: str) -> Scene:
    fake = scene.fake.copy()
    middle = fake[:, :, 20]
    fake[:, :, 20] = {
        "darker": 0.75 * middle,
        "brighter": np.clip(middle + 0.15, 0, 1),
        "blurred": ndimage.gaussian_filter(middle, 3),
        "inverted": 1 - middle,
    }[style]
    return replace(scene, fake=fake)


@pytest.mark.parametrize("space", ["anatomy", "plain"])
def test_a_slice_of_another_style_is_found(space: Space) -> None:
    limit = AuditConfig().flicker
    scene = trial_scene((1, 1), space)
    even = of(scene)
    assert not even.standing_out(limit)
    assert 1 <= even.ratio < 1.4
    for style in ("darker", "brighter", "blurred", "inverted"):
        odd = of(stylish(scene, style))
        assert odd.standing_out(limit) == (20,), style
        assert odd.ratio == pytest.approx(even.ratio, rel=0.1)  # one slice moves no median


def test_noise_of_whole_slices_raises_the_ratio() -> None:
    scene = trial_scene((1, 1), "plain")
    noise = np.random.default_rng(0).normal(0, 0.3, scene.fake.shape[2]).astype(np.float32)
    even = of(scene)
    odd = of(replace(scene, fake=scene.fake + noise))
    assert odd.ratio > 1.4 * even.ratio
    assert len(odd.standing_out(AuditConfig().flicker)) > 10
