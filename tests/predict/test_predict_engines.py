"""Torch and OpenVINO give the same scores, and say so where one cannot be had."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from predict_windows import sliding_window
from torch import Tensor, nn

from labelferry.cli import run as command
from labelferry.errors import UserError
from labelferry.predict import engines
from labelferry.predict.config import PredictConfig
from labelferry.predict.engines import TorchEngine, open_engine, precision_on, unet_scores
from labelferry.predict.export import fast_labels
from labelferry.segment.bundle import write_bundle
from labelferry.segment.config import NetworkConfig
from labelferry.segment.network import build_network
from labelferry.translate import precision
from labelferry.translate.precision import autocast, bf16_pays

CPU = torch.device("cpu")
FLAT = {"dimensions": 2, "patch": (16, 24), "context": 1}
DEEP = {"patch": (8, 16, 24), "downsamplings": 3}
SIZES = [(1, (2.5, 0.8, 0.8), DEEP), (3, (2.0, 2.0), FLAT)]


def draw_network(channels: int, spacing: tuple[float, ...], **sizes: Any) -> tuple[nn.Module, Any]:
    config = NetworkConfig(**{"channels": 4, "downsamplings": 2, **sizes})
    network = build_network(config, channels, 3, spacing=spacing, seed=1)
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():  # biases and norms are 0 and 1 at the start
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return network.requires_grad_(False).eval(), config


def noise(*shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))


def opened(network: nn.Module, channels: int, patch: Any, **config: Any) -> Any:
    chosen = PredictConfig(**{"amp": "fp32", **config})
    return open_engine(network, CPU, chosen, channels=channels, patch=patch)


@pytest.mark.parametrize(("channels", "spacing", "sizes"), SIZES)
def test_a_u_net_lets_go_of_its_skips(channels: int, spacing: Any, sizes: dict[str, Any]) -> None:
    network, config = draw_network(channels, spacing, **sizes)
    windows = noise(2, channels, *config.patch)
    with torch.inference_mode():
        expected = network(windows)
        skips: list[Any] = []
        kept: list[bool] = []
        network.encoder.stages[0].register_forward_hook(  # type: ignore[union-attr]
            lambda _, __, out: skips.append(weakref.ref(out))
        )
        network.decoder.seg_layers[-1].register_forward_pre_hook(  # type: ignore[union-attr]
            lambda _, __: kept.append(skips[-1]() is not None)
        )
        assert torch.equal(unet_scores(network, windows), expected)
        network(windows)
    assert kept == [False, True], "ours, its own"
    other = nn.Conv2d(channels, 2, 1)
    flat = noise(1, channels, 4, 4)
    assert torch.equal(unet_scores(other, flat), other(flat))


@pytest.mark.parametrize(
    ("channels", "spacing", "sizes"),
    [
        (1, (2.5, 0.8, 0.8), DEEP),  # anisotropic: flat kernels and strides at first
        (2, (2.0, 2.0, 2.0), {"patch": (8, 16, 16)}),
        (3, (2.0, 2.0), FLAT),
    ],
)
def test_openvino_gives_torchs_scores(channels: int, spacing: Any, sizes: dict[str, Any]) -> None:
    pytest.importorskip("openvino")
    network, config = draw_network(channels, spacing, **sizes)
    ours = opened(network, channels, config.patch, engine="openvino")
    for count in (1, 3, 2):
        windows = noise(count, channels, *config.patch)
        expected = TorchEngine(network, CPU, "fp32")(windows)
        found = ours(windows)
        assert ours.name == "openvino fp32" and found.dtype == torch.float32
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(ours(windows), found, atol=0, rtol=0)  # the same again


@pytest.mark.parametrize("engine", ["torch", "openvino"])
@pytest.mark.parametrize(("channels", "spacing", "sizes"), SIZES)
def test_what_decides_is_in_single_precision(
    channels: int, spacing: Any, sizes: dict[str, Any], engine: str
) -> None:
    """Every voxel's last feature is 1 + 2^-12 and its scores are that and 1: bfloat16 keeps eight
    bits of a number and would have them equal.
    """
    if engine == "openvino":
        pytest.importorskip("openvino")
    network, config = draw_network(channels, spacing, **sizes)
    decoder: Any = network.decoder
    last, scores = decoder.stages[-1].convs[-1], decoder.seg_layers[-1]
    nn.init.zeros_(last.norm.weight)
    nn.init.constant_(last.norm.bias, 1 + 2**-12)
    nn.init.zeros_(scores.weight)
    scores.weight.data[1, 0] = 1
    scores.bias.data[:] = torch.tensor([1.0, 0, 0])
    windows = noise(2, channels, *config.patch)
    found = opened(network, channels, config.patch, engine=engine, amp="bf16")(windows)
    assert (found[:, 1] - found[:, 0] == 2**-12).all()


@pytest.mark.parametrize(("channels", "spacing", "sizes"), SIZES)
def test_the_last_convolution_is_in_single_precision(
    channels: int, spacing: Any, sizes: dict[str, Any]
) -> None:
    network, config = draw_network(channels, spacing, **sizes)
    decoder: Any = network.decoder
    last = decoder.stages[-1].convs[-1]
    features: list[Tensor] = []
    last.register_forward_pre_hook(lambda _, given: features.append(given[0]))
    windows = noise(2, channels, *config.patch)
    found = TorchEngine(network, CPU, "bf16")(windows)
    assert torch.equal(features[0], features[0].bfloat16().float()), "bfloat16 until there"
    with torch.inference_mode():
        assert torch.equal(found, decoder.seg_layers[-1](last(features[0])))
        plain = network(windows)
    assert 0 < (found - plain).abs().max() < 0.2


def test_auto_takes_openvino_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    network, config = draw_network(1, (2.0, 2.0, 2.0), patch=(8, 16, 16))
    monkeypatch.setattr(engines, "has_openvino", lambda: False)
    assert opened(network, 1, config.patch).name == "torch fp32"
    monkeypatch.undo()
    pytest.importorskip("openvino")
    assert opened(network, 1, config.patch).name == "openvino fp32"
    assert opened(network, 1, config.patch, engine="torch").name == "torch fp32"


def test_a_network_that_the_graph_does_not_know() -> None:
    pytest.importorskip("openvino")
    strange = nn.Conv3d(1, 3, 1)
    assert opened(strange, 1, (8, 8, 8)).name == "torch fp32"
    with pytest.raises(UserError, match="plain U-Net"):
        opened(strange, 1, (8, 8, 8), engine="openvino")


def test_openvino_that_is_missing_or_asked_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Conv3d(1, 3, 1)
    config = PredictConfig(engine="openvino")
    with pytest.raises(UserError, match=r"CPU alone"):
        open_engine(network, torch.device("cuda"), config, channels=1, patch=(8, 8, 8))
    monkeypatch.setattr(engines, "has_openvino", lambda: False)
    with pytest.raises(UserError, match=r"not installed.*labelferry\[openvino\]"):
        open_engine(network, CPU, config, channels=1, patch=(8, 8, 8))


@pytest.mark.parametrize(
    ("amx", "bf16", "maker", "pays"),
    [
        (True, True, "GenuineIntel", True),
        (False, True, "GenuineIntel", False),
        (False, True, "AuthenticAMD", True),
        (False, False, "AuthenticAMD", False),
    ],
)
def test_where_bf16_pays(
    amx: bool, bf16: bool, maker: str, pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    has = {"_is_amx_tile_supported": amx, "_is_avx512_bf16_supported": bf16}
    monkeypatch.setattr(precision, "_cpu_has", has.__getitem__)
    monkeypatch.setattr(precision, "_cpu_maker", lambda: maker)
    assert bf16_pays(CPU) is pays
    assert precision_on(CPU, "auto") == ("bf16" if pays else "fp32")
    assert precision_on(CPU, "bf16") == "bf16"
    with autocast(CPU, "auto"):  # that of training
        assert torch.is_autocast_enabled("cpu") is pays


def test_torch_in_bf16_is_near() -> None:
    network, config = draw_network(1, (2.0, 2.0, 2.0), patch=(8, 16, 16))
    windows = noise(2, 1, *config.patch)
    exact, half = (TorchEngine(network, CPU, amp)(windows) for amp in ("fp32", "bf16"))
    assert half.dtype == torch.float32
    apart = float((exact - half).abs().mean() / exact.std())
    assert 0 < apart < 0.05


def test_the_command_line_tells_what_is_missing(
    make_bundle: Any, scan: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from labelferry.io.nifti import write_volume

    bundle = make_bundle()
    network = build_network(bundle.network, 1, 3, spacing=bundle.anatomy.spacing[::-1])
    write_bundle(tmp_path / "model", bundle, network.state_dict())
    write_volume(tmp_path / "in" / "a.nii.gz", scan)
    told = ["predict", str(tmp_path / "in"), str(tmp_path / "out"), "--device", "cpu"]
    told += ["--model", str(tmp_path / "model"), "--engine", "openvino"]
    monkeypatch.setattr(engines, "has_openvino", lambda: False)
    assert command(told) == 2
    assert "labelferry[openvino]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.cuda
@pytest.mark.parametrize("sizes", [DEEP, FLAT])
def test_a_gpu_gives_the_cpus_scores(sizes: dict[str, Any]) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    spacing = (2.5, 0.8, 0.8)[-sizes.get("dimensions", 3) :]
    network, config = draw_network(3, spacing, **sizes)
    data = noise(3, 20, 40, 50)
    found = []
    for place in (CPU, torch.device("cuda")):
        engine = TorchEngine(network, place, "fp32")
        scores = sliding_window(
            data, engine, patch=config.patch, classes=3, config=PredictConfig(), device=place
        )
        labels = fast_labels([scores], (20, 40, 50), (30, 50, 40))
        found.append((scores.cpu(), labels))
    torch.testing.assert_close(found[1][0], found[0][0], atol=1e-2, rtol=1e-2)
    assert np.mean(found[1][1] == found[0][1]) > 0.99
