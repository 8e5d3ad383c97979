"""The arg-max of resampled scores, from slabs of old planes to new planes, class by class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from labelferry.segment.resampling import nearest_index

CHUNK_VOXELS = 2**19
"""New voxels that are worked on at once: bounds the memory, whatever the number of classes."""


@dataclass(frozen=True, eq=False)
class Taps:
    """Along an axis, per new voxel: the lower and the upper old one, and the upper one's share."""

    lower: Tensor
    upper: Tensor
    share: Tensor
    is_nearest: bool

    @classmethod
    def linear(cls, old: int, new: int) -> Taps:
        """Between the two nearest centres; beyond the outermost, the value there."""
        centre = (torch.arange(new, dtype=torch.float64) + 0.5) * (old / new) - 0.5
        centre = centre.clamp(0, old - 1)
        lower = centre.floor().long()
        return cls(lower, (lower + 1).clamp(max=old - 1), (centre - lower).float(), old == new)

    @classmethod
    def nearest(cls, old: int, new: int) -> Taps:
        """The nearest centre."""
        index = torch.from_numpy(nearest_index(old, new))
        return cls(index, index, torch.zeros(new), True)

    def __len__(self) -> int:
        return len(self.lower)


@dataclass(frozen=True, eq=False)
class Lattice:
    """The taps of all axes."""

    z: Taps
    y: Taps
    x: Taps

    def planes(self, scores: Tensor) -> Tensor:
        """Old planes (n, y, x) on the new rows and columns."""
        size = [len(scores[0]) if self.y.is_nearest else len(self.y), scores.shape[2]]
        if not self.x.is_nearest:
            size[1] = len(self.x)
        if tuple(size) != tuple(scores.shape[1:]):
            scores = functional.interpolate(
                scores[:, None], size, mode="bilinear", align_corners=False
            )[:, 0]
        for axis, taps in ((1, self.y), (2, self.x)):
            if taps.is_nearest and len(taps) != scores.shape[axis]:
                scores = scores.index_select(axis, taps.lower.to(scores.device))
        return scores


def stream_labels(
    slabs: Iterable[Tensor], lattice: Lattice, *, rounded: bool = False
) -> NDArray[np.uint8]:
    """Labels of the lattice's voxels (z, y, x), uint8, from slabs (classes, n, y, x) of old planes.

    A new plane is labelled as soon as the old ones that make it have come. With ``rounded``, scores
    of half precision are rounded to it again once they are resampled.
    """
    z = lattice.z
    out = np.empty((len(z), len(lattice.y), len(lattice.x)), np.uint8)
    first = done = 0  # of the old planes at hand; of the new ones
    kept: Tensor | None = None
    for slab in slabs:
        planes = _Planes(first, kept, slab)
        ready = int(torch.searchsorted(z.upper, planes.stop))
        for part in _chunks(done, ready, out.shape[1] * out.shape[2]):
            out[part] = _label_planes(planes, part, lattice, rounded).cpu().numpy()
        done = ready
        first = min(int(z.lower[done]), planes.stop) if done < len(z) else planes.stop
        # what the next new plane needs of these: a slab is overwritten
        kept = planes.all_from(first)
    assert done == len(z), "slabs that make up the volume"
    return out


@dataclass(frozen=True, eq=False)
class _Planes:
    """The old planes at hand: those kept of earlier slabs, and a slab."""

    first: int
    kept: Tensor | None
    slab: Tensor

    @property
    def stop(self) -> int:
        return self.first + (0 if self.kept is None else self.kept.shape[1]) + self.slab.shape[1]

    def of(self, c: int, start: int, stop: int) -> Tensor:
        """Planes of class ``c``."""
        offset = self.stop - self.slab.shape[1]
        if self.kept is None or start >= offset:
            return self.slab[c, start - offset : stop - offset]
        old = self.kept[c, start - self.first :]
        return torch.cat([old, self.slab[c, : max(0, stop - offset)]])[: stop - start]

    def all_from(self, start: int) -> Tensor | None:
        """A copy of the planes from ``start`` on, of all classes; None where there are none."""
        if start >= self.stop:
            return None
        offset = self.stop - self.slab.shape[1]
        if self.kept is None or start >= offset:
            return self.slab[:, start - offset :].clone()
        return torch.cat([self.kept[:, start - self.first :], self.slab], 1)


def _label_planes(planes: _Planes, part: slice, lattice: Lattice, rounded: bool) -> Tensor:
    """Labels of some new planes."""
    z = lattice.z
    lower, upper = z.lower[part], z.upper[part]
    start, stop = int(lower[0]), int(upper[-1]) + 1
    device = planes.slab.device
    half = rounded and planes.slab.dtype == torch.float16
    # each old plane is labelled once, however many new ones it makes, and not if it makes none
    used, made = (index.to(device) for index in torch.unique(lower - start, return_inverse=True))

    def score(c: int) -> Tensor:
        scores = planes.of(c, start, stop)
        if z.is_nearest and len(used) < len(scores):
            scores = scores.index_select(0, used)
        scores = lattice.planes(scores.float())
        if not z.is_nearest:
            share = z.share[part, None, None].to(device)
            above = scores.index_select(0, (upper - start).to(device))
            scores = torch.lerp(scores.index_select(0, (lower - start).to(device)), above, share)
        return scores.half().float() if half else scores

    labels = running_argmax(score, len(planes.slab))
    return labels.index_select(0, made) if z.is_nearest else labels


def _chunks(start: int, stop: int, plane: int) -> Iterator[slice]:
    depth = max(1, CHUNK_VOXELS // plane)
    for first in range(start, stop, depth):
        yield slice(first, min(stop, first + depth))


def running_argmax(score: Callable[[int], Tensor], classes: int) -> Tensor:
    """Arg-max over classes of which one at a time is held; uint8."""
    best = score(0).clone()
    labels = torch.zeros(best.shape, dtype=torch.uint8, device=best.device)
    for c in range(1, classes):
        candidate = score(c)
        labels.masked_fill_(candidate > best, c)
        torch.maximum(best, candidate, out=best)
    return labels
