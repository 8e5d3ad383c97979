"""Train one model and leave it as a bundle: the segmentation engine's only verb."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelferry.anatomy.config import AnatomyConfig
from labelferry.errors import UserError
from labelferry.io.nifti import read_image, read_labels
from labelferry.organs import OrganSet
from labelferry.pace import Limit, read_decision
from labelferry.prior.model import Prior
from labelferry.segment.bundle import Bundle, read_bundle, write_bundle
from labelferry.segment.config import NetworkConfig, Space, TrainConfig
from labelferry.segment.examples import Example, describe, load_examples
from labelferry.segment.plans import make_dataset, make_plans, topology

Progress = Callable[[int, int], None]

CHANNELS: dict[str, tuple[str, ...]] = {
    "plain": ("image",),
    "anatomy": ("anatomy",),
    "both": ("image", "anatomy"),
}
"""File stems of a prepared case that make the input channels of each space."""


@dataclass(frozen=True)
class Task:
    """What is to be learned: everything about a model but how long to train it."""

    name: str
    organs: OrganSet
    space: Space
    anatomy: AnatomyConfig
    network: NetworkConfig
    normalisation: str = "image"
    """``image``: each image by its own mean and SD. ``dataset``: nnU-Net's CT scheme (2.5)."""
    inference: Mapping[str, Any] = field(default_factory=dict)
    """How the model is to be applied, as its bundle tells (``PredictConfig``)."""
    prior: Prior | None = None
    """What the source labels say about organs; it travels with the model."""


def train_model(
    examples: Sequence[Example],
    task: Task,
    config: TrainConfig,
    folder: Path,
    *,
    seed: int,
    device: str,
    warm_start: Path | None = None,
    devices: int = 1,
    limit: Limit | None = None,
    progress: Progress | None = None,
) -> Path:
    """Train on ``examples`` and write the bundle ``folder/model``; goes on after a kill.

    ``warm_start`` is a bundle to begin from: of the same network, or of a wider or deeper one, of
    which a part is kept (``segment.inherit``). Where its form is another, the network begins from
    random weights, as its bundle says. ``limit`` is the time there is, ``devices`` the processes
    that share each batch. Returns the bundle's folder.
    """
    from labelferry.segment.inherit import inherited
    from labelferry.segment.network import build_network
    from labelferry.segment.training import fit

    model = folder / "model"
    if (model / "bundle.json").exists():
        _tidy(folder)  # a kill may have come between the bundle and this
        return model
    if not examples:
        raise UserError("nothing to train on", path=folder, fix="check which cases were left out")
    folder.mkdir(parents=True, exist_ok=True)
    spacing = task.anatomy.spacing[::-1]
    channels = len(CHANNELS[task.space])
    plans = make_plans(
        task.network,
        spacing,
        channels,
        batch=config.batch,
        batch_dice=config.batch_dice,
        intensities=(
            _intensities(examples, task.organs) if task.normalisation == "dataset" else None
        ),
    )
    prepared = load_examples(examples, task.organs, plans, folder / "cache")
    strides, _, patch = topology(task.network, spacing)
    classes = len(task.organs) + 1
    network = build_network(
        task.network,
        task.network.channels_in(channels),
        classes,
        spacing=spacing,
        deep_supervision=config.deep_supervision,
        seed=seed,
    )
    began = None
    if warm_start is not None:
        began = inherited(read_bundle(warm_start)[1], network.state_dict())
    if began is not None:
        network.load_state_dict(began)
    final = fit(
        network,
        prepared,
        config,
        folder,
        patch=patch,
        context=task.network.context,
        strides=strides,
        classes=classes,
        seed=seed,
        device=device,
        devices=devices,
        limit=limit,
        progress=progress,
    )
    decided = read_decision(folder)
    bundle = Bundle(
        name=task.name,
        organs=task.organs,
        space=task.space,
        anatomy=task.anatomy,
        modality="MR",
        network=task.network,
        plans=plans,
        dataset=make_dataset(task.organs, CHANNELS[task.space]),
        provenance={
            "seed": seed,
            "train": config.model_dump(mode="json"),
            "warm_start": began is not None,
            "examples": describe(examples),
            **({"time_limit": asdict(decided)} if decided else {}),
        },
        inference=dict(task.inference),
        prior=task.prior,
    )
    write_bundle(model, bundle, final)
    del prepared  # open files cannot be removed on Windows
    _tidy(folder)
    return model


def _tidy(folder: Path) -> None:
    """Remove what only a training that goes on needs."""
    shutil.rmtree(folder / "cache", ignore_errors=True)
    (folder / "checkpoint.pt").unlink(missing_ok=True)


def _intensities(examples: Sequence[Example], organs: OrganSet) -> dict[str, dict[str, float]]:
    """Mean, SD and 0.5–99.5 percentiles over organ voxels of the data set (paper 2.5)."""
    per_channel: dict[int, list[NDArray[np.float32]]] = {}
    rng = np.random.default_rng(0)
    for example in examples:
        inside = np.asarray(read_labels(example.label, organs).array) > 0
        for channel, path in enumerate(example.channels):
            values = np.asarray(read_image(path).volume.array, np.float32)[inside]
            if len(values) > 10_000:
                values = rng.choice(values, 10_000, replace=False)
            per_channel.setdefault(channel, []).append(values)
    out: dict[str, dict[str, float]] = {}
    for channel, parts in per_channel.items():
        pooled: NDArray[Any] = np.concatenate(parts)
        if len(pooled) == 0:
            raise UserError("no organ in any training label", seen=f"{len(examples)} label maps")
        low, high = np.percentile(pooled, [0.5, 99.5])
        out[str(channel)] = {
            "mean": float(pooled.mean()),
            "std": float(max(pooled.std(), 1e-6)),
            "percentile_00_5": float(low),
            "percentile_99_5": float(high),
            "median": float(np.median(pooled)),
            "min": float(pooled.min()),
            "max": float(pooled.max()),
        }
    return out
