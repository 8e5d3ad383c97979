"""How sure a mean is, and whether two runs differ: statistics over patients, not over voxels.

Several images of one patient are no independent evidence. Intervals therefore come from drawing
whole patients with replacement (the bootstrap's percentile interval, Efron and Tibshirani 1993),
and the paired test ranks one number per patient (Wilcoxon 1945, signed ranks).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from labelferry.errors import UserError
from labelferry.evaluate.scores import METRICS, CaseScores
from labelferry.spread import Spread, spread_of

Floats = NDArray[np.float64]
Value = tuple[str, str, str, float]
"""Patient, case, organ, and what was measured."""

_EQUAL = 1e-12
"""Differences below it are rounding, and count as none."""
_EXACT_UP_TO = 100
"""Patients up to which the distribution of the rank sum is counted out; beyond, it is normal."""


@dataclass(frozen=True)
class Interval:
    """A mean with its interval over patients; None where it is undefined."""

    mean: float | None
    low: float | None
    """None with fewer than two patients: one patient says nothing about the others."""
    high: float | None
    patients: int
    """Patients and cases in which the metric is defined."""
    cases: int

    def to_json(self) -> dict[str, float | int | None]:
        """The fields by name."""
        return asdict(self)


@dataclass(frozen=True)
class Comparison:
    """The difference b - a on what both have scored; None where it is undefined."""

    organ: str | None
    """None: the mean over organs."""
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    """Wilcoxon signed-rank test (two-sided) over the patients' mean differences; None where no
    patient differs."""
    patients: int
    cases: int
    left_out: int = 0
    """Scores of a case and organ that only one side has."""

    def to_json(self) -> dict[str, Any]:
        """The fields by name, without the organ's."""
        return {key: value for key, value in asdict(self).items() if key != "organ"}


