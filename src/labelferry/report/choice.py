"""Which cases are shown with pictures, which of them on top, and which are best and worst."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from labelferry.report.config import ReportConfig
from labelferry.report.data import CaseView


@dataclass(frozen=True)
class Extremes:
    """The best and the worst cases; no case is both."""

    best: tuple[int, ...]
    """Indices, the best first."""
    worst: tuple[int, ...]
    """Indices, the worst first."""
    scored: bool
    """Ranked by DSC against truth; else by plausibility, then instability."""


def find_extremes(cases: Sequence[CaseView], count: int) -> Extremes:
    """The ``count`` best and worst cases that have a label map to show.

    By the mean DSC of the scored cases where there are any; without truth by the target cases' z,
    and by u where z is equal.
    """
    scored = [
        i
        for i in _of_role(cases, "test")
        if (cases[i].scores or {}).get("DSC") is not None and "result" in cases[i].layers
    ]
    if scored:
        order = sorted(scored, key=lambda i: (-(cases[i].scores or {})["DSC"], cases[i].case))
    else:
        labelled = [
            i
            for i in _of_role(cases, "target")
            if "result" in cases[i].layers or "pseudo_label" in cases[i].layers
        ]
        judged = [i for i in labelled if cases[i].plausibility is not None]
        order = sorted(judged, key=lambda i: _rank(cases[i]))
    best = order[: min(count, (len(order) + 1) // 2)]
    worst = [i for i in reversed(order) if i not in best][:count]
    return Extremes(tuple(best), tuple(worst), bool(scored))


def select_cases(
    cases: Sequence[CaseView], config: ReportConfig
) -> tuple[tuple[int, ...], frozenset[int]]:
    """Indices of the cases shown, in the order given, and of those among them on top.

    On top stand the best and worst cases, the first scored ones, then each domain's most and least
    plausible target cases; source cases are shown too, and what is left of ``max_cases`` goes to
    further target and scored cases.
    """
    found = find_extremes(cases, config.best_and_worst)
    tests = _of_role(cases, "test")
    first = [*found.worst, *found.best]
    first += [i for i in tests if i not in first][
        : max(0, config.slider_test_cases - sum(i in tests for i in first))
    ]
    targets = _of_role(cases, "target")
    domains = sorted({cases[i].domain for i in targets})
    for rank in range(config.best_and_worst):
        for domain in domains:
            order = [i for i in targets if cases[i].domain == domain]
            order.sort(key=lambda i: _rank(cases[i]))
            if 2 * rank < len(order):
                # the worst first: these are the ones to look at
                first += [order[-1 - rank], order[rank]]
    first = list(dict.fromkeys(first))
    sources = _of_role(cases, "source")[: config.source_cases]
    room = max(0, config.max_cases - len(sources))
    first = [*first[:room], *sources][: config.max_cases]
    others = [i for i in (*tests, *targets) if i not in first]
    shown = sorted({*first, *others[: config.max_cases - len(first)]})
    return tuple(shown), frozenset(first)


def _of_role(cases: Sequence[CaseView], role: str) -> list[int]:
    return [i for i, case in enumerate(cases) if case.role == role and len(case.layers) > 0]


def _rank(case: CaseView) -> tuple[float, float, str]:
    z, u = case.plausibility, case.instability
    return (
        math.inf if z is None or math.isnan(z) else z,
        math.inf if u is None or math.isnan(u) else u,
        case.case,
    )
