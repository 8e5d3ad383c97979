"""What a network costs: the floating-point operations of its convolutions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from labelferry.segment.config import NetworkConfig
from labelferry.segment.plans import architecture, topology


def window_flop(
    network: NetworkConfig, spacing: Sequence[float], channels_in: int, classes: int
) -> int:
    """Operations of all convolutions in one window of the network's (rounded) patch.

    A multiplication and an addition count two. ``spacing`` in mm, (z, y, x), decides the strides;
    ``channels_in`` are images, whose neighbours in 2-D are added here. Normalisation, activations
    and the heads of deep supervision, which no prediction runs, are left out.
    """
    sizes = architecture(network, spacing)["arch_kwargs"]
    strides, _, patch = topology(network, spacing)
    kernels: list[int] = [math.prod(kernel) for kernel in sizes["kernel_sizes"]]
    features: list[int] = sizes["features_per_stage"]
    convolutions = network.convolutions
    voxels, size = list[int](), list(patch)
    for stride in strides:
        size = [n // s for n, s in zip(size, stride, strict=True)]
        voxels.append(math.prod(size))
    products = 0
    before = network.channels_in(channels_in)
    for n, kernel, width in zip(voxels, kernels, features, strict=True):
        products += n * kernel * width * (before + (convolutions - 1) * width)
        before = width
    for stage in reversed(range(len(features) - 1)):
        n, kernel, width = voxels[stage], kernels[stage], features[stage]
        # upwards, each voxel below goes to a kernel of the stride's size: one product a voxel here
        products += n * width * features[stage + 1]
        products += n * kernel * width * (2 * width + (convolutions - 1) * width)
    products += voxels[0] * features[0] * classes
    return 2 * products