def interval(
    cases: Sequence[CaseScores],
    metric: str = "dsc",
    *,
    organ: str | None = None,
    samples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The mean of an organ over cases, with its bootstrap interval over patients.

    Without ``organ``: the mean over organs of the means over cases, recomputed in every resample.
    An organ that no patient of a resample has is left out of that resample's mean. ``level`` is
    the interval's coverage, in (0, 1). Raises ``UserError`` for an unknown metric.
    """
    values = _values(cases, metric, organ)
    mean, low, high = _bootstrap(values, samples, level, seed)
    return Interval(mean, low, high, *_sizes(values))


def compare_cases(
    a: Sequence[CaseScores],
    b: Sequence[CaseScores],
    metric: str = "dsc",
    *,
    organ: str | None = None,
    samples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """The difference b - a, paired by case id, with its bootstrap interval over patients.

    Only what is defined on both sides counts; the rest is in ``left_out``. The patient of a case
    is the one that ``a`` gives it. Raises ``UserError`` for an unknown metric, and where one side
    has two cases of one id.
    """
    first, second = (
        {(case, name): (patient, value) for patient, case, name, value in _unique(side, metric)}
        for side in (a, b)
    )
    values = [
        (patient, case, name, second[case, name][1] - value)
        for (case, name), (patient, value) in first.items()
        if (case, name) in second and organ in (None, name)
    ]
    left_out = sum(organ in (None, name) for _, name in first.keys() ^ second.keys())
    mean, low, high = _bootstrap(values, samples, level, seed)
    p = signed_rank_p([found for found in _per_patient(values) if found is not None])
    return Comparison(organ, mean, low, high, p, *_sizes(values), left_out)


def spread(cases: Sequence[CaseScores], metric: str = "dsc", *, organ: str | None = None) -> Spread:
    """Mean, standard deviation and quartiles of an organ over cases.

    Without ``organ``, the value of a case is the mean over its organs. Quartiles are interpolated
    linearly. Raises ``UserError`` for an unknown metric.
    """
    by_case: dict[str, list[float]] = {}
    for _, case, _, value in _values(cases, metric, organ):
        by_case.setdefault(case, []).append(value)
    return spread_of(float(np.mean(values)) for values in by_case.values())


def signed_rank_p(differences: Iterable[float]) -> float | None:
    """Two-sided p of Wilcoxon's signed-rank test; None where every difference is zero.

    Zeros are dropped, equal sizes share their mean rank. Up to 100 differences the distribution is
    counted out over all signs, ties included; beyond that it is taken as normal.
    """
    values = np.round(np.array(list(differences), np.float64), 12)
    values = values[np.abs(values) > _EQUAL]
    if not len(values):
        return None
    if len(values) > _EXACT_UP_TO:
        return float(stats.wilcoxon(values, method="asymptotic").pvalue)
    ranks = np.rint(2 * stats.rankdata(np.abs(values))).astype(int)  # twice, since halves occur
    chance = np.zeros(ranks.sum() + 1)
    chance[0] = 1
    for rank in ranks:
        shifted = np.zeros_like(chance)
        shifted[rank:] = chance[:-rank]
        chance = (chance + shifted) / 2
    seen = int(ranks[values > 0].sum())
    return float(min(1.0, 2 * min(chance[: seen + 1].sum(), chance[seen:].sum())))


def _unique(cases: Sequence[CaseScores], metric: str) -> list[Value]:
    names = [case.case for case in cases]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError("two cases of one id cannot be paired", case=twice[0])
    return _values(cases, metric, None)


def _values(cases: Iterable[CaseScores], metric: str, organ: str | None) -> list[Value]:
    """All defined values of a metric."""
    if metric not in METRICS:
        raise UserError("unknown metric", seen=metric, allowed=", ".join(METRICS))
    return [
        (case.owner, case.case, name, value)
        for case in cases
        for name, score in case.organs.items()
        if organ in (None, name) and (value := score.value(metric)) is not None
    ]


def _sizes(values: Sequence[Value]) -> tuple[int, int]:
    """Number of patients and of cases."""
    return len({value[0] for value in values}), len({value[:2] for value in values})


def _sums(values: Sequence[Value]) -> tuple[Floats, Floats]:
    """Sum and number of the values, each (patients, organs)."""
    patients = {name: n for n, name in enumerate(sorted({value[0] for value in values}))}
    organs = {name: n for n, name in enumerate(sorted({value[2] for value in values}))}
    total = np.zeros((len(patients), len(organs)))
    count = np.zeros_like(total)
    for patient, _, organ, value in values:
        total[patients[patient], organs[organ]] += value
        count[patients[patient], organs[organ]] += 1
    return total, count


def _means(total: Floats, count: Floats) -> Floats:
    """Mean over organs of sum / number, for each row; organs without any value are left out."""
    has = count > 0
    means = np.divide(total, count, out=np.zeros_like(total), where=has)
    return np.asarray(means.sum(axis=1) / has.sum(axis=1))


def _per_patient(values: Sequence[Value]) -> list[float]:
    return [float(mean) for mean in _means(*_sums(values))]


def _bootstrap(
    values: Sequence[Value], samples: int, level: float, seed: int
) -> tuple[float | None, float | None, float | None]:
    """Mean over organs of the means over cases, and its interval over patients."""
    if not 0 < level < 1:
        raise UserError("a level of coverage lies between 0 and 1", seen=level)
    if not values:
        return None, None, None
    total, count = _sums(values)
    mean = float(_means(total.sum(axis=0)[None], count.sum(axis=0)[None])[0])
    patients = len(total)
    if patients < 2:
        return mean, None, None
    rng = np.random.default_rng(seed)
    # how often each patient is drawn
    draws = rng.multinomial(patients, np.full(patients, 1 / patients), size=samples).astype(float)
    found = _means(draws @ total, draws @ count)
    low, high = np.quantile(found, ((1 - level) / 2, (1 + level) / 2))
    return mean, float(low), float(high)
