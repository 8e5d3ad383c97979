"""Models that nnU-Net trained: their folders, read with distrust.

A checkpoint of nnU-Net is a pickle. It is opened by torch's reader of weights, which makes tensors,
numbers and text and nothing else. nnU-Net looks classes up by the names in ``plans.json``: only
the names below may stand there.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from labelferry.cases import Modality
from labelferry.errors import UserError
from labelferry.files import hash_file, hash_value, read_json
from labelferry.organs import Organ, OrganSet
from labelferry.segment.recipe import Recipe, recipe_of

_CHECKPOINT = "checkpoint_final.pth"
_NOT_ORGANS = ("background", "ignore")
_RESAMPLING = Literal["resample_data_or_seg_to_shape"]
_Axes = Annotated[list[Annotated[int, Field(ge=0, le=2)]], Field(min_length=3, max_length=3)]
_Sizes = list[Annotated[int, Field(ge=1, le=4096)]]


class _Arguments(BaseModel):
    """The plain U-Net's arguments, no larger than any network that is built here."""

    model_config = ConfigDict(extra="forbid")

    n_stages: int = Field(ge=1, le=13)
    features_per_stage: _Sizes
    conv_op: Literal["torch.nn.modules.conv.Conv2d", "torch.nn.modules.conv.Conv3d"]
    kernel_sizes: list[_Sizes]
    strides: list[_Sizes]
    n_conv_per_stage: list[Annotated[int, Field(ge=1, le=16)]]
    n_conv_per_stage_decoder: list[Annotated[int, Field(ge=1, le=16)]]
    conv_bias: bool
    norm_op: Literal[
        "torch.nn.modules.instancenorm.InstanceNorm2d",
        "torch.nn.modules.instancenorm.InstanceNorm3d",
    ]
    norm_op_kwargs: dict[str, float | bool]
    dropout_op: None
    dropout_op_kwargs: None
    nonlin: Literal["torch.nn.LeakyReLU"]
    nonlin_kwargs: dict[str, float | bool]


class _Architecture(BaseModel):
    network_class_name: Literal["dynamic_network_architectures.architectures.unet.PlainConvUNet"]
    arch_kwargs: _Arguments
    requires_import: list[Literal["conv_op", "norm_op", "dropout_op", "nonlin"]] = Field(
        alias="_kw_requires_import"
    )


class _Keywords(BaseModel):
    """What ``resample_data_or_seg_to_shape`` is called with."""

    model_config = ConfigDict(extra="forbid")

    is_seg: bool = False
    order: int = Field(3, ge=0, le=5)
    order_z: int = Field(0, ge=0, le=5)
    force_separate_z: bool | None = False
    separate_z_anisotropy_threshold: float = Field(3.0, gt=0)


class _Configuration(BaseModel):
    """What must stand in a configuration of ``plans.json``; other entries are not used."""

    preprocessor_name: Literal["DefaultPreprocessor"]
    patch_size: _Sizes
    spacing: list[Annotated[float, Field(gt=0)]]
    normalization_schemes: list[
        Literal[
            "CTNormalization", "ZScoreNormalization", "NoNormalization", "RescaleTo01Normalization"
        ]
    ] = Field(min_length=1, max_length=1)
    use_mask_for_norm: list[bool] = Field(min_length=1, max_length=1)
    resampling_fn_data: _RESAMPLING
    resampling_fn_seg: _RESAMPLING
    resampling_fn_probabilities: _RESAMPLING
    resampling_fn_data_kwargs: _Keywords
    resampling_fn_probabilities_kwargs: _Keywords
    architecture: _Architecture
    previous_stage: None = None


class _Plans(BaseModel):
    image_reader_writer: Literal["SimpleITKIO", "NibabelIO", "NibabelIOWithReorient"]
    label_manager: Literal["LabelManager"] = "LabelManager"
    transpose_forward: _Axes
    transpose_backward: _Axes


