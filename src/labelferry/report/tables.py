"""Long lists brought into the short tables that the page shows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from labelferry.report.data import CaseScore, OrganValues, ProvenanceRow, Rejected

WHOLE = "whole case"


@dataclass(frozen=True)
class Counts:
    """Rows × columns of counts."""

    columns: tuple[str, ...]
    rows: Mapping[str, Counter[str]]


@dataclass(frozen=True)
class Group:
    """Organs of one case that share a fate."""

    case: str
    kind: str
    organs: tuple[str, ...]
    detail: str


def origin_counts(rows: Sequence[ProvenanceRow], organs: Sequence[str]) -> Counts:
    """Number of pseudo-labels per organ and origin; ``all`` counts for each organ."""
    table: dict[str, Counter[str]] = {organ: Counter() for organ in organs}
    for row in rows:
        for organ in organs if row.organ == "all" else (row.organ,):
            table.setdefault(organ, Counter())[row.origin] += 1
    origins = Counter(row.origin for row in rows)
    return Counts(tuple(sorted(origins)), {k: v for k, v in table.items() if v})


def provenance_groups(rows: Iterable[ProvenanceRow]) -> list[Group]:
    """One row for each case, origin and detail, with its organs."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        found.setdefault((row.case, row.origin, row.detail), []).append(row.organ)
    return [Group(case, kind, tuple(o), detail) for (case, kind, detail), o in found.items()]


def kind_of(reason: str) -> str:
    """What a reason is counted by: the words before the first colon."""
    return reason.partition(":")[0].strip() or "other"


def rejection_counts(rows: Sequence[Rejected], organs: Sequence[str]) -> Counts:
    """Number of rejections per organ and kind; whole cases in a row of their own."""
    table: dict[str, Counter[str]] = {WHOLE: Counter(), **{organ: Counter() for organ in organs}}
    for row in rows:
        table.setdefault(row.organ or WHOLE, Counter())[kind_of(row.reason)] += 1
    kinds = Counter(kind_of(row.reason) for row in rows)
    return Counts(tuple(k for k, _ in kinds.most_common()), {k: v for k, v in table.items() if v})


def rejection_groups(rows: Iterable[Rejected]) -> list[Group]:
    """One row for each case and kind, with its organs and what was measured of each."""
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for row in rows:
        detail = row.reason.partition(":")[2].strip()
        found.setdefault((row.case, kind_of(row.reason)), []).append((row.organ or WHOLE, detail))
    return [
        Group(
            case,
            kind,
            tuple(f"{organ} ({detail})" if detail else organ for organ, detail in parts),
            "",
        )
        for (case, kind), parts in found.items()
    ]


@dataclass(frozen=True)
class Heat:
    """Values per case and organ, the worst cases first, cut to a length."""

    organs: tuple[str, ...]
    rows: tuple[OrganValues, ...]
    means: Mapping[str, OrganValues]
    """Domain → mean of the finite values."""
    total: int
    top: float
    """Value of the darkest cell."""


def heat(rows: Sequence[OrganValues], organs: Sequence[str], limit: int) -> Heat | None:
    """A heat map of the ``limit`` worst cases; None without any value."""
    if not rows:
        return None
    used = tuple(o for o in organs if any(o in row.organs for row in rows))
    finite = sorted(v for row in rows for v in row.organs.values() if math.isfinite(v))
    domains: dict[str, list[OrganValues]] = {}
    for row in rows:
        domains.setdefault(row.domain, []).append(row)
    means = {
        domain: OrganValues(
            "mean",
            domain,
            mean(row.overall for row in of),
            {o: m for o in used if (m := mean(row.organs.get(o) for row in of)) is not None},
        )
        for domain, of in sorted(domains.items())
    }
    worst = sorted(rows, key=lambda r: -math.inf if r.overall is None else r.overall, reverse=True)
    # nine tenths of the cells use the scale: a single wild value does not pale the others
    top = finite[int(0.9 * (len(finite) - 1))] if finite else 1.0
    return Heat(used, tuple(worst[:limit]), means, len(rows), top or 1.0)


@dataclass(frozen=True)
class CaseMean:
    """Mean scores of one case over its organs."""

    case: str
    domain: str
    dsc: float | None
    nsd: float | None
    organs: int


def case_means(scores: Iterable[CaseScore]) -> list[CaseMean]:
    """Mean over organs of each scored case."""
    rows: dict[tuple[str, str], list[CaseScore]] = {}
    for row in scores:
        rows.setdefault((row.case, row.domain), []).append(row)
    return [
        CaseMean(case, domain, mean(r.dsc for r in of), mean(r.nsd for r in of), len(of))
        for (case, domain), of in rows.items()
    ]


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of what is known and finite; None where nothing is."""
    known = [v for v in values if v is not None and math.isfinite(v)]
    return sum(known) / len(known) if known else None
