"""Augmentation: nnU-Net's transforms with probabilities from our configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labelferry.segment.config import TrainConfig

_ANISOTROPIC = 3  # nnU-Net: a patch this much wider than deep is deformed in plane only

Transform = Callable[..., dict[str, Any]]


def build_transforms(
    patch: Sequence[int],
    config: TrainConfig,
    scales: Sequence[Sequence[float]] | None,
    *,
    slices: bool = False,
) -> tuple[Transform, tuple[int, ...]]:
    """nnU-Net's training transforms for a patch (z, y, x), and the patch to draw for them.

    ``scales`` are the resolutions of the deep supervision targets, relative to the patch.
    ``slices``: the channels are neighbouring slices of one image, so that one draw holds for all.
    """
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    size = tuple(int(n) for n in patch)
    in_plane = len(size) == 3 and max(size) / size[0] > _ANISOTROPIC
    angle = np.deg2rad(config.rotation_deg)
    rotation = (-angle, angle)
    mirror = tuple(range(len(size))) if config.mirror else ()
    built = nnUNetTrainer.get_training_transforms(
        size,
        rotation,
        scales,
        mirror,
        in_plane,
        use_mask_for_norm=None,
    )
    spatial = SpatialTransform(
        size[1:] if in_plane else size,
        patch_center_dist_from_border=0,
        random_crop=False,
        p_elastic_deform=config.elastic_p,
        p_rotation=config.rotation_p,
        rotation=rotation,
        p_scaling=config.scaling_p,
        scaling=config.scaling,
        p_synchronize_scaling_across_axes=1,
        bg_style_seg_sampling=False,
        border_mode_seg="constant",
        padding_value_seg=-1,
    )
    built.transforms = _tuned(built.transforms, spatial, config)
    _ignore_the_clock(built.transforms)
    if slices:
        _draw_once(built.transforms)
    initial = [int(n) for n in get_patch_size(size, rotation, rotation, rotation, (0.85, 1.25))]
    if in_plane:
        initial[0] = size[0]
    return built, tuple(initial)


def _tuned(transforms: list[Any], spatial: Any, config: TrainConfig) -> list[Any]:
    """nnU-Net's list with our spatial transform, and without the intensity ones if so wished."""
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    from batchgeneratorsv2.transforms.utils.random import RandomTransform

    kept = []
    for transform in transforms:
        if isinstance(transform, SpatialTransform):
            kept.append(spatial)
        elif config.intensity or not isinstance(transform, RandomTransform):
            kept.append(transform)
    return kept


def _ignore_the_clock(transforms: list[Any]) -> None:
    """Let no transform choose its algorithm by timing it.

    nnU-Net's blur takes an FFT where that was faster a moment ago, and the two differ in the last
    bits: under load the same training would end in other weights.
    """
    for random in transforms:
        inner: Any = getattr(random, "transform", None)
        if hasattr(inner, "benchmark"):
            inner.benchmark = False


def _draw_once(transforms: list[Any]) -> None:
    """Let every channel have the same brightness, contrast, gamma, blur and resolution.

    A transform that skips single channels is then as rare as it was for an image of one channel.
    """
    for random in transforms:
        inner: Any = getattr(random, "transform", None)
        if hasattr(inner, "synchronize_channels"):
            inner.synchronize_channels = True
            random.apply_probability *= inner.p_per_channel
            inner.p_per_channel = 1.0


@contextmanager
def seeded(rng: np.random.Generator) -> Iterator[None]:
    """Run code that draws from the global generators of numpy and torch, seeded by ``rng``.

    nnU-Net's transforms know no other source of chance. The global states are put back.
    """
    seed = int(rng.integers(2**31))
    state = np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            np.random.seed(seed)
            yield
    finally:
        np.random.set_state(state)


def apply(
    transform: Transform, data: np.ndarray, labels: np.ndarray, rng: np.random.Generator
) -> tuple[Tensor, list[Tensor]]:
    """Augment one patch. Returns data (c, …) and labels (1, …) per resolution, fine to coarse."""
    with seeded(rng):
        out = transform(
            image=torch.from_numpy(np.ascontiguousarray(data)),
            segmentation=torch.from_numpy(np.ascontiguousarray(labels)),
        )
    segmentation = out["segmentation"]
    targets = segmentation if isinstance(segmentation, list) else [segmentation]
    return out["image"], targets
