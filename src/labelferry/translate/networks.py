"""Translators (ResNet generators) and discriminators (PatchGAN) of CycleGAN (Zhu et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

Stem = Literal["resnet", "subpixel"]
M = TypeVar("M", bound=nn.Module)

MULTIPLE = 4
"""Both sides of a translator's input must be multiples of this."""
SMALLEST = 8
"""Least side of a translator's input: reflection needs two pixels at a quarter of the size."""


def _conv(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, bias: bool = False
) -> nn.Conv2d:
    return nn.Conv2d(
        inputs,
        outputs,
        kernel,
        stride,
        padding=kernel // 2,
        padding_mode="zeros" if stride > 1 else "reflect",
        bias=bias,
    )


def _norm_relu(channels: int) -> list[nn.Module]:
    return [nn.InstanceNorm2d(channels), nn.ReLU(inplace=True)]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with instance norm, added to their input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(channels, channels),
            *_norm_relu(channels),
            _conv(channels, channels),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, y, x) to the same shape."""
        return x + self.body(x)  # type: ignore[no-any-return]


class Generator(nn.Module):
    """A translator of slices: (batch, 1, y, x) in [-1, 1] to the same shape and range.

    ``y`` and ``x`` are multiples of 4, at least 8. ``resnet``: 7x7 convolutions at full size, two
    halvings, blocks, two doublings. ``subpixel``: the same at half size, on 2x2 groups of pixels.
    """

    def __init__(self, channels: int, blocks: int, stem: Stem) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_STEMS[stem](channels, blocks), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        """Translate a batch of slices."""
        return self.layers(x)  # type: ignore[no-any-return]


def _resnet(c: int, blocks: int) -> list[nn.Module]:
    def up(inputs: int, outputs: int) -> nn.Module:
        return nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, output_padding=1, bias=False)

    return [
        *(_conv(1, c, 7), *_norm_relu(c)),
        *(_conv(c, 2 * c, stride=2), *_norm_relu(2 * c)),
        *(_conv(2 * c, 4 * c, stride=2), *_norm_relu(4 * c)),
        *(ResidualBlock(4 * c) for _ in range(blocks)),
        *(up(4 * c, 2 * c), *_norm_relu(2 * c)),
        *(up(2 * c, c), *_norm_relu(c)),
        _conv(c, 1, 7, bias=True),
    ]


def _subpixel(c: int, blocks: int) -> list[nn.Module]:
    return [
        nn.PixelUnshuffle(2),
        *(_conv(4, c), *_norm_relu(c)),
        *(_conv(c, 2 * c, stride=2), *_norm_relu(2 * c)),
        *(ResidualBlock(2 * c) for _ in range(blocks)),
        *(_conv(2 * c, 4 * c), nn.PixelShuffle(2), *_norm_relu(c)),
        *(_conv(c, 4, bias=True), nn.PixelShuffle(2)),
    ]


_STEMS: dict[Stem, Callable[[int, int], list[nn.Module]]] = {
    "resnet": _resnet,
    "subpixel": _subpixel,
}


class Discriminator(nn.Module):
    """PatchGAN: (batch, 1, y, x) in [-1, 1] to scores (logits) of overlapping patches.

    Three halvings judge patches of 70x70 pixels. Sides must be at least ``smallest``.
    """

    def __init__(self, channels: int, layers: int = 3) -> None:
        super().__init__()
        self.smallest = 2 ** (layers + 2)
        parts: list[nn.Module] = [nn.Conv2d(1, channels, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        width = channels
        for depth in range(1, layers + 1):
            wider = channels * min(2**depth, 8)
            parts += [
                nn.Conv2d(width, wider, 4, 2 if depth < layers else 1, 1, bias=False),
                nn.InstanceNorm2d(wider),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            width = wider
        self.layers = nn.Sequential(*parts, nn.Conv2d(width, 1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Score a batch of slices."""
        return self.layers(x)  # type: ignore[no-any-return]


def build(make: Callable[[], M], generator: torch.Generator) -> M:
    """Make a network with weights N(0, 0.02) and zero biases, as CycleGAN.

    Every number is drawn from ``generator`` (CPU); torch's global state stays as it is.
    """
    with torch.device("meta"):  # no weight is drawn here
        network = make()
    network.to_empty(device="cpu")
    with torch.no_grad():
        for name, value in network.named_parameters():
            if name.endswith("bias"):
                value.zero_()
            else:
                value.normal_(0.0, 0.02, generator=generator)
    return to_place(network, torch.device("cpu"))


def to_place(network: M, device: torch.device) -> M:
    """The same network on a device, its weights laid out channels last (faster on CPU and GPU)."""
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network
