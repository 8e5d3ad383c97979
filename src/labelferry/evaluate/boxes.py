"""The box round every organ of a label map, in one pass over its bytes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.uint8]
Bits = NDArray[np.uint16]
Box = tuple[slice, slice, slice]

EMPTY: Box = (slice(0, 0),) * 3
_AT_ONCE = 15
"""Organs that one pass looks for: each owns a bit of a 16-bit number."""


def boxes(labels: Labels, most: int) -> dict[int, Box]:
    """The box round each label 1…``most`` that a 3-D label map of unsigned bytes holds."""
    if is_turned(labels):
        return {organ: box[::-1] for organ, box in boxes(labels.T, most).items()}
    inner = _round_all(labels)
    part = labels[inner]
    found = {}
    if part.size:
        for base in range(0, most, _AT_ONCE):
            along = _present(part, base)
            for organ in range(base + 1, min(base + _AT_ONCE, most) + 1):
                if along[0].any() and (box := _box(along, organ - base, inner)):
                    found[organ] = box
    return found


def around(a: Box, b: Box) -> Box:
    """The smallest box round two boxes."""
    x, y, z = (slice(min(p.start, q.start), max(p.stop, q.stop)) for p, q in zip(a, b, strict=True))
    return x, y, z


def is_turned(array: NDArray[np.generic]) -> bool:
    """Whether the first axis is the one along which the memory runs: work goes faster turned."""
    return array.strides[0] < array.strides[-1]


def _round_all(labels: Labels) -> Box:
    """The box round all that is not background."""
    flat = labels.max(axis=0)
    runs = labels.any(axis=(1, 2)), flat.any(axis=1), flat.any(axis=0)
    found = [np.flatnonzero(run) for run in runs]
    if not all(len(run) for run in found):
        return EMPTY
    x, y, z = (slice(int(run[0]), int(run[-1]) + 1) for run in found)
    return x, y, z


def _present(labels: Labels, base: int) -> tuple[Bits, Bits, Bits]:
    """For each slice along each axis, a bit n for each label ``base`` + n that it holds."""
    a, b, c = labels.shape
    first = np.zeros(a, np.uint16)
    other = np.zeros((b, c), np.uint16)
    for n, bits in enumerate(_planes(labels, base)):
        other |= bits
        first[n] = np.bitwise_or.reduce(np.bitwise_or.reduce(bits, axis=0))
    return first, np.bitwise_or.reduce(other, axis=1), np.bitwise_or.reduce(other, axis=0)


def _planes(labels: Labels, base: int) -> Iterator[Bits]:
    one = np.uint16(1)
    for plane in labels:
        # labels below the base wrap round to large ones; a shift by 16 or more leaves 0
        yield np.left_shift(one, plane - np.uint8(base), dtype=np.uint16, casting="unsafe")


def _box(along: tuple[Bits, Bits, Bits], bit: int, inner: Box) -> Box | None:
    sides = []
    for bits, part in zip(along, inner, strict=True):
        found = np.flatnonzero(bits & np.uint16(1 << bit))
        if not len(found):
            return None
        sides.append(slice(part.start + int(found[0]), part.start + int(found[-1]) + 1))
    return sides[0], sides[1], sides[2]
