"""A bundle as a model folder that an unmodified nnU-Net opens."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from labelferry.errors import UserError
from labelferry.files import atomic_folder, write_json
from labelferry.segment.bundle import Bundle
from labelferry.segment.plans import CONFIGURATIONS

_TRAINER = "nnUNetTrainer"
"""Must be one of nnU-Net's own: for another name it imports all of its trainers in search of it."""
_FOLD = "fold_0"


def model_folder(bundle: Bundle) -> Path:
    """Where nnU-Net looks for the model below its ``nnUNet_results``."""
    configuration = CONFIGURATIONS[bundle.network.dimensions]
    plans = bundle.plans
    return Path(plans["dataset_name"], f"{_TRAINER}__{plans['plans_name']}__{configuration}")


def write_nnunet(results: Path, bundle: Bundle, weights: dict[str, Tensor]) -> Path:
    """Write the bundle below ``results`` as nnU-Net's training would leave it; returns its folder.

    An older one there is replaced. nnU-Net then labels any image that it can read: with the same
    labels as ours where the image is already as our networks see it (on the working grid, cropped
    to the body, scaled), since nnU-Net knows nothing of that preparation. Raises ``UserError`` for
    a network that sees what nnU-Net cannot give it: neighbouring slices, or anatomy space.
    """
    if bundle.space != "plain":
        raise UserError(
            "nnU-Net cannot feed this network: it sees images in anatomy space",
            seen=f"space = {bundle.space}",
            allowed="space = plain",
            fix="export the model of a stage that sees images as they are: RUN/distil",
        )
    if bundle.network.context:
        raise UserError(
            "nnU-Net cannot feed this network: it sees each slice together with its neighbours",
            seen=f"context = {bundle.network.context}",
            allowed="context = 0",
            fix="adapt with --set distil.network.context=0",
        )
    folder = results / model_folder(bundle)
    checkpoint = {
        "network_weights": weights,
        "trainer_name": _TRAINER,
        "init_args": {"configuration": CONFIGURATIONS[bundle.network.dimensions], "fold": 0},
        "inference_allowed_mirroring_axes": None,  # Table 4: no mirroring at test time
    }
    with atomic_folder(folder) as part:
        write_json(part / "plans.json", bundle.plans)
        write_json(part / "dataset.json", bundle.dataset)
        (part / _FOLD).mkdir()
        torch.save(checkpoint, part / _FOLD / "checkpoint_final.pth")
    return folder
