"""How sure a network is of each organ: the entropy of its softmax, met on the way to the labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from labelferry.predict.export import argmax_labels
from labelferry.volume import Segmentation

_LEAST = 4096
"""Voxels of a plane that may always be looked at."""

Watch = Callable[[Iterable[Tensor]], Iterable[Tensor]]
"""Hands on slabs of scores as they are, and may look at them."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network makes of an image."""

    labels: Segmentation
    """Organ ids on the image's own grid."""
    entropy: Mapping[int, float]
    """Of each organ that it met; see :class:`EntropyMeter`."""


def unwatched(slabs: Iterable[Tensor]) -> Iterable[Tensor]:
    """Slabs that nobody looks at."""
    return slabs


class EntropyMeter:
    """Mean normalised entropy inside each organ, from slabs of scores that go past.

    Taken on the network's own grid, where an organ is what has the largest score: 0 where one class
    has all the probability, 1 where all classes have the same. Background is not looked at, and of
    a plane that is more than a quarter organs every second voxel of them, or third and so on: it
    costs little more than the arg-max, however many organs a network sees.
    """

    def __init__(self, classes: int) -> None:
        self._total = torch.zeros(classes, dtype=torch.float64)
        self._voxels = torch.zeros(classes, dtype=torch.float64)

    def watch(self, slabs: Iterable[Tensor]) -> Iterator[Tensor]:
        """Hand on slabs (classes, n, y, x) as they are, each measured before.

        Another image, or the same once more, is measured anew.
        """
        self._total.zero_()
        self._voxels.zero_()
        for slab in slabs:
            for z in range(slab.shape[1]):
                self._add(slab[:, z])
            yield slab

    def means(self) -> dict[int, float]:
        """Per organ that was met, in [0, 1]."""
        mean = self._total / self._voxels
        return {organ: float(mean[organ]) for organ in range(1, len(mean)) if self._voxels[organ]}

    def _add(self, scores: Tensor) -> None:
        """One plane (classes, y, x)."""
        labels = argmax_labels(scores).flatten()
        classes = len(self._total)
        places = labels.nonzero()[:, 0]
        # on the CPU and in double precision: the same sums, however many threads a GPU has
        organs = labels[places].cpu()
        held = seen = torch.bincount(organs, minlength=classes)
        step = math.ceil(len(places) / max(_LEAST, len(labels) // 4))
        if step > 1:
            met = torch.bincount(organs[::step], minlength=classes)
            missed = ((held > 0) & (met == 0)).nonzero()[:, 0]
            few = [(labels == organ).nonzero()[:, 0] for organ in missed]
            places = torch.cat([places[::step], *few])
            organs = labels[places].cpu()
            seen = torch.bincount(organs, minlength=classes)
        logs = torch.log_softmax(scores.flatten(1)[:, places].float(), 0)
        entropy = -(logs.exp() * logs).sum(0) / math.log(len(scores))
        total = torch.bincount(organs, entropy.double().cpu(), classes)
        self._total += total * (held / seen.clamp(min=1))
        self._voxels += held
