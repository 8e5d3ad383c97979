"""Which cases are shown with pictures, and which of them get a slider."""

from __future__ import annotations

import math
from collections.abc import Sequence

from labelferry.report.config import ReportConfig
from labelferry.report.data import CaseView


def select_cases(
    cases: Sequence[CaseView], config: ReportConfig
) -> tuple[tuple[int, ...], frozenset[int]]:
    """Indices of the cases shown, in the order given, and of those among them with a slider.

    Sliders go to the scored cases first, then to each domain's most and least plausible target
    cases, then to the first source cases; what is left of ``max_cases`` goes to further target and
    scored cases without a slider.
    """
    sliders = _of_role(cases, "test")[: config.slider_test_cases]
    targets = _of_role(cases, "target")
    domains = sorted({cases[i].domain for i in targets})
    for rank in range(config.best_and_worst):
        for domain in domains:
            order = [i for i in targets if cases[i].domain == domain]
            order.sort(key=lambda i: _rank(cases[i]))
            if 2 * rank < len(order):
                # the worst first: these are the ones to look at
                sliders += [order[-1 - rank], order[rank]]
    sliders = list(dict.fromkeys(sliders))
    sources = _of_role(cases, "source")[: config.source_cases]
    room = max(0, config.max_cases - len(sources))
    sliders = [*sliders[:room], *sources][: config.max_cases]
    others = [i for i in (*_of_role(cases, "test"), *targets) if i not in sliders]
    shown = sorted({*sliders, *others[: config.max_cases - len(sliders)]})
    return tuple(shown), frozenset(sliders)


def _of_role(cases: Sequence[CaseView], role: str) -> list[int]:
    return [i for i, case in enumerate(cases) if case.role == role and len(case.layers) > 0]


def _rank(case: CaseView) -> tuple[float, str]:
    z = case.plausibility
    return (math.inf if z is None or math.isnan(z) else z, case.case)
