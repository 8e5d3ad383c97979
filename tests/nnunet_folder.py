"""A model folder as nnU-Net's trainer leaves it, with random weights."""

import json

import numpy as np
import torch

from labelferry.segment.config import NetworkConfig
from labelferry.segment.network import build_network
from labelferry.segment.plans import make_plans

NETWORK = NetworkConfig(patch=(8, 16, 16), channels=4, downsamplings=2)


def write_folder(
    folder,
    labels,
    spacing,
    *,
    reader="SimpleITKIO",
    folds=2,
    plans=None,
    dataset=None,
    checkpoint=None,
):
    """Write ``folder`` and return it. ``plans`` changes entries by their dotted names, ``dataset``
    and ``checkpoint`` those of dataset.json and of every checkpoint; ``spacing`` is (z, y, x)."""
    made = make_plans(NETWORK, spacing, 1, batch=2) | {"image_reader_writer": reader}
    for key, value in (plans or {}).items():
        *parents, last = key.split(".")
        inner = made
        for parent in parents:
            inner = inner[parent]
        inner[last] = value
    told = {"channel_names": {"0": "MR"}, "labels": labels, "file_ending": ".nii.gz"}
    folder.mkdir(exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(made))
    (folder / "dataset.json").write_text(json.dumps(told | (dataset or {})))
    for fold in range(folds):
        network = build_network(NETWORK, 1, len(labels), spacing=spacing, seed=fold)
        saved = {
            "network_weights": network.state_dict(),
            "optimizer_state": torch.optim.SGD(network.parameters(), 0.01).state_dict(),
            "grad_scaler_state": None,
            "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.25)], "lrs": [0.01]},
            "_best_ema": np.float64(0.5),
            "current_epoch": 3,
            "init_args": {
                "plans": made,
                "configuration": "3d_fullres",
                "fold": fold,
                "dataset_json": told,
                "device": torch.device("cpu"),
            },
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": (0, 1, 2),
        }
        (folder / f"fold_{fold}").mkdir(exist_ok=True)
        torch.save(saved | (checkpoint or {}), folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder
