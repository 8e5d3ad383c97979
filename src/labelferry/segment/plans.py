"""nnU-Net's plans and dataset descriptions, written from our configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labelferry.organs import OrganSet
from labelferry.segment.config import NetworkConfig

CONFIGURATIONS = {2: "2d", 3: "3d_fullres"}
_MIN_FEATURE_MAP = 4  # nnU-Net: an axis is pooled while at least 4 voxels remain


def topology(
    network: NetworkConfig, spacing: Sequence[float]
) -> tuple[list[list[int]], list[list[int]], list[int]]:
    """Strides and kernels per stage and the patch rounded to them, by nnU-Net's own rule.

    ``spacing`` in mm, (z, y, x). An axis whose spacing is at least twice the finest one is neither
    pooled nor convolved until the others have caught up.
    """
    from nnunetv2.experiment_planning.experiment_planners.network_topology import (
        get_pool_and_conv_props,
    )

    _, strides, kernels, patch, _ = get_pool_and_conv_props(
        list(spacing)[-network.dimensions :],
        list(network.patch),
        _MIN_FEATURE_MAP,
        network.downsamplings,
    )
    return (
        [[int(v) for v in row] for row in strides],
        [[int(v) for v in row] for row in kernels],
        [int(v) for v in patch],
    )


def architecture(network: NetworkConfig, spacing: Sequence[float]) -> dict[str, Any]:
    """The ``architecture`` entry of nnU-Net's plans for a plain convolutional U-Net."""
    strides, kernels, _ = topology(network, spacing)
    stages = len(strides)
    kind = f"{network.dimensions}d"
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": [
                min(network.channels * 2**stage, network.max_channels) for stage in range(stages)
            ],
            "conv_op": f"torch.nn.modules.conv.Conv{kind}",
            "kernel_sizes": kernels,
            "strides": strides,
            "n_conv_per_stage": [network.convolutions] * stages,
            "n_conv_per_stage_decoder": [network.convolutions] * (stages - 1),
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{kind}",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def make_dataset(organs: OrganSet, channels: Sequence[str]) -> dict[str, Any]:
    """nnU-Net's ``dataset.json``."""
    labels = {"background": 0, **{organ.name: organ.id for organ in organs}}
    return {
        "channel_names": {str(i): name for i, name in enumerate(channels)},
        "labels": labels,
        "file_ending": ".nii.gz",
        "numTraining": 0,
    }


def make_plans(
    network: NetworkConfig,
    spacing: Sequence[float],
    channels: int,
    *,
    batch: int,
    intensities: dict[str, dict[str, float]] | None = None,
    batch_dice: bool = False,
) -> dict[str, Any]:
    """nnU-Net's ``plans.json`` with one configuration.

    ``spacing`` in mm, (z, y, x). With ``intensities`` (per channel: mean, std, percentile_00_5,
    percentile_99_5 over the organs of the data set) images are clipped and scaled by the data
    set's statistics (paper 2.5: nnU-Net's CT scheme), else each image by its own mean and SD.
    """
    scheme = "CTNormalization" if intensities else "ZScoreNormalization"
    _, _, patch = topology(network, spacing)
    resampling = {
        "is_seg": False,
        "order": 3,
        "order_z": 0,
        "force_separate_z": None,
    }
    configuration = {
        "data_identifier": f"labelferry_{CONFIGURATIONS[network.dimensions]}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": batch,
        "patch_size": patch,
        "median_image_size_in_voxels": patch,
        "spacing": [float(v) for v in list(spacing)[-network.dimensions :]],
        "normalization_schemes": [scheme] * channels,
        "use_mask_for_norm": [False] * channels,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
        "architecture": architecture(network, spacing),
        "batch_dice": batch_dice,
    }
    return {
        "dataset_name": "Dataset001_labelferry",
        "plans_name": "labelferryPlans",
        "original_median_spacing_after_transp": [float(v) for v in spacing],
        "original_median_shape_after_transp": patch if len(patch) == 3 else [1, *patch],
        "image_reader_writer": "NibabelIOWithReorient",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {CONFIGURATIONS[network.dimensions]: configuration},
        "experiment_planner_used": "labelferry",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": intensities
        or {str(c): {"mean": 0.0, "std": 1.0} for c in range(channels)},
    }
