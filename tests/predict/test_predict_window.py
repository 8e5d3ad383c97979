from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from labelferry.errors import UserError
from labelferry.predict.config import PredictConfig
from labelferry.predict.window import sliding_window, window_weight, windows

CPU = torch.device("cpu")
FP32 = PredictConfig(amp="fp32")


class Pointwise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :1], -x[:, :1], x.sum(1, keepdim=True)], 1)


class Counting(Pointwise):
    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(tuple(x.shape))
        out: Tensor = super().forward(x)
        return out


def noise(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))


@pytest.mark.parametrize("gaussian", [True, False])
@pytest.mark.parametrize("patch", [(6, 8, 10), (8, 10)])
@pytest.mark.parametrize("shape", [(13, 17, 21), (3, 4, 30), (1, 1, 1)])
def test_a_pointwise_network_gives_itself(
    shape: tuple[int, ...], patch: tuple[int, ...], gaussian: bool
) -> None:
    data = noise(2, *shape)
    config = PredictConfig(amp="fp32", gaussian=gaussian)
    found = sliding_window(data, Pointwise(), patch=patch, classes=3, config=config, device=CPU)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, Pointwise()(data[None])[0], atol=1e-5, rtol=1e-5)


def test_half_precision_sums() -> None:
    data = noise(1, 9, 17, 17)
    config = PredictConfig(amp="fp32", accumulate="fp16")
    found = sliding_window(data, Pointwise(), patch=(6, 8, 8), classes=3, config=config, device=CPU)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), Pointwise()(data[None])[0], atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("batch", [1, 2, 3, 16])
def test_the_batch_does_not_change_the_result(batch: int) -> None:
    torch.manual_seed(0)
    network = nn.Conv3d(1, 2, 3, padding=1)
    data = noise(1, 9, 17, 19)

    def run(batch: int) -> Tensor:
        config = PredictConfig(amp="fp32", batch=batch)
        return sliding_window(data, network, patch=(6, 8, 8), classes=2, config=config, device=CPU)

    torch.testing.assert_close(run(batch), run(5), atol=1e-5, rtol=1e-5)


def test_a_small_window_is_never_alone_on_a_cpu() -> None:
    network = Counting()
    for depth in (6, 7, 12, 14):
        sliding_window(
            noise(1, depth, 8, 8), network, patch=(6, 8, 8), classes=3, config=FP32, device=CPU
        )
    assert min(size[0] for size in network.sizes) == 2


def test_a_flat_network_sees_each_slice_once_per_place() -> None:
    network = Counting()
    sliding_window(noise(1, 20, 8, 8), network, patch=(8, 8), classes=3, config=FP32, device=CPU)
    assert sum(size[0] for size in network.sizes) == 20
    assert {len(size) for size in network.sizes} == {4}


def test_windows_cover_the_volume() -> None:
    covered = np.zeros((13, 17, 21), int)
    for window in windows(covered.shape, (6, 8, 10), 0.5):
        covered[window] += 1
        assert covered[window].shape == (6, 8, 10)
    assert covered.min() >= 1


def test_the_weight_is_nnunets() -> None:
    weight = window_weight((8, 16, 16), True)
    assert weight[4, 8, 8] == weight.max() == pytest.approx(10.0)
    assert weight.min() > 0
    assert float(weight[4, 10, 8] / weight[4, 8, 8]) == pytest.approx(np.exp(-0.5), rel=0.02)


def test_scores_that_are_not_finite_are_refused() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, x / 0], 1)

    with pytest.raises(UserError, match="not finite"):
        sliding_window(
            noise(1, 6, 8, 8), Broken(), patch=(6, 8, 8), classes=2, config=FP32, device=CPU
        )
