"""Networks, built by nnU-Net from a fixed class; no class name is ever taken from a file."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from labelferry.segment.config import NetworkConfig
from labelferry.segment.plans import architecture


def build_network(
    network: NetworkConfig,
    channels_in: int,
    classes: int,
    *,
    spacing: Sequence[float],
    deep_supervision: bool = False,
    seed: int = 0,
    initialise: bool = True,
) -> nn.Module:
    """A plain convolutional U-Net with He initialisation (Tables 2 and 4), drawn from ``seed``.

    Input (B, channels_in, [z,] y, x); output logits (B, classes, [z,] y, x), or with deep
    supervision a list of them from fine to coarse. ``spacing`` in mm, (z, y, x), decides strides.
    Without ``initialise`` the weights are left as torch makes them, for others to take their place.
    """
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    entry = architecture(network, spacing)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = get_network_from_plans(
            entry["network_class_name"],
            entry["arch_kwargs"],
            entry["_kw_requires_import"],
            channels_in,
            classes,
            allow_init=initialise,
            deep_supervision=deep_supervision,
        )
    assert isinstance(built, nn.Module)
    return built
