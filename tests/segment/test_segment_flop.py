"""What a network costs."""

import math

import pytest
import torch
from torch import nn

from labelferry.segment.config import NetworkConfig
from labelferry.segment.flop import window_flop
from labelferry.segment.network import build_network
from labelferry.segment.plans import topology


def counted(network, spacing, images, classes):
    """The same, by looking at each layer of the network as it runs."""
    with torch.device("meta"):
        channels = network.channels_in(images)
        built = build_network(network, channels, classes, spacing=spacing, initialise=False)
    total = 0

    def look(layer, given, out):
        nonlocal total
        upward = isinstance(layer, nn.ConvTranspose2d | nn.ConvTranspose3d)
        total += 2 * math.prod((given[0] if upward else out).shape[2:]) * layer.weight.numel()

    for layer in built.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            layer.register_forward_hook(look)
    patch = topology(network, spacing)[2]
    built.eval()(torch.empty(1, channels, *patch, device="meta"))
    return total


def test_a_network_worked_by_hand():
    network = NetworkConfig(
        dimensions=2, patch=(8, 8), channels=2, max_channels=4, downsamplings=1, convolutions=1
    )
    down = 64 * 9 * 1 * 2 + 16 * 9 * 2 * 4
    up = 64 * 4 * 2 + 64 * 9 * 4 * 2 + 64 * 2 * 3
    assert window_flop(network, (5, 3, 3), 1, 3) == 2 * (down + up)


@pytest.mark.parametrize("spacing", [(2.5, 0.81, 0.81), (2.5, 2.5, 2.5), (5.0, 3.2, 3.2)])
@pytest.mark.parametrize(
    "network",
    [
        NetworkConfig(patch=(20, 48, 36), channels=4, downsamplings=3),
        NetworkConfig(dimensions=2, patch=(64, 96), channels=6, downsamplings=3, context=2),
        NetworkConfig(patch=(16, 32, 32), channels=3, downsamplings=2, convolutions=3),
    ],
)
def test_it_is_what_the_layers_do(network, spacing):
    assert window_flop(network, spacing, 1, 14) == counted(network, spacing, 1, 14)
