"""Weighed sums of the scores of overlapping windows, as nnU-Net makes them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from labelferry.predict.config import PredictConfig

log = logging.getLogger(__name__)

CERTAIN = 10.0
"""Logit of background, and minus that of each organ, where the network has not looked."""
_WEIGHT_AT_CENTRE = 10.0  # keeps the border's weights away from the smallest half-precision number


@dataclass(frozen=True, eq=False)
class Weighing:
    """How the scores of windows are summed."""

    weight: Tensor
    """How much each voxel of a window counts, float32, shaped as the patch."""
    dtype: torch.dtype
    """Of the sums."""

    @classmethod
    def of(cls, patch: Sequence[int], config: PredictConfig) -> Weighing:
        """As ``config`` says."""
        dtype = torch.float16 if config.accumulate == "fp16" else torch.float32
        # half precision would lose the corners' weights, and with them voxels of one window alone
        least = float(torch.finfo(dtype).tiny)
        return cls(window_weight(patch, config.gaussian).clamp(min=least), dtype)

    @classmethod
    def of_nnunet(cls, patch: Sequence[int]) -> Weighing:
        """Bit by bit as nnU-Net, whose weights and sums are of half precision."""
        weight = window_weight(patch, True).half()
        weight[weight == 0] = weight[weight > 0].min()
        return cls(weight.float(), torch.float16)


def window_weight(patch: Sequence[int], gaussian: bool) -> Tensor:
    """How much each voxel of a window counts: nnU-Net's Gaussian (sigma 1/8 patch), or ones.

    Float32, shaped as ``patch``; at the centre 10, in the corners so small that it may be 0 in half
    precision.
    """
    weight = torch.ones(tuple(patch), dtype=torch.float64)
    if not gaussian:
        return weight.float()
    for axis, size in enumerate(patch):
        line = np.zeros(size)
        line[size // 2] = 1
        line = ndimage.gaussian_filter1d(line, size / 8, mode="constant")
        shape = [-1 if a == axis else 1 for a in range(len(patch))]
        weight *= torch.from_numpy(line / line.max()).reshape(shape)
    return (weight * _WEIGHT_AT_CENTRE).float()


class Sums:
    """Weighed sums of scores over a moving range of planes."""

    def __init__(
        self, where: torch.device, classes: int, depth: int, plane: Sequence[int], how: Weighing
    ) -> None:
        self._weight = how.weight.to(where)
        self._total = torch.zeros((classes, depth, *plane), dtype=how.dtype, device=where)
        self._weights = torch.zeros((depth, *plane), dtype=how.dtype, device=where)
        self._first = 0

    @classmethod
    def on(
        cls, device: torch.device, classes: int, depth: int, plane: Sequence[int], how: Weighing
    ) -> Sums:
        """On ``device``, or on the CPU where there is too little memory."""
        try:
            return cls(device, classes, depth, plane, how)
        except torch.cuda.OutOfMemoryError:
            log.warning("the scores do not fit the memory of %s; the CPU sums them", device)
            torch.cuda.empty_cache()
            return cls(torch.device("cpu"), classes, depth, plane, how)

    def add(self, window: tuple[slice, slice, slice], scores: Tensor) -> None:
        """Add the scores (classes, z, y, x) of a window."""
        z, y, x = window
        place = (slice(z.start - self._first, z.stop - self._first), y, x)
        weight = self._weight.expand(scores.shape[1:])
        target = self._total[(slice(None), *place)]
        if target.dtype == torch.float32:
            target.addcmul_(scores.to(target.device), weight)
        else:
            # class by class through a buffer that stays in the cache: torch's own sum of half and
            # single precision is several times slower
            for c, part in enumerate(target):
                part.copy_((scores[c].to(target.device) * weight).add_(part))
        self._weights[place] += weight

    def release(self, stop: int) -> Iterator[tuple[int, Tensor]]:
        """The planes before ``stop``, divided by their weights, with the index of the first."""
        while self._first < stop:
            count = min(stop - self._first, self._total.shape[1])
            weights = self._weights[:count]
            scores = self._total[:, :count].div_(weights)
            unseen = weights == 0
            if bool(unseen.any()):
                scores[:, unseen] = -CERTAIN
                scores[0, unseen] = CERTAIN
            yield self._first, scores
            for part in (*self._total, self._weights):
                rest = part[count:].clone()
                part[: len(rest)] = rest
                part[len(rest) :] = 0
            self._first += count
