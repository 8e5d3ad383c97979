"""Augmentation: what is drawn once for the neighbouring slices of one image."""

import itertools

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.noise import gaussian_blur

from labelferry.segment.augment import apply, build_transforms
from labelferry.segment.config import TrainConfig

STILL = TrainConfig(rotation_p=0.0, scaling_p=0.0)
DRAWS = 100


def augmented(slices: bool) -> list[torch.Tensor]:
    """Patches of five equal channels; noise, which differs by right, is left out."""
    transform, _ = build_transforms((16, 24), STILL, None, slices=slices)
    transform.transforms = [
        t
        for t in transform.transforms
        if type(getattr(t, "transform", t)).__name__ != "GaussianNoiseTransform"
    ]
    one = np.random.default_rng(0).normal(size=(1, 16, 24)).astype(np.float32)
    labels = np.zeros((1, 16, 24), np.int16)
    return [
        apply(transform, np.repeat(one, 5, 0), labels, np.random.default_rng(n))[0]
        for n in range(DRAWS)
    ]


def differing(patches: list[torch.Tensor]) -> int:
    return sum(not torch.allclose(p, p[:1].expand_as(p), atol=1e-5) for p in patches)


def test_slices_of_one_image_share_a_contrast():
    patches = augmented(slices=True)
    assert differing(patches) == 0
    assert len({round(float(p.std()), 4) for p in patches}) > DRAWS / 3  # and it does change


def test_channels_of_their_own_do_not():
    assert differing(augmented(slices=False)) > DRAWS / 3


@pytest.mark.parametrize("slices", [True, False])
def test_the_same_draw_gives_the_same_patch(slices):
    assert all(torch.equal(a, b) for a, b in zip(augmented(slices), augmented(slices), strict=True))


def test_a_slow_machine_gives_the_same_patch(monkeypatch):
    """nnU-Net's blur times its two algorithms; here the first one seems fast, then the second."""
    patches = []
    for power in (2.0, 0.5):  # a clock that runs faster and faster, and one that slows down
        ticks = itertools.count()
        monkeypatch.setattr(gaussian_blur, "time", lambda p=power, t=ticks: next(t) ** p)
        patches.append(augmented(slices=False))
    assert all(torch.equal(a, b) for a, b in zip(*patches, strict=True))
