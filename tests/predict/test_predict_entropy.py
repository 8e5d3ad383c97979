"""Entropy of the network inside each organ, worked by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from labelferry.predict.entropy import EntropyMeter
from labelferry.predict.predictor import Model
from labelferry.volume import Volume


def slab(*voxels: tuple[float, ...]) -> torch.Tensor:
    """Scores (classes, 1, 1, n) from the probabilities of each voxel."""
    return torch.tensor(voxels).T.log().reshape(len(voxels[0]), 1, 1, -1)


def entropy(*p: float) -> float:
    return -sum(q * math.log(q) for q in p) / math.log(len(p))


def test_by_hand() -> None:
    meter = EntropyMeter(3)
    voxels = [(0.2, 0.7, 0.1), (0.1, 0.5, 0.4), (0.9, 0.05, 0.05), (0.01, 0.01, 0.98)]
    scores = slab(*voxels)
    list(meter.watch([slab((0.1, 0.2, 0.7))]))  # another image: forgotten
    seen, _ = meter.watch([scores, slab((0.25, 0.5, 0.25))])
    assert seen is scores, "slabs go on as they are"
    means = meter.means()
    first = (entropy(*voxels[0]) + entropy(*voxels[1]) + entropy(0.25, 0.5, 0.25)) / 3
    assert means[1] == pytest.approx(first, abs=1e-6)
    assert means[2] == pytest.approx(entropy(*voxels[3]), abs=1e-6)


def test_a_plane_full_of_organs_is_looked_at_in_part_and_no_organ_is_missed() -> None:
    meter, looked = EntropyMeter(4), []
    softmax = torch.log_softmax
    # 1 to 0 in the liver from left to right, one voxel of another organ that a stride of 4 misses
    scores = torch.full((4, 1, 64, 256), -100.0)
    scores[1] = 0
    scores[2] = -torch.linspace(0, 20, 256)
    scores[3, 0, 3, 50] = 30
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "log_softmax", lambda x, axis: looked.append(x) or softmax(x, axis))
        list(meter.watch([scores]))
    assert looked[0].shape[1] <= 64 * 256 / 4 + 2
    assert set(meter.means()) == {1, 3}
    shares = [1 / (1 + math.exp(-x)) for x in np.linspace(0, 20, 256)]
    whole = float(np.mean([entropy(q, 1 - q, 1e-44, 1e-44) for q in shares if q < 1]))
    assert meter.means()[1] == pytest.approx(whole, rel=0.05)
    assert meter.means()[3] == pytest.approx(0, abs=1e-6)


def test_certain_is_0_and_a_draw_is_1() -> None:
    meter = EntropyMeter(3)
    draw = torch.zeros(3, 1, 1, 1)
    draw[2] = 1e-6
    sure = torch.full((3, 1, 1, 1), -100.0)
    sure[1] = 100
    list(meter.watch([draw, sure.half()]))
    assert meter.means() == {1: pytest.approx(0, abs=1e-6), 2: pytest.approx(1, abs=1e-6)}


def test_only_organs_that_were_met_are_told() -> None:
    meter = EntropyMeter(4)
    list(meter.watch([slab((0.9, 0.05, 0.03, 0.02))]))
    assert meter.means() == {}


def test_the_labels_are_the_same(fake_model: Callable[..., Model], scan: Volume) -> None:
    model = fake_model()
    found = model.prediction(scan)
    np.testing.assert_array_equal(found.labels.array, model.predict(scan).array)
    assert set(found.entropy) == found.labels.held
    assert all(0 < value < 1 for value in found.entropy.values())
