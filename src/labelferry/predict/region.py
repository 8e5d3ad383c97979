"""Coarse to fine: where the organs are, and windows there alone (``predict.coarse``; ours).

A first, cheap look finds the region of the organs. Windows lie as they would on the whole image;
those that reach into the region are run, so that its labels are the same. If an organ reaches a
border of the region behind which there is more of the image, the region grows and is scored again,
until none does: what hangs together with something that was found is never cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
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
    consume: Callable[[Iterator[Tensor]], Made],
) -> Made:
    """What ``consume`` makes of the scores of an image, for a region that no organ reaches out of.

    ``scan`` gives slabs (classes, n, y, x) of the whole image, of ``shape``, whose scores are right
    within a region. It is asked again for a larger one, by ``margin`` voxels (z, y, x), then by
    twice as many, as long as an organ touches a border; then ``consume`` is called anew.
    """
    while True:
        border = Border(region, tuple(shape))
        made = consume(border.watched(scan(region)))
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

    def watched(self, slabs: Iterable[Tensor]) -> Iterator[Tensor]:
        """The same slabs, first plane to last; each is looked at as it passes."""
        first = 0
        for slab in slabs:
            planes, rows, columns = self.region
            here = slice(max(0, planes.start - first), max(0, planes.stop - first))
            for axis, is_end in self._open:
                part = self.region[axis]
                at = part.stop - 1 if is_end else part.start
                at -= first if axis == 0 else 0
                if axis == 0 and not 0 <= at < slab.shape[1]:
                    continue
                face = [here, rows, columns]
                face[axis] = slice(at, at + 1)
                if _has_organ(slab[(slice(None), *face)]):
                    self.touched.add((axis, is_end))
            first += slab.shape[1]
            yield slab

    @property
    def _open(self) -> list[Face]:
        rows = list(enumerate(zip(self.region, self.shape, strict=True)))
        low = [(axis, False) for axis, (part, _) in rows if part.start > 0]
        return low + [(axis, True) for axis, (part, size) in rows if part.stop < size]


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
    """Whether an organ has the largest score of a voxel; (classes, …), also of no voxel."""
    return bool((scores[1:].amax(0) > scores[0]).any())
