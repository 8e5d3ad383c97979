"""What random contrasts cost: seconds of a CPU for a batch of patches, beside the network's step.

    python -m benchmarks.contrast [--repeats N] [--size demo]

One thread. A batch is made as training makes it (drawn, randomised, augmented) from a phantom, and
the network of the size ``demo`` (2-D, 64×96, five slices, batches of eight) takes a step on it. The
sources take turns, so that a busy machine slows all alike. ``share`` is what a batch costs more
than one of plain CT, as a part of the whole step (network and batch).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from labelferry.anatomy.prepare import prepare, prepare_labels
from labelferry.io.nifti import write_volume
from labelferry.organs import FLARE
from labelferry.phantom.anatomy import draw_subject
from labelferry.phantom.contrast import ct_table
from labelferry.phantom.frame import PhantomGrid
from labelferry.pipeline.config import RunConfig, load_config
from labelferry.segment.augment import build_transforms
from labelferry.segment.examples import Example, PatchSampler, Randomise, load_examples
from labelferry.segment.loss import PartialLoss
from labelferry.segment.network import build_network
from labelferry.segment.plans import make_plans
from labelferry.segment.samples import Batch, PatchDataset, collate
from labelferry.translate.precision import autocast
from labelferry.volume import Volume

SOURCES: dict[str, Randomise] = {
    "plain": "none",
    "curves": "curves",
    "convolutions": "convolutions",
    "paint": "paint",
}


def make_datasets(folder: Path, config: RunConfig) -> dict[str, PatchDataset]:
    """One dataset per source, all of the same phantom."""
    grid = PhantomGrid.of_spacing(config.prepare.spacing)
    subject = draw_subject(np.random.default_rng(5), grid)
    hounsfield = ct_table("pv")[subject.tissues]
    hounsfield += np.random.default_rng(6).normal(0, 12, hounsfield.shape)
    volume = Volume(hounsfield.astype(np.float32), subject.labels.grid)
    prepared = prepare(volume, "CT", config.prepare)
    write_volume(folder / "image.nii.gz", prepared.image)
    write_volume(folder / "label.nii.gz", prepare_labels(subject.labels, prepared))
    teach = config.teach
    train = teach.train.model_copy(update={"curves_p": 1.0})
    network = teach.network
    transform, size = build_transforms(network.patch, train, None, slices=True)
    plans = make_plans(network, config.prepare.spacing[::-1], 1, batch=train.batch)
    datasets = {}
    for name, how in SOURCES.items():
        example = Example(
            name, (folder / "image.nii.gz",), folder / "label.nii.gz", FLARE.ids, randomise=how,
            window=config.prepare.ct_window,
        )  # fmt: skip
        stored = load_examples([example], FLARE, plans, folder / "cache")
        sampler = PatchSampler(stored, size, train.foreground, train.balanced, network.context)
        datasets[name] = PatchDataset(sampler, transform, train, classes=len(FLARE) + 1, seed=1)
    return datasets


class Step:
    """The network's part of a training step."""

    def __init__(self, config: RunConfig) -> None:
        network, self.train = config.teach.network, config.teach.train
        classes = len(FLARE) + 1
        spacing = config.prepare.spacing[::-1]
        self.network = build_network(
            network,
            network.channels_in(1),
            classes,
            spacing=spacing,
            deep_supervision=False,
            seed=0,
        )
        self.loss = PartialLoss(classes, self.train, 1, {})
        self.optimizer = torch.optim.AdamW(self.network.parameters(), 1e-3)

    def __call__(self, batch: Batch) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(torch.device("cpu"), self.train.amp):
            outputs = self.network(batch.data)
        self.loss([outputs], batch.targets, batch.annotated).backward()
        self.optimizer.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--size", default="demo")
    given = parser.parse_args()
    torch.set_num_threads(1)
    config = load_config("only-ct", given.size)
    taken: dict[str, list[float]] = {name: [] for name in (*SOURCES, "step")}
    with tempfile.TemporaryDirectory() as folder:
        datasets = make_datasets(Path(folder), config)
        step = Step(config)
        for n in range(given.repeats + 1):
            for name, dataset in datasets.items():
                start = time.process_time()
                indices = range(n * config.teach.train.batch, (n + 1) * config.teach.train.batch)
                batch = collate([dataset[i] for i in indices])
                taken[name].append(time.process_time() - start)
            start = time.process_time()
            step(batch)
            taken["step"].append(time.process_time() - start)
    middle = {name: statistics.median(times[1:]) for name, times in taken.items()}
    print(f"{'':<8} {'CPU s':>8} {'batch/step':>11} {'share':>7}")
    for name in SOURCES:
        whole = middle[name] + middle["step"]
        more = (middle[name] - middle["plain"]) / whole
        print(f"{name:<8} {middle[name]:8.4f} {middle[name] / whole:11.1%} {more:7.1%}")
    print(f"{'network':<8} {middle['step']:8.4f}")


if __name__ == "__main__":
    main()
