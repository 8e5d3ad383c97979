"""Two images of one patient without a patient's id: their edges lie in the same places.

The sequences of one session share the scanner's world. There the borders of one patient's organs
coincide, whatever their contrast; those of two patients do so by chance only. The outlines of the
bodies tell less: fat that a sequence suppresses is no body to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np

from labelferry.match.case import Descriptor
from labelferry.match.deform import levelled
from labelferry.volume import Grid, Volume, resample

_LATTICE_MM = 8.0
_LEAST_PLACES = 1000
"""Half a litre: less is too little in common to tell."""
_STEPS = 32.0

Alike = dict[str, dict[str, float]]
"""Follower → anchors of the same patient → likeness."""


def sketch(anatomy: Volume, body: Volume) -> Volume:
    """Levelled edges inside the body where world coordinates are multiples of 8 mm.

    int8, in 32nds of a local standard deviation; 0 outside the body. Some 20 000 values, so that
    thousands of cases fit in memory. Both volumes share a grid of any affine.
    """
    lattice = _lattice(anatomy.grid)
    edges = resample(levelled(anatomy), lattice, fill=0.0).array
    mask = body.with_array(np.asarray(body.array, np.float32))
    edges = np.where(resample(mask, lattice, fill=0.0).array > 0.5, edges, 0)
    return Volume(np.clip(np.round(edges * _STEPS), -127, 127).astype(np.int8), lattice)


def likeness(one: Volume, other: Volume) -> float:
    """Normalised cross-correlation of two sketches where both show a body, in [-1, 1].

    0 where they share less than half a litre, or one of them has no edge there.
    """
    corners = [np.round(side.grid.affine[:3, 3] / _LATTICE_MM).astype(int) for side in (one, other)]
    low = np.maximum(*corners)
    high = np.minimum(*(c + side.grid.shape for c, side in zip(corners, (one, other), strict=True)))
    if (high <= low).any():
        return 0.0
    a, b = (
        side.array[tuple(slice(lo, hi) for lo, hi in zip(low - c, high - c, strict=True))]
        for c, side in zip(corners, (one, other), strict=True)
    )
    both = (a != 0) & (b != 0)
    if np.count_nonzero(both) < _LEAST_PLACES:
        return 0.0
    x, y = (side[both].astype(np.float32) for side in (a, b))
    x -= x.mean()
    y -= y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(np.clip(x @ y / scale, -1, 1)) if scale > 0 else 0.0


def find_alike(
    followers: Sequence[Descriptor],
    anchors: Sequence[Descriptor],
    sketch_of: Callable[[str], Volume],
    least: float,
) -> Alike:
    """Anchors that show the same patient as a follower by their likeness, at least ``least``.

    Where both patients are known, their ids decide and nothing is looked at; a patient is not known
    whose id is the case's. An image is paired with at most one of each domain, the likest first.
    ``sketch_of`` gives the sketch of a case.
    """
    lenders = [(anchor, sketch_of(anchor.id)) for anchor in anchors]
    pairs = []
    for follower in followers:
        own = sketch_of(follower.id)
        for anchor, other in lenders:
            if anchor.id != follower.id and not (_is_known(follower) and _is_known(anchor)):
                value = likeness(own, other)
                if value >= least:
                    pairs.append((-value, follower.id, anchor.id, follower.domain, anchor.domain))
    taken: set[tuple[str, str]] = set()
    found: Alike = {}
    for value, follower_id, anchor_id, domain, other_domain in sorted(pairs):
        ends = {(follower_id, other_domain), (anchor_id, domain)}
        if not ends & taken:
            taken |= ends
            found.setdefault(follower_id, {})[anchor_id] = -value
    return found


def _is_known(case: Descriptor) -> bool:
    return case.patient != case.id


def _lattice(grid: Grid) -> Grid:
    corners = np.array(list(product(*((0, n - 1) for n in grid.shape))), float)
    world = grid.to_world(corners) / _LATTICE_MM
    low, high = np.ceil(world.min(axis=0)), np.floor(world.max(axis=0))
    affine = np.diag([_LATTICE_MM] * 3 + [1.0])
    affine[:3, 3] = low * _LATTICE_MM
    return Grid(tuple(int(n) for n in np.maximum(high - low, 0) + 1), affine)
