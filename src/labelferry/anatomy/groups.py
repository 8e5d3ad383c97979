"""Groups of MRI that look alike, as domains of cases whose sequence nothing says.

Looks (see ``looks``) are joined from the bottom up by Ward's rule, which adds as little as it can
to the squared distances from the groups' means. How many groups there are is the number k with the
smallest

    sum of squared distances + k · d · ln n

for n looks of d numbers: the Bayesian information criterion of round groups whose spread is known,
since differences are counted in the spreads of one sequence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

from labelferry.anatomy.looks import look_of
from labelferry.cases import UNKNOWN_SEQUENCE, Case, Cohort
from labelferry.errors import UserError
from labelferry.io.images import read_case
from labelferry.io.notes import Note

Look = NDArray[np.float64]
Mapper = Callable[[Callable[[Case], Look | None], Sequence[Case]], Iterable[Look | None]]
"""Applies a function to every case, in order; ``map``, or one that uses several processes."""
_MOST = 12
"""More domains than this are no help to anyone."""


def look_of_case(case: Case) -> Look | None:
    """The look of a case's image; None where it cannot be read, which is said elsewhere."""
    try:
        return look_of(read_case(case).volume, case.id)
    except UserError:
        return None


def with_groups(cohort: Cohort, mapper: Mapper = map) -> tuple[Cohort, list[Note]]:
    """The same cases; those of unknown sequence and domain get the domains group1, group2, …

    group1 is the largest. The same images get the same groups, in whatever order they come.
    """
    unknown = sorted((case for case in cohort if _is_unknown(case)), key=lambda case: case.id)
    looks = list(mapper(look_of_case, unknown))
    seen = [(case, look) for case, look in zip(unknown, looks, strict=True) if look is not None]
    if not seen:
        return cohort, []
    numbers = group_looks(np.stack([look for _, look in seen]))
    names = _names(numbers, cohort.domains)
    domains = {case.id: names[n] for (case, _), n in zip(seen, numbers, strict=True)}
    cases = [replace(c, domain=domains.get(c.id, c.domain)) for c in cohort]
    counts = sorted(Counter(domains.values()).items(), key=lambda row: (len(row[0]), row[0]))
    text = f"{len(seen)} images of unknown sequence are grouped by how they look: "
    text += ", ".join(f"{name} ({number})" for name, number in counts)
    fix = "look at some of each; a cohort.csv with a column 'domain' overrules it"
    return Cohort(tuple(cases)), [Note(None, None, text, fix, "info")]


def group_looks(looks: NDArray[np.float64]) -> list[int]:
    """The group of each look (n, d), from 0; the largest group first, then by its first look."""
    n, d = looks.shape
    if n == 1:
        return [0]
    joined = linkage(looks, "ward")
    ways = [fcluster(joined, k, "maxclust") for k in range(1, min(n, _MOST) + 1)]
    costs = [_scatter(looks, way) + len(set(way.tolist())) * d * np.log(n) for way in ways]
    best = ways[int(np.argmin(costs))].tolist()
    times = Counter(best)
    order = sorted(times, key=lambda group: (-times[group], best.index(group)))
    return [order.index(group) for group in best]


def _scatter(looks: NDArray[np.float64], groups: NDArray[np.int32]) -> float:
    """Sum of squared distances from the means of the groups."""
    parts = (looks[groups == group] for group in np.unique(groups))
    return float(sum(((part - part.mean(axis=0)) ** 2).sum() for part in parts))


def _is_unknown(case: Case) -> bool:
    said = case.sequence == case.domain == UNKNOWN_SEQUENCE
    return case.modality == "MR" and said


def _names(numbers: Sequence[int], taken: Sequence[str]) -> list[str]:
    """Names for groups 0, 1, …; never those of other domains."""
    free = (f"group{n}" for n in range(1, len(taken) + max(numbers) + 3))
    return [name for name in free if name not in taken][: max(numbers) + 1]
