"""Which pseudo-labels go on to the next training, and why the others do not."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labelferry.errors import UserError
from labelferry.prior.plausibility import CasePlausibility
from labelferry.refine.config import RefineConfig
from labelferry.refine.instability import Instability


@dataclass(frozen=True)
class Decision:
    """What is kept of one case."""

    case: str
    organs: frozenset[int]
    """Organs whose label is trusted; the others are unknown in this case, not background. Empty:
    the case is dropped."""
    reasons: Mapping[int | None, str]
    """Why an organ was dropped, by its id; key None is the case as a whole."""

    @property
    def kept(self) -> bool:
        """Whether anything of the case is kept."""
        return bool(self.organs)

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form."""
        reasons = {"case" if k is None else str(k): text for k, text in self.reasons.items()}
        return {"case": self.case, "organs": sorted(self.organs), "reasons": reasons}


@dataclass(frozen=True)
class Selection:
    """The decision on every case, in the order of their ids."""

    decisions: tuple[Decision, ...]

    @property
    def kept(self) -> tuple[str, ...]:
        """Ids of the cases that are kept, whole or in part."""
        return tuple(row.case for row in self.decisions if row.kept)

    def to_json(self) -> list[dict[str, Any]]:
        """A JSON-able form."""
        return [row.to_json() for row in self.decisions]


def select(
    cases: Iterable[str],
    instabilities: Mapping[str, Instability] | None,
    plausibilities: Mapping[str, CasePlausibility] | None,
    organs: Iterable[int],
    config: RefineConfig,
) -> Selection:
    """Drop the unstable (eq. 7), then the implausible; per case or per organ (``config.scope``).

    Infinite u is always dropped and counts towards the fraction. Of equally unstable labels the
    one with the later case id goes first. ``instabilities`` is None when there was one round;
    ``plausibilities`` may be None when ``config.prior_filter`` is off. Raises ``UserError`` when
    nothing would be left to train on.
    """
    ids, every = sorted(set(cases)), frozenset(organs)
    columns: Sequence[int | None] = [None] if config.scope == "case" else sorted(every)
    reasons: dict[str, dict[int | None, str]] = {case: {} for case in ids}
    for column in columns:
        if instabilities is not None:
            values = {case: _u(instabilities, case, column) for case in ids}
            for case, reason in _unstable(values, config).items():
                reasons[case][column] = reason
        if config.prior_filter and plausibilities is not None:
            for case in ids:
                z = _z(plausibilities, case, column)
                if z is not None and z > config.prior_limit and column not in reasons[case]:
                    reasons[case][column] = f"implausible: z {z:.2f} > {config.prior_limit:g}"
    selection = Selection(tuple(_decide(case, reasons[case], every) for case in ids))
    if not selection.kept:
        raise UserError(
            "no pseudo-label is left to train on",
            seen=f"{len(ids)} cases, all dropped as unstable or implausible",
            fix="lower the fraction, raise the threshold or the prior's limit, or train longer",
        )
    return selection


def _decide(case: str, reasons: dict[int | None, str], every: frozenset[int]) -> Decision:
    kept = frozenset() if None in reasons else every - {k for k in reasons if k is not None}
    return Decision(case, kept, reasons)


def _unstable(values: Mapping[str, float], config: RefineConfig) -> dict[str, str]:
    """The cases to drop among those with these u, with the reason."""
    out = {case: "unstable: u is infinite (empty)" for case, u in values.items() if u == math.inf}
    if config.threshold is not None:
        for case, u in values.items():
            if config.threshold < u < math.inf:
                out[case] = f"unstable: u {u:.3f} > {config.threshold:g}"
        return out
    worst = sorted(values, key=lambda case: (values[case], case), reverse=True)
    # the tiny term keeps 0.1 × 30 from becoming 2
    for case in worst[: math.floor(config.fraction * len(values) + 1e-9)]:
        if 0 < config.stable >= values[case]:
            break
        out.setdefault(case, f"unstable: u {values[case]:.3f}, among the worst {_share(config)}")
    return out


def _share(config: RefineConfig) -> str:
    return f"{config.fraction:.0%}"


def _u(instabilities: Mapping[str, Instability], case: str, organ: int | None) -> float:
    if case not in instabilities:
        raise UserError("the case has no instability", case=case)
    row = instabilities[case]
    return row.case if organ is None else row.organs.get(organ, math.inf)


def _z(
    plausibilities: Mapping[str, CasePlausibility], case: str, organ: int | None
) -> float | None:
    if case not in plausibilities:
        raise UserError("the case has no plausibility", case=case)
    row = plausibilities[case]
    if organ is None:
        return row.z
    judged = row.organs.get(organ)
    return None if judged is None else judged.z
