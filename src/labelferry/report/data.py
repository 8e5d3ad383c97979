"""What a report tells: plain nouns that the caller fills. Nothing here knows a run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from labelferry.volume import Volume

Trust = Literal["good", "caution", "poor"]
DomainRole = Literal["anchor", "follower"]
CaseRole = Literal["target", "test", "source"]
Layer = Literal["image", "anatomy", "fake", "pseudo_label", "result", "truth"]


@dataclass(frozen=True)
class Verdict:
    """What may be said about a domain without any label of it."""

    domain: str
    """Empty for a verdict on the whole run."""
    level: Trust
    sentence: str


@dataclass(frozen=True)
class InputRow:
    """One line of what went in, such as ``("source cases", "24", "CT, 13 organs")``."""

    name: str
    value: str
    detail: str = ""


@dataclass(frozen=True)
class StageRow:
    """One stage of the run."""

    name: str
    status: str
    """``done``, ``skipped``, ``partial``, ``failed`` …; shown as it is."""
    seconds: float | None = None
    peak_memory_mb: float | None = None
    summary: str = ""


@dataclass(frozen=True)
class DomainRow:
    """One target domain."""

    domain: str
    n_cases: int
    role: DomainRole
    plausibility: float | None = None
    """Distance z of the organs' sizes and places from the source's; 0 is its mean, low is good,
    infinite where no organ could be judged. None: not measured."""
    instability: float | None = None
    """u of eq. 7, the mean over cases; low is good. None: not measured."""


@dataclass(frozen=True, eq=False)
class CaseView:
    """One case, with pictures if ``layers`` has any."""

    case: str
    domain: str
    role: CaseRole
    layers: Mapping[Layer, Volume] = field(default_factory=dict, repr=False)
    """Canonical RAS volumes. ``image``, ``anatomy`` and ``fake`` are grey, the others organ ids.
    Only a case that is shown has its layers read, once each: a mapping that loads on demand
    keeps memory low."""
    notes: str = ""
    plausibility: float | None = None
    """As in :class:`DomainRow`."""
    instability: float | None = None
    """u of eq. 7 of this case."""
    scores: Mapping[str, float] | None = None
    """Name of the score → mean over the case's organs, such as ``{"DSC": 0.91}``."""


@dataclass(frozen=True)
class ScoreRow:
    """Mean scores of an organ or of a domain."""

    name: str
    dsc: float | None
    nsd: float | None
    n: int
    """Number of cases (for an organ) or of case-organ pairs (for a domain) behind the means."""


@dataclass(frozen=True)
class CaseScore:
    """The scores of one organ of one case."""

    case: str
    domain: str
    organ: str
    dsc: float | None
    nsd: float | None


@dataclass(frozen=True)
class Scores:
    """Scores against truth on scored cases, in [0, 1]."""

    organs: tuple[ScoreRow, ...] = ()
    domains: tuple[ScoreRow, ...] = ()
    cases: tuple[CaseScore, ...] = ()


@dataclass(frozen=True)
class Rejected:
    """A case, or one organ of it, that the run left out."""

    case: str
    organ: str | None
    """None: the whole case."""
    reason: str


@dataclass(frozen=True)
class ProvenanceRow:
    """Where the pseudo-label of one organ of one case comes from."""

    case: str
    organ: str
    origin: str
    """A short class, such as ``network`` or ``matched``; the page counts by it."""
    detail: str = ""
    """The round, or the case and transform it was matched from."""


@dataclass(frozen=True, eq=False)
class ReportData:
    """Everything on the page."""

    title: str
    version: str
    command: str
    preset: str
    size: str
    seed: int
    created: str
    """ISO date or date and time of the report."""
    inputs: tuple[InputRow, ...] = ()
    trust: tuple[Verdict, ...] = ()
    stages: tuple[StageRow, ...] = ()
    domains: tuple[DomainRow, ...] = ()
    cases: tuple[CaseView, ...] = ()
    scores: Scores | None = None
    rejected: tuple[Rejected, ...] = ()
    provenance: tuple[ProvenanceRow, ...] = ()
    warnings: tuple[str, ...] = ()
    config_toml: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    losses: Mapping[str, tuple[tuple[float, float], ...]] | None = None
    """Name → (step, value) pairs. Names with the same part before the first ``/`` share a panel:
    ``translate/cycle`` and ``translate/identity`` are two curves of ``translate``."""