@dataclass(frozen=True, eq=False)
class Foreign:
    """A model folder of nnU-Net, read and checked."""

    organs: OrganSet
    """The structures of its ``dataset.json``, with their label values as ids."""
    modality: Modality
    reorients: bool
    """Whether it sees images with canonical axes, or with those of the file."""
    recipe: Recipe
    """How an image comes to the network, and labels back."""
    architecture: dict[str, Any]
    """The ``architecture`` of its plans."""
    folds: tuple[dict[str, Tensor], ...]
    """The weights of each fold; their scores are averaged."""


def is_foreign(folder: Path) -> bool:
    """Whether a folder looks as nnU-Net's training leaves it."""
    return (folder / "plans.json").is_file() and bool(_checkpoints(folder))


def hash_foreign(folder: Path) -> str:
    """A hash of all that decides the labels of the model in ``folder``."""
    _check_folder(folder)
    files = [folder / "plans.json", folder / "dataset.json", *_checkpoints(folder)]
    return hash_value([[p.relative_to(folder).as_posix(), hash_file(p)] for p in files])


def read_foreign(folder: Path) -> Foreign:
    """Read ``plans.json``, ``dataset.json`` and ``fold_*/checkpoint_final.pth``.

    Raises ``UserError`` for a checkpoint that holds more than tensors, numbers and text, and for
    what is not run here: other networks than the plain U-Net, several channels, cascades, regions.
    """
    _check_folder(folder)
    plans, dataset = (_json(folder / name) for name in ("plans.json", "dataset.json"))
    saved = [_read_checkpoint(path) for path in _checkpoints(folder)]
    names = {str(one["init_args"]["configuration"]) for one in saved}
    if len(names) > 1:
        raise UserError("the folds are of several configurations", path=folder, seen=names)
    (name,) = names
    checked, resolved = _check_plans(plans, name, folder)
    channels = dataset.get("channel_names", dataset.get("modality"))
    if not isinstance(channels, dict) or len(channels) != 1:
        raise UserError(
            "a model of several images at once is not run here",
            path=folder,
            seen=channels,
            allowed="one channel",
        )
    scheme = resolved["normalization_schemes"][0]
    return Foreign(
        organs=_organs(dataset, folder),
        modality="CT" if scheme == "CTNormalization" else "MR",
        reorients=checked.image_reader_writer == "NibabelIOWithReorient",
        recipe=recipe_of(plans, resolved),
        architecture=resolved["architecture"],
        folds=tuple(one["network_weights"] for one in saved),
    )


def build_networks(foreign: Foreign) -> list[nn.Module]:
    """The network of each fold with its weights, on the CPU.

    Raises ``UserError`` for weights of another network.
    """
    networks = []
    for weights in foreign.folds:
        network = _build(foreign)
        try:
            network.load_state_dict(weights, assign=True)
        except RuntimeError as error:
            raise UserError(
                "the checkpoint's weights are not those of the network in plans.json",
                seen=str(error).splitlines()[1].strip()[:160],
                fix="a trainer of nnU-Net with a network of its own is not run here",
            ) from error
        networks.append(network.requires_grad_(False).eval())
    return networks


def _check_folder(folder: Path) -> None:
    wanted = ("plans.json", "dataset.json")
    missing = [name for name in wanted if not (folder / name).is_file()]
    if missing or not _checkpoints(folder):
        raise UserError(
            "not a model folder of nnU-Net",
            path=folder,
            seen=f"no {missing[0] if missing else f'fold_*/{_CHECKPOINT}'}",
            allowed=f"plans.json, dataset.json, fold_*/{_CHECKPOINT}",
        )


def _checkpoints(folder: Path) -> list[Path]:
    """Of the folds, or of the one network that was trained on all cases."""
    found = sorted(folder.glob(f"fold_*/{_CHECKPOINT}"))
    return [path for path in found if path.parent.name != "fold_all"] or found


