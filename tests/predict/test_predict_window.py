from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from predict_windows import sliding_window
from torch import Tensor, nn

from labelferry.errors import UserError
from labelferry.predict.config import PredictConfig
from labelferry.predict.engines import TorchEngine
from labelferry.predict.sums import Weighing, window_weight
from labelferry.predict.window import join_slabs, scan, windows

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
        engine = TorchEngine(network, CPU, "fp32")
        sliding_window(
            noise(1, depth, 8, 8), engine, patch=(6, 8, 8), classes=3, config=FP32, device=CPU
        )
    assert min(size[0] for size in network.sizes) == 2


def test_a_flat_network_sees_each_slice_once_per_place() -> None:
    network = Counting()
    sliding_window(noise(1, 20, 8, 8), network, patch=(8, 8), classes=3, config=FP32, device=CPU)
    assert sum(size[0] for size in network.sizes) == 20
    assert {len(size) for size in network.sizes} == {4}


@settings(max_examples=20, deadline=None)
@given(
    st.tuples(*[st.integers(1, 40)] * 3),
    st.tuples(*[st.integers(1, 12)] * 3),
    st.sampled_from([0.3, 0.5, 0.7, 1.0]),
)
def test_windows_and_weights_are_nnunets(
    lack: tuple[int, ...], patch: tuple[int, ...], step: float
) -> None:
    from nnunetv2.inference.sliding_window_prediction import (
        compute_gaussian,
        compute_steps_for_sliding_window,
    )

    shape = tuple(a + b - 1 for a, b in zip(lack, patch, strict=True))
    expected = compute_steps_for_sliding_window(shape, patch, step)
    found = windows(shape, patch, step)
    assert [[w[a].start for w in found] for a in range(3)] == [
        [start[a] for start in itertools.product(*expected)] for a in range(3)
    ]
    theirs = compute_gaussian(
        patch, value_scaling_factor=10, dtype=torch.float16, device=torch.device("cpu")
    )
    weighing = Weighing.of_nnunet(patch)
    torch.testing.assert_close(weighing.weight, theirs.float(), atol=0, rtol=0)


def test_sums_are_nnunets_bit_by_bit() -> None:
    shape, patch = (9, 20, 17), (6, 8, 10)
    scores = {n: noise(3, *patch) * (n + 1) for n in range(len(windows(shape, patch, 0.5)))}
    weighing = Weighing.of_nnunet(patch)
    total = torch.zeros((3, *shape), dtype=torch.half)
    weights = torch.zeros(shape, dtype=torch.half)
    for n, place in enumerate(windows(shape, patch, 0.5)):  # as nnU-Net's predictor writes it
        prediction = scores[n].clone()
        prediction *= weighing.weight.half()
        total[(slice(None), *place)] += prediction
        weights[place] += weighing.weight.half()
    torch.div(total, weights, out=total)
    calls = iter(scores.values())
    found = join_slabs(
        scan(
            noise(1, *shape), lambda _: next(calls)[None], patch=patch, classes=3,
            config=PredictConfig(batch=1), device=CPU, weighing=weighing,
        ),
        shape[0],
    )  # fmt: skip
    torch.testing.assert_close(found, total, atol=0, rtol=0)


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.integers(1, 20)] * 3), st.integers(1, 3), st.integers(0, 2**16))
def test_windows_without_body_change_nothing_in_it(
    shape: tuple[int, ...], batch: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    data = torch.from_numpy(rng.normal(size=(1, *shape)).astype(np.float32))
    body = torch.zeros(shape, dtype=torch.bool)
    low = [int(rng.integers(n)) for n in shape]
    body[tuple(slice(a, a + 5) for a in low)] = True
    network = nn.Conv3d(1, 3, 3, padding=1)
    config = PredictConfig(amp="fp32", batch=batch)

    def run(mask: Tensor | None) -> Tensor:
        return sliding_window(
            data, network, patch=(6, 8, 8), classes=3, config=config, device=CPU, body=mask
        )

    everywhere, skipped = run(None), run(body)
    torch.testing.assert_close(skipped[:, body], everywhere[:, body], atol=1e-5, rtol=1e-5)


def test_where_no_window_looks_there_is_background() -> None:
    data, body = noise(1, 30, 8, 8), torch.zeros(30, 8, 8, dtype=torch.bool)
    body[14] = True
    network = Counting()

    def run(mask: Tensor) -> Tensor:
        return sliding_window(
            data, network, patch=(6, 8, 8), classes=3, config=FP32, device=CPU, body=mask
        )

    found = run(body)
    assert (found[0, [0, -1]] == 10).all() and (found[1:, [0, -1]] == -10).all()
    assert sum(size[0] for size in network.sizes) < len(windows((30, 8, 8), (6, 8, 8), 0.5))
    assert (run(~body & body).argmax(0) == 0).all(), "no body at all"


def test_slabs_come_in_order_and_are_no_higher_than_a_window() -> None:
    data = noise(1, 40, 8, 8)
    slabs = scan(data, Pointwise(), patch=(6, 8, 8), classes=3, config=FP32, device=CPU)
    start = 0
    for slab in slabs:
        assert slab.shape[1] <= 12  # at most three windows in a batch, half a window apart
        expected = Pointwise()(data[None, :, start : start + slab.shape[1]])[0]
        torch.testing.assert_close(slab, expected, atol=1e-5, rtol=1e-5)
        start += slab.shape[1]
    assert start == 40


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
