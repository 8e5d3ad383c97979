"""Models, images and the least work of a window for ``benchmarks.predict``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from labelferry.anatomy.config import AnatomyConfig
from labelferry.io.nifti import write_volume
from labelferry.organs import FLARE, OrganSet
from labelferry.phantom.anatomy import draw_subject
from labelferry.phantom.frame import PhantomGrid
from labelferry.phantom.render import render_mr
from labelferry.predict.predictor import find_bundle
from labelferry.segment.bundle import Bundle, open_network, read_bundle, write_bundle
from labelferry.segment.config import NetworkConfig
from labelferry.segment.foreign import build_networks, is_foreign, read_foreign
from labelferry.segment.network import build_network
from labelferry.segment.nnunet import write_nnunet
from labelferry.segment.plans import make_dataset, make_plans
from labelferry.volume import Grid, Volume


def random_bundle(
    folder: Path,
    spacing: Sequence[float],
    network: NetworkConfig,
    organs: OrganSet = FLARE,
    borders_mm: float = 0.0,
) -> Path:
    """A bundle whose network is initialised and not trained; ``spacing`` z, y, x."""
    anatomy = AnatomyConfig(spacing=(spacing[2], spacing[1], spacing[0]))
    bundle = Bundle(
        name="random",
        organs=organs,
        space="plain",
        anatomy=anatomy,
        modality="MR",
        network=network,
        plans=make_plans(network, spacing, 1, batch=2),
        dataset=make_dataset(organs, ["image"]),
        provenance={},
        inference={"borders_mm": borders_mm},
    )
    built = build_network(network, network.channels_in(1), bundle.classes, spacing=spacing)
    write_bundle(folder, bundle, built.state_dict())
    return folder


def nnunet_folder(model: Path, results: Path) -> Path:
    """The model as nnU-Net takes it."""
    if model.is_dir() and is_foreign(model):
        return model
    return write_nnunet(results, *read_bundle(find_bundle(model)))


def make_image(size: str, path: Path) -> Path:
    """A phantom's T1 of ``x,y,z@mm,mm,mm``: cut, or continued by its mirror image."""
    shape, spacing = ([float(n) for n in part.split(",")] for part in size.split("@"))
    rng = np.random.default_rng(0)
    grid = PhantomGrid.of_spacing((spacing[0], spacing[1], spacing[2]))
    array = render_mr(rng, draw_subject(rng, grid), "T1").image.array.astype(np.float32)
    for axis, wanted in enumerate(int(n) for n in shape):
        lack = wanted - array.shape[axis]
        if lack > 0:
            pads = [(0, 0)] * 3
            pads[axis] = (lack // 2, lack - lack // 2)
            array = np.pad(array, pads, mode="symmetric")
        else:
            start = -lack // 2
            array = np.take(array, np.arange(start, start + wanted), axis)
    # a 0 would be cut away; scanners leave noise there as well
    array = np.maximum(array, 1)
    write_volume(path, Volume(array, Grid(array.shape, np.diag([*spacing, 1.0]))))
    return path


@dataclass(frozen=True)
class WindowWork:
    """What one window takes at least, whoever runs it."""

    flop: float
    """Floating-point operations of its convolutions."""
    voxels: int
    classes: int


def window_work(model: Path) -> WindowWork:
    """The least work of one window of a model."""
    if model.is_dir() and is_foreign(model):
        foreign = read_foreign(model)
        network, patch = build_networks(foreign)[0], foreign.recipe.patch
        classes = len(foreign.organs) + 1
    else:
        bundle, weights = read_bundle(find_bundle(model))
        network, patch, classes = open_network(bundle, weights), bundle.patch, bundle.classes
    counted = 0.0

    def count(layer: nn.Module, given: tuple[torch.Tensor, ...], out: torch.Tensor) -> None:
        nonlocal counted
        weight = layer.weight
        upward = isinstance(layer, nn.ConvTranspose2d | nn.ConvTranspose3d)
        # each voxel of the input goes to, or each of the output comes from, a kernel
        voxels = math.prod((given[0] if upward else out).shape[2:])
        counted += 2 * voxels * weight.numel()

    kinds = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    layers = [layer for layer in network.modules() if isinstance(layer, kinds)]
    for layer in layers:
        layer.register_forward_hook(count)
    # a 2-D network may look at neighbouring slices too
    network.to("meta")(torch.empty(1, layers[0].in_channels, *patch, device="meta"))
    return WindowWork(counted, math.prod(patch), classes)
