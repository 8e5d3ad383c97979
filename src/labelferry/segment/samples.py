"""Sample n of a training: a patch, drawn and augmented from (seed, n) alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from labelferry.files import atomic_path
from labelferry.segment.augment import Transform, apply
from labelferry.segment.config import TrainConfig
from labelferry.segment.contrast import Contrast, draw_contrast, paint
from labelferry.segment.convolutions import convolve, draw_convolutions
from labelferry.segment.curves import draw_curve, draw_scanner, repaint
from labelferry.segment.examples import Patch, PatchSampler

_LOGGED_CONTRASTS = 50


@dataclass(frozen=True, eq=False)
class Batch:
    """A step's patches: data (B, c, …), labels per resolution (B, 1, …), annotated (B, classes)."""

    data: Tensor
    targets: list[Tensor]
    annotated: Tensor


class PatchDataset(Dataset[tuple[Tensor, list[Tensor], Tensor]]):
    """Sample n of a training, whichever process asks for it."""

    def __init__(
        self,
        sampler: PatchSampler,
        transform: Transform,
        config: TrainConfig,
        *,
        classes: int,
        seed: int,
    ) -> None:
        self.sampler, self.transform, self.config = sampler, transform, config
        self.classes, self.seed = classes, seed
        # an organ that no example annotates is nowhere, else the network may call any background it
        examples = [p.example for p in sampler.prepared]
        taught = {organ for example in examples for organ in example.annotated}
        self.paints = any(example.randomise == "paint" for example in examples)
        self.untaught = sorted(set(range(1, classes)) - taught)

    def __getitem__(self, n: int) -> tuple[Tensor, list[Tensor], Tensor]:
        rng = np.random.default_rng((self.seed, n))
        patch = self.sampler.draw(rng)
        source = patch.source
        data = self._randomised(patch, rng)
        image, targets = apply(self.transform, data, patch.labels, rng)
        annotated = torch.zeros(self.classes, dtype=torch.bool)
        annotated[[0, *sorted(source.example.annotated), *self.untaught]] = True
        return image, targets, annotated

    def _randomised(self, patch: Patch, rng: np.random.Generator) -> NDArray[np.float32]:
        source, data = patch.source, patch.data
        how = source.example.randomise
        if how == "curves" and rng.random() < self.config.curves_p:
            scanner = draw_scanner(rng, data.ndim - 1)
            return repaint(data, source.range, source.histogram, draw_curve(rng), scanner)
        if how == "convolutions":
            network = draw_convolutions(rng)
            scanner = draw_scanner(rng, data.ndim - 1)
            return convolve(data, source.range, patch.labels[0] >= 0, network, scanner)
        if how == "paint":
            assert patch.classes is not None and source.composition is not None
            return paint(data, patch.classes, source.composition, _contrast(patch, rng))
        return data

    def contrast(self, n: int) -> Contrast | None:
        """What sample n is painted with; None where its image is not painted."""
        rng = np.random.default_rng((self.seed, n))
        patch = self.sampler.draw(rng)
        return _contrast(patch, rng) if patch.source.example.randomise == "paint" else None


def _contrast(patch: Patch, rng: np.random.Generator) -> Contrast:
    assert patch.source.composition is not None
    return draw_contrast(rng, len(patch.source.composition.share), patch.data.ndim - 1)


def log_contrasts(dataset: PatchDataset, config: TrainConfig, path: Path) -> None:
    """Write the first contrasts, one line a sample; any other follows from the seed as well."""
    if not dataset.paints:
        return
    samples = range(min(_LOGGED_CONTRASTS, config.iterations * config.batch))
    drawn = {n: dataset.contrast(n) for n in samples}
    lines = [json.dumps({"sample": n, **c.to_json()}) for n, c in drawn.items() if c is not None]
    if lines:
        with atomic_path(path) as part:
            part.write_text("\n".join(lines) + "\n", encoding="utf-8")


def collate(samples: Sequence[tuple[Tensor, list[Tensor], Tensor]]) -> Batch:
    """Stack samples to a batch."""
    images, targets, annotated = zip(*samples, strict=True)
    return Batch(
        torch.stack(images),
        [torch.stack(level) for level in zip(*targets, strict=True)],
        torch.stack(annotated),
    )
