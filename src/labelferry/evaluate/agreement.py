"""How much label maps of one image agree with each other. Nothing here knows a truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from labelferry.errors import UserError

Labels = NDArray[np.uint8]


def agreement(a: Labels, b: Labels) -> dict[int, float]:
    """Dice 2|A ∩ B| / (|A| + |B|) of every organ id that either of two label maps holds.

    An organ that only one of them holds has 0. Raises ``UserError`` where the shapes differ.
    """
    if a.shape != b.shape:
        raise UserError("the label maps differ in shape", seen=a.shape, allowed=b.shape)
    size = int(max(a.max(initial=0), b.max(initial=0))) + 1
    # every pair of ids is counted in one pass
    joint = np.bincount(a.ravel().astype(np.intp) * size + b.ravel(), minlength=size * size)
    joint = joint.reshape(size, size)
    total = joint.sum(axis=0) + joint.sum(axis=1)
    return {n: float(2 * joint[n, n] / total[n]) for n in range(1, size) if total[n]}


def mean_agreement(a: Labels, b: Labels) -> float | None:
    """Mean of :func:`agreement` over its organs; None where both label maps are empty."""
    found = agreement(a, b)
    return float(np.mean(list(found.values()))) if found else None


def others_vote(labels: Sequence[Labels]) -> list[Labels]:
    """For each of several label maps, the vote of the others.

    A voxel gets the id, background included, that most of the others give it; of equals the
    smallest id, so that background wins where nothing is agreed on. Raises ``UserError`` with fewer
    than three maps: two others are the fewest that can vote.
    """
    if len(labels) < 3:
        raise UserError("a vote of the others needs three label maps", seen=len(labels))
    stack = np.stack(labels)
    ids = range(int(stack.max(initial=0)) + 1)
    votes = np.stack([(stack == n).sum(axis=0, dtype=np.uint16) for n in ids])
    found = []
    for own in labels:
        others = votes.copy()
        mine = own[None]
        np.put_along_axis(others, mine, np.take_along_axis(others, mine, axis=0) - 1, axis=0)
        found.append(others.argmax(axis=0).astype(np.uint8))
    return found
