"""What runs a network on windows: torch, or OpenVINO on a CPU."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from labelferry.errors import UserError
from labelferry.predict.config import Amp, PredictConfig
from labelferry.translate.precision import bf16_pays

_SLOW_PLANE = 2560  # z·y voxels; see ``copies``

_COARSE: Amp = "bf16"
"""Its eight bits are too few for what decides between two organs: a plain U-Net run in it ends,
from its last convolution on, in single precision. More than a third of the voxels that it changed
stay as they are then, for a fifth more time.
"""


class Engine(Protocol):
    """A network, ready to be run."""

    @property
    def name(self) -> str:
        """What runs it, and in which precision: ``torch bf16``."""

    def __call__(self, windows: Tensor) -> Tensor:
        """Logits (b, classes, [z,] y, x), float32, of windows (b, c, [z,] y, x) on the CPU.

        The result may be overwritten by the next call.
        """


class TorchEngine:
    """A network run by torch, on a CPU or a GPU."""

    def __init__(self, network: nn.Module, device: torch.device, amp: Amp = "auto") -> None:
        self.network = network.to(device).eval()
        self.device = device
        self.precision = precision_on(device, amp)

    @property
    def name(self) -> str:
        """Torch and its precision."""
        return f"torch {self.precision}"

    @torch.inference_mode()
    def __call__(self, windows: Tensor) -> Tensor:
        """See :class:`Engine`; the result lies on the device."""
        count = copies(len(windows), windows.shape[2:], self.device)
        # fixed algorithms: the same image gives the same labels
        with (
            torch.autocast(self.device.type, self._dtype, enabled=self._dtype is not None),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
        ):
            images = torch.cat([windows] * count).to(self.device)
            logits = unet_scores(self.network, images, exact_end=self.precision == _COARSE)
        return logits[: len(windows)].float()

    @property
    def _dtype(self) -> torch.dtype | None:
        return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision)


def unet_scores(network: nn.Module, x: Tensor, *, exact_end: bool = False) -> Tensor:
    """What ``network`` makes of windows. A plain U-Net lets go of each skip once it is used.

    Its own forward pass holds all of them to the end; without them an image of four windows of
    40x224x192 took 0.86 GB instead of 1.11. ``exact_end``: its last convolution and its scores are
    in single precision, whatever the context.
    """
    if type(network).__name__ != "PlainConvUNet":
        return network(x)  # type: ignore[no-any-return]
    decoder: Any = network.decoder
    skips = []
    for stage in network.encoder.stages:  # type: ignore[union-attr]
        x = stage(x)
        skips.append(x)
    skips.pop()
    for upward, stage in zip(decoder.transpconvs, decoder.stages, strict=True):
        x = torch.cat([upward(x), skips.pop()], 1)
        x = (stage if skips else stage.convs[:-1])(x)
    with torch.autocast(x.device.type, enabled=False) if exact_end else nullcontext():
        x = decoder.stages[-1].convs[-1](x.float() if exact_end else x)
        return decoder.seg_layers[-1](x)  # type: ignore[no-any-return]


def copies(windows: int, patch: Sequence[int], device: torch.device) -> int:
    """How often torch is given the same windows of ``patch`` (z, y, x) or (y, x) voxels at once.

    It takes a slow path for a single small 3-D window on a CPU, several times slower than the usual
    one: there a window is cheaper in the company of its copy.
    """
    alone = windows == 1 and len(patch) == 3 and device.type == "cpu"
    return 2 if alone and patch[0] * patch[1] <= _SLOW_PLANE else 1


class OpenVinoEngine:
    """A plain U-Net run by OpenVINO on the CPU, with as many threads as torch has."""

    def __init__(
        self, network: nn.Module, channels: int, patch: Sequence[int], amp: Amp = "auto"
    ) -> None:
        import openvino

        from labelferry.predict.graph import unet_graphs

        self.precision = precision_on(torch.device("cpu"), amp)
        hint = {"bf16": "bf16", "fp16": "f16"}.get(self.precision, "f32")
        graphs = unet_graphs(network, channels, patch, split=self.precision == _COARSE)
        core = openvino.Core()
        settings = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # two processes would be pinned to the same cores
        }
        self._requests = [
            core.compile_model(
                graph, "CPU", {**settings, "INFERENCE_PRECISION_HINT": precision}
            ).create_infer_request()
            for graph, precision in zip(graphs, (hint, "f32"), strict=False)
        ]

    @property
    def name(self) -> str:
        """OpenVINO and its precision."""
        return f"openvino {self.precision}"

    def __call__(self, windows: Tensor) -> Tensor:
        """See :class:`Engine`."""
        x = windows.numpy()
        for request in self._requests:
            x = request.infer({0: x}, share_inputs=True, share_outputs=True)[0]
        return torch.from_numpy(x)


def open_engine(
    network: nn.Module,
    device: torch.device,
    config: PredictConfig,
    *,
    channels: int,
    patch: Sequence[int],
) -> Engine:
    """The engine that ``config.engine`` asks for, with the network in it.

    ``auto`` takes OpenVINO on a CPU where it is installed and knows the network: on two CPUs of
    different makers it ran our networks 1.5 to 3 times as fast as torch. Raises ``UserError`` where
    OpenVINO is asked for and is not installed, or for another device than the CPU.
    """
    if config.engine == "openvino":
        _check_openvino(device)
    elif config.engine == "torch" or device.type != "cpu" or not has_openvino():
        return TorchEngine(network, device, config.amp)
    try:
        return OpenVinoEngine(network, channels, patch, config.amp)
    except NotImplementedError as error:
        if config.engine == "auto":
            return TorchEngine(network, device, config.amp)
        raise UserError(
            "OpenVINO runs the plain U-Net alone here",
            seen=error,
            fix="use --engine torch",
        ) from error


def precision_on(device: torch.device, amp: Amp) -> Amp:
    """``amp``, or what ``auto`` means on a device."""
    if amp != "auto":
        return amp
    return "bf16" if bf16_pays(device) else "fp32"


@cache
def has_openvino() -> bool:
    """Whether OpenVINO is installed; it is not loaded for that."""
    return importlib.util.find_spec("openvino") is not None


def _check_openvino(device: torch.device) -> None:
    if device.type != "cpu":
        raise UserError(
            "OpenVINO runs on the CPU alone here",
            seen=f"device {device}",
            fix="use --engine torch, or --device cpu",
        )
    if not has_openvino():
        raise UserError(
            "OpenVINO is not installed",
            seen="engine openvino",
            allowed="auto, torch",
            fix="pip install 'labelferry[openvino]', or use --engine torch",
        )