def _json(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError("not a JSON object", path=path, seen=type(value).__name__)
    return value


def _plain_types() -> list[Any]:
    """What a log of nnU-Net holds beside torch's own: numpy's numbers."""
    scalar = np.float64(0).__reduce__()[0]
    numbers = (np.float16, np.float32, np.float64, np.int32, np.int64, np.bool_)
    return [
        np.dtype,
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        *{type(np.dtype(number)) for number in numbers},
    ]


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        with torch.serialization.safe_globals(_plain_types()):
            saved = torch.load(path, map_location="cpu", weights_only=True)
        weights = saved["network_weights"]
        _ = saved["init_args"]["configuration"], saved["trainer_name"]
    except pickle.UnpicklingError as error:
        raise UserError(
            "the checkpoint holds more than weights, numbers and text, which could run any program",
            path=path,
            seen=_first_sentence(error),
            fix="have its owner save it again with nnU-Net's own trainer",
        ) from error
    except (RuntimeError, EOFError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            "not a checkpoint of nnU-Net, or a damaged one", path=path, seen=_first_sentence(error)
        ) from error
    if not isinstance(weights, Mapping) or not all(isinstance(w, Tensor) for w in weights.values()):
        raise UserError("the checkpoint holds no weights", path=path)
    return dict(saved)


def _first_sentence(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if "GLOBAL" in line] or [str(error)]
    return f"{type(error).__name__}: {lines[0].strip()[:160]}"


def _check_plans(plans: dict[str, Any], name: str, folder: Path) -> tuple[_Plans, dict[str, Any]]:
    """The plans, and their configuration of this name with all that it inherits."""
    try:
        checked = _Plans.model_validate(plans)
        configuration = _resolve(plans, name)
        _Configuration.model_validate(configuration)
        return checked, configuration
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"plans.json: {'.'.join(str(part) for part in first['loc'])}: not run here",
            path=folder,
            seen=first["input"],
            allowed=first["msg"].removeprefix("Input should be "),
            fix="label the images with nnU-Net itself",
        ) from error
    except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            "plans.json holds no plans of nnU-Net", path=folder, seen=_first_sentence(error)
        ) from error


def _resolve(plans: dict[str, Any], name: str) -> dict[str, Any]:
    """A configuration with all that it inherits."""
    found: dict[str, Any] = {}
    line = [name]
    while True:
        configuration = plans["configurations"][line[-1]]
        found = {**configuration, **found}
        if "inherits_from" not in configuration:
            break
        line.append(configuration["inherits_from"])
        if line[-1] in line[:-1]:
            raise ValueError(f"configurations that inherit in a circle: {line}")
    if "architecture" in found:
        return found
    # plans of the first versions; only nnU-Net knows how they are to be read
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    return dict(PlansManager(plans).get_configuration(name).configuration)


def _organs(dataset: Mapping[str, Any], folder: Path) -> OrganSet:
    labels = dataset.get("labels")
    if not isinstance(labels, dict) or not all(isinstance(v, int) for v in labels.values()):
        raise UserError(
            "labels made of regions are not run here",
            path=folder / "dataset.json",
            seen=labels,
            allowed='{"background": 0, "liver": 1, …}',
        )
    found = {value: str(name) for name, value in labels.items() if name not in _NOT_ORGANS}
    try:
        return OrganSet(tuple(Organ(value, found[value]) for value in sorted(found)))
    except UserError as error:
        raise error.at(folder / "dataset.json") from error


def _build(foreign: Foreign) -> nn.Module:
    """The network without memory for its weights."""
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    with torch.device("meta"):
        network: nn.Module = get_network_from_plans(
            foreign.architecture["network_class_name"],
            foreign.architecture["arch_kwargs"],
            foreign.architecture["_kw_requires_import"],
            1,
            len(foreign.organs) + 1,
            allow_init=False,
            deep_supervision=False,
        )
    return network
