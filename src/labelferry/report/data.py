"""What a report tells: plain nouns that the caller fills. Nothing here knows a run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from labelferry.volume import Volume


class IntervalLike(Protocol):
    """A mean and its interval, such as ``labelferry.evaluate.statistics.Interval``."""

    @property
    def mean(self) -> float | None:
        """None where it is undefined."""

    @property
    def low(self) -> float | None:
        """Lower end; None where there is no interval."""

    @property
    def high(self) -> float | None:
        """Upper end."""


class ComparisonLike(Protocol):
    """A paired difference, such as ``labelferry.evaluate.statistics.Comparison``."""

    @property
    def difference(self) -> float | None:
        """None where it is undefined."""

    @property
    def low(self) -> float | None:
        """Lower end of its interval."""

    @property
    def high(self) -> float | None:
        """Upper end of its interval."""

    @property
    def p(self) -> float | None:
        """p of a paired test; None where it cannot be tested."""


Trust = Literal["good", "caution", "poor"]
DomainRole = Literal["anchor", "follower"]
CaseRole = Literal["target", "test", "source"]
Layer = str
"""``image``, ``anatomy``, ``fake``, ``pseudo_label``, ``result`` or ``truth``; where there is a
fake for each target domain, these have names of their own (:attr:`CaseView.fakes`)."""


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
    """Canonical RAS volumes. ``image``, ``anatomy`` and fakes are grey, the others organ ids.
    Only a case that is shown has its layers read, once each: a mapping that loads on demand
    keeps memory low."""
    notes: str = ""
    plausibility: float | None = None
    """As in :class:`DomainRow`."""
    instability: float | None = None
    """u of eq. 7 of this case."""
    scores: Mapping[str, float] | None = None
    """Name of the score → mean over the case's organs, such as ``{"DSC": 0.91}``."""
    fakes: Mapping[Layer, str] = field(default_factory=dict)
    """The layer of each domain's fake → the domain; empty where ``fake`` is of all domains."""


@dataclass(frozen=True)
class Estimate:
    """The plainest :class:`IntervalLike`."""

    mean: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ScoreRow:
    """Mean scores of an organ, of a domain, or of all."""

    name: str
    dsc: IntervalLike
    nsd: IntervalLike
    n: int
    """Number of cases behind the means."""


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
    overall: ScoreRow | None = None
    """The mean over organs of the means over cases."""


@dataclass(frozen=True)
class AblationRow:
    """One row of the ablation (Table 7). Scores and differences are shares in [0, 1]."""

    name: str
    dsc: IntervalLike
    nsd: IntervalLike
    domains: Mapping[str, float] = field(default_factory=dict)
    """Domain → mean DSC."""
    difference: ComparisonLike | None = None
    """DSC of this row minus that of the row that ``note`` names, on the same cases."""
    paper_dsc: float | None = None
    """What the paper prints, as a share: 0.6053, not 60.53."""
    paper_nsd: float | None = None
    note: str = ""

    def __post_init__(self) -> None:
        for value in (self.dsc.mean, self.nsd.mean, self.paper_dsc, self.paper_nsd):
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"row '{self.name}': {value} is no share in [0, 1]")


@dataclass(frozen=True)
class TableView:
    """A table for the page: numbers that are shares are shown in per cent with one decimal."""

    title: str
    columns: tuple[str, ...]
    """The first one heads the names of the rows."""
    rows: tuple[tuple[str | float | None, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class OrganValues:
    """A value per organ of one case: instability u (eq. 7) or implausibility z."""

    case: str
    domain: str
    overall: float | None
    organs: Mapping[str, float]
    """Organ → value, infinite where its label came out empty; an organ that is not judged is
    left out."""


@dataclass(frozen=True)
class Rejected:
    """A case, or one organ of it, that the run left out."""

    case: str
    organ: str | None
    """None: the whole case."""
    reason: str
    """Its words before the first colon are the kind that the page counts by."""


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
    outputs: tuple[InputRow, ...] = ()
    """What came out."""
    problems: tuple[InputRow, ...] = ()
    """What failed or was left out; empty when nothing did."""
    trust: tuple[Verdict, ...] = ()
    stages: tuple[StageRow, ...] = ()
    domains: tuple[DomainRow, ...] = ()
    cases: tuple[CaseView, ...] = ()
    scores: Scores | None = None
    ablation: tuple[AblationRow, ...] = ()
    instability: tuple[OrganValues, ...] = ()
    plausibility: tuple[OrganValues, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    provenance: tuple[ProvenanceRow, ...] = ()
    warnings: tuple[str, ...] = ()
    config_toml: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    names_file: str = ""
    """File beside the page that says which case is behind a number; empty: cases have their own
    names."""
    fake_space: str = ""
    """Where the fake MRI lives, such as ``anatomy space``; empty: plain intensities."""
    losses: Mapping[str, tuple[tuple[float, float], ...]] | None = None
    """Name → (step, value) pairs. Names with the same part before the first ``/`` share a panel:
    ``teach/dice`` and ``teach/ce`` are two curves of ``teach``."""
