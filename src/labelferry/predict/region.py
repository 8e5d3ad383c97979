"""Coarse to fine: where the organs are, and windows there alone (``predict.coarse``; ours).

A first, cheap look finds the region of the organs. If in the scores of that region an organ reaches
a border behind which there is more of the image, the region grows and is scored again, until none
does: what hangs together with something that was found is never cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from labelferry.predict.window import Window

Made = TypeVar("Made")
Face = tuple[int, bool]
"""An axis of (z, y, x), and whether it is the border at its end."""


def within_region(
    region: Window,
    shape: Sequence[int],
    margin: Sequence[int],
    scan: Callable[[Window], Iterator[Tensor]],
    consume: Callable[[Window, Iterator[Tensor]], Made],
) -> Made:
    """What ``consume`` makes of the scores of a region that no organ reaches out of.

    ``scan`` gives a region's slabs (classes, n, y, x). It is asked again for a larger region, by
    ``margin`` voxels (z, y, x), then by twice as many, as long as an organ touches a border; then
    ``consume`` is called anew. ``shape`` is the image's.
    """
    while True:
        border = Border(region, tuple(shape))
        made = consume(region, border.watched(scan(region)))
        if not border.touched:
            return made
        region = grown(region, border.touched, margin, shape)
        margin = [2 * n for n in margin]


@dataclass(eq=False)
class Border:
    """The faces of a region behind which there is more of the image."""

    region: Window
    shape: tuple[int, ...]
    touched: set[Face] = field(default_factory=set)
    """Those that an organ touches, as far as the slabs have passed."""

    def watched(self, slabs: Iterator[Tensor]) -> Iterator[Tensor]:
        """The same slabs, first plane to last; each is looked at as it passes."""
        low = [part.start > 0 for part in self.region]
        high = [part.stop < size for part, size in zip(self.region, self.shape, strict=True)]
        depth = self.region[0].stop - self.region[0].start
        passed = 0
        for slab in slabs:
            first, passed = passed == 0, passed + slab.shape[1]
            for axis in range(3):
                open_low = low[axis] and (axis > 0 or first)
                open_high = high[axis] and (axis > 0 or passed == depth)
                if open_low and _has_organ(slab.select(axis + 1, 0)):
                    self.touched.add((axis, False))
                if open_high and _has_organ(slab.select(axis + 1, -1)):
                    self.touched.add((axis, True))
            yield slab


def region_of(found: NDArray[np.bool_], shape: Sequence[int], margin: Sequence[int]) -> Window:
    """The region of an image of ``shape`` that holds ``found``, on other voxels of its extent.

    Widened by ``margin`` voxels and kept inside. All of the image where nothing was found.
    """
    if not found.any():
        return whole(shape)
    parts = []
    for axis, (size, pad) in enumerate(zip(shape, margin, strict=True)):
        (where,) = np.nonzero(found.any(axis=tuple(a for a in range(3) if a != axis)))
        ratio = size / found.shape[axis]
        start = int(np.floor(where[0] * ratio + 1e-9)) - pad
        stop = int(np.ceil((where[-1] + 1) * ratio - 1e-9)) + pad
        parts.append(slice(max(0, start), min(size, stop)))
    return parts[0], parts[1], parts[2]


def at_least(region: Window, size: Sequence[int], shape: Sequence[int]) -> Window:
    """A region widened on both sides to ``size`` voxels, as far as the image goes.

    A window then sees the image round the organs, not zeros.
    """
    parts = []
    for part, wanted, whole_size in zip(region, size, shape, strict=True):
        length = min(whole_size, max(wanted, part.stop - part.start))
        start = part.start - (length - (part.stop - part.start)) // 2
        start = min(max(0, start), whole_size - length)
        parts.append(slice(start, start + length))
    return parts[0], parts[1], parts[2]


def grown(region: Window, faces: set[Face], margin: Sequence[int], shape: Sequence[int]) -> Window:
    """A region with these faces moved outwards by ``margin`` voxels, at least one, kept inside."""
    parts = []
    for axis, (part, pad, size) in enumerate(zip(region, margin, shape, strict=True)):
        start = part.start - max(1, pad) * ((axis, False) in faces)
        stop = part.stop + max(1, pad) * ((axis, True) in faces)
        parts.append(slice(max(0, start), min(size, stop)))
    return parts[0], parts[1], parts[2]


def whole(shape: Sequence[int]) -> Window:
    """All of an image."""
    z, y, x = shape
    return slice(0, z), slice(0, y), slice(0, x)


def _has_organ(scores: Tensor) -> bool:
    """Whether an organ has the largest score of a voxel; (classes, …)."""
    return bool((scores[1:].amax(0) > scores[0]).any())
