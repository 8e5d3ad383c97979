"""Choosing a teacher without target labels, and how well truth would have agreed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from labelferry.experiments.criteria import Values

Floats = NDArray[np.float64]

CRITERION = "plausibility + teachers agree"
"""The criterion that decides; the others stand beside it for comparison. Chosen by measuring, see
docs/reference/ablation.md."""


@dataclass(frozen=True)
class Judged:
    """The teachers of one seed as judged without truth: all that a choice may see."""

    seed: int
    criteria: Mapping[str, Values]


@dataclass(frozen=True)
class Known:
    """What truth says of the same teachers, by the key of the row. No choice sees it."""

    seed: int
    validation: Values
    """Mean DSC on the target cohort: the method has seen its images, never its truth."""
    test: Values
    """Mean DSC on patients outside the target cohort."""


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation of a criterion with a true score."""

    raw: float | None
    """Over all teachers of all seeds at once."""
    within: float | None
    """The same after ranking within each seed: an easy seed makes no correlation."""
    seeds: tuple[float | None, ...]
    """Of each seed alone."""
    teachers: int


def choose(judged: Sequence[Judged], criterion: str = CRITERION) -> str | None:
    """The row that a criterion prefers: the largest mean over seeds, of equals the first.

    A row that some seed leaves undefined cannot be chosen; None where no row is left.
    """
    return best([one.criteria.get(criterion, {}) for one in judged])


def best(seeds: Sequence[Values]) -> str | None:
    """The key of the largest mean over seeds; only keys that every seed has defined."""
    means = means_over(seeds)
    return max(means, key=lambda row: means[row]) if means else None


def means_over(seeds: Sequence[Values]) -> dict[str, float]:
    """Mean over seeds of each key that every seed has defined, in the order of the first seed."""
    found = {}
    for row in seeds[0] if seeds else ():
        values = [value for one in seeds if (value := one.get(row)) is not None]
        if len(values) == len(seeds):
            found[row] = float(np.mean(values))
    return found


def correlate(criterion: Sequence[Values], truth: Sequence[Values]) -> Correlation:
    """How a criterion ranks teachers beside a true score; both seed by seed, in one order.

    Teachers that one side leaves undefined do not count. A correlation of fewer than three
    teachers, or with a side that is the same for all, is None.
    """
    pairs = [_pairs(one, other) for one, other in zip(criterion, truth, strict=True)]
    pooled = np.concatenate([*pairs, np.empty((0, 2))])
    # shares of the number of teachers, so that seeds of different numbers can be pooled
    ranks = [stats.rankdata(some, axis=0) / (len(some) + 1) for some in pairs if len(some)]
    return Correlation(
        spearman(pooled[:, 0], pooled[:, 1]),
        _pearson(np.concatenate([*ranks, np.empty((0, 2))])),
        tuple(spearman(some[:, 0], some[:, 1]) for some in pairs),
        len(pooled),
    )


def spearman(a: Floats, b: Floats) -> float | None:
    """Spearman's rho, equal values sharing their mean rank; None where it says nothing."""
    return _pearson(np.stack([np.asarray(stats.rankdata(side)) for side in (a, b)], axis=1))


def _pairs(one: Values, other: Values) -> Floats:
    """What both sides define, (teachers, 2)."""
    found = [
        (mine, theirs)
        for row in one
        if (mine := one[row]) is not None and (theirs := other.get(row)) is not None
    ]
    return np.array(found, np.float64).reshape(-1, 2)


def _pearson(pairs: Floats) -> float | None:
    if len(pairs) < 3 or (pairs == pairs[0]).all(axis=0).any():
        return None
    return float(np.corrcoef(pairs[:, 0], pairs[:, 1])[0, 1])
