"""nnU-Net's plain U-Net as a graph of OpenVINO.

The network is written down layer by layer instead of being traced by OpenVINO's converter: that
takes a fraction of a second instead of several, so that no converted model need be kept anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import openvino
from openvino import opset13 as ops
from torch import Tensor, nn

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
_UPWARD = (nn.ConvTranspose2d, nn.ConvTranspose3d)
_NORMS = (nn.InstanceNorm2d, nn.InstanceNorm3d)


def unet_graphs(
    network: nn.Module, channels: int, patch: Sequence[int], *, split: bool = False
) -> list[openvino.Model]:
    """The graph of a ``PlainConvUNet``: (b, channels, [z,] y, x) → (b, classes, [z,] y, x).

    ``split``: two graphs, the second to be given what the first makes; it is the last convolution
    and the scores. ``patch`` is the size of a window, the number of windows is free. Raises
    ``NotImplementedError`` for a network that holds anything else.
    """
    if type(network).__name__ != "PlainConvUNet":
        raise NotImplementedError(type(network).__name__)
    image = ops.parameter([-1, channels, *patch], np.float32, name="image")
    skips, x = [], image
    for stage in network.encoder.stages:  # type: ignore[union-attr]
        for stacked in stage:
            x = _blocks(x, stacked.convs)
        skips.append(x)
    skips.pop()
    decoder: Any = network.decoder
    for upward, stage in zip(decoder.transpconvs, decoder.stages, strict=True):
        x = ops.concat([_layer(x, upward), skips.pop()], 1)
        x = _blocks(x, stage.convs if skips else stage.convs[:-1])
    graphs = []
    if split:
        graphs = [openvino.Model([x], [image], "features")]
        x = image = ops.parameter(x.get_output_partial_shape(0), np.float32, name="features")
    scores = _layer(_blocks(x, decoder.stages[-1].convs[-1:]), decoder.seg_layers[-1])
    return [*graphs, openvino.Model([scores], [image], "scores")]


def _blocks(x: Any, blocks: Any) -> Any:
    for block in blocks:
        for layer in block.all_modules:
            x = _layer(x, layer)
    return x


def _layer(x: Any, layer: nn.Module) -> Any:
    """One layer with its weights."""
    if isinstance(layer, _CONVOLUTIONS):
        pads = list(layer.padding)
        x = ops.convolution(
            x, _constant(layer.weight), list(layer.stride), pads, pads, list(layer.dilation)
        )
        return _plus(x, layer.bias)
    if isinstance(layer, _UPWARD):
        none = [0] * len(layer.stride)
        x = ops.convolution_backprop_data(
            x, _constant(layer.weight), list(layer.stride), None, none, none, list(layer.dilation)
        )
        return _plus(x, layer.bias)
    if isinstance(layer, _NORMS):
        axes = np.arange(2, 2 + x.get_output_partial_shape(0).rank.get_length() - 2)
        x = ops.mvn(x, ops.constant(axes), True, layer.eps, "inside_sqrt")
        if not layer.affine:
            return x
        return _plus(ops.multiply(x, _per_channel(x, layer.weight)), layer.bias)
    if isinstance(layer, nn.LeakyReLU):
        return ops.prelu(x, ops.constant(np.array([layer.negative_slope], np.float32)))
    raise NotImplementedError(type(layer).__name__)


def _plus(x: Any, bias: Tensor | None) -> Any:
    return x if bias is None else ops.add(x, _per_channel(x, bias))


def _per_channel(x: Any, values: Tensor) -> Any:
    rank = x.get_output_partial_shape(0).rank.get_length()
    return _constant(values.reshape(1, -1, *[1] * (rank - 2)))


def _constant(values: Tensor) -> Any:
    return ops.constant(np.ascontiguousarray(values.detach().float().cpu().numpy()))
