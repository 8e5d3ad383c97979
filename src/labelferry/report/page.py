"""Write the page: choose the cases, draw them, fill the template."""

from __future__ import annotations

import base64
import hashlib
import logging
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from labelferry.files import write_text
from labelferry.organs import OrganSet
from labelferry.report import words
from labelferry.report.choice import select_cases
from labelferry.report.config import ReportConfig
from labelferry.report.data import CaseView, ReportData, Scores
from labelferry.report.figures import LABELS, CasePictures, case_pictures
from labelferry.report.plots import loss_plots, strip_plot

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Card:
    """A case that is shown."""

    number: int
    """Index among all cases; the page's anchor."""
    view: CaseView
    pictures: CasePictures | None
    slider: bool
    missing: tuple[str, ...]
    """Names of the organs that the first organ layer lacks."""

    @property
    def seen(self) -> frozenset[int]:
        """Ids of the organs in any organ layer."""
        return frozenset().union(*self.pictures.present.values()) if self.pictures else frozenset()


def write_report(path: Path, data: ReportData, organs: OrganSet, config: ReportConfig) -> None:
    """Write the report as one HTML file, whole or not at all.

    Everything is inside the file: it opens by double click, without a network. Every name is
    escaped, and the page forbids itself to load anything or to run any script but its own.
    """
    write_text(path, render_report(data, organs, config))


def render_report(data: ReportData, organs: OrganSet, config: ReportConfig) -> str:
    """The page as text."""
    shown, sliders = select_cases(data.cases, config)
    cards = []
    for index in shown:
        view = data.cases[index]
        pictures = case_pictures(view, organs, config, slider=index in sliders)
        cards.append(
            Card(index, view, pictures, index in sliders, _missing(view, pictures, organs))
        )
    log.debug("report: %d of %d cases shown", len(cards), len(data.cases))
    script = _asset("page.js")
    environment = Environment(
        loader=PackageLoader("labelferry.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=words.number,
        sort_key=words.sort_key,
        duration=words.duration,
        memory=words.memory,
        ink_on=words.ink_on,
    )
    environment.globals.update(count_of=words.count)
    return environment.get_template("page.html.j2").render(
        data=data,
        organs=organs,
        config=config,
        cards=cards,
        shown=frozenset(shown),
        galleries=_galleries(cards, [row.domain for row in data.domains]),
        source_cards=[card for card in cards if card.view.role == "source"],
        label_layers=LABELS,
        titles=words.LAYER_TITLES,
        source_titles=words.SOURCE_TITLES,
        origins=_origins(data),
        case_scores=_case_scores(data.scores),
        plots=_plots(data, organs),
        total_seconds=sum(row.seconds or 0 for row in data.stages),
        style=Markup(_asset("page.css")),
        script=Markup(script),
        # the browser runs this very script and nothing else, whatever a name may hold
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )


def _asset(name: str) -> str:
    return resources.files("labelferry.report").joinpath(name).read_text(encoding="utf-8")


def _missing(view: CaseView, pictures: CasePictures | None, organs: OrganSet) -> tuple[str, ...]:
    if pictures is None or not pictures.present:
        return ()
    found = next(iter(pictures.present.values()))
    return tuple(organ.name for organ in organs if organ.id not in found)


def _galleries(cards: Iterable[Card], order: list[str]) -> list[tuple[str, list[Card], list[Card]]]:
    """(domain, cards with a slider, cards without): scored first, then the least plausible."""
    domains: dict[str, list[Card]] = {}
    for card in cards:
        if card.view.role != "source":
            domains.setdefault(card.view.domain, []).append(card)
    out = []
    for domain in _in_order(domains, order):
        ordered = sorted(domains[domain], key=_worst_first)
        out.append((domain, [c for c in ordered if c.slider], [c for c in ordered if not c.slider]))
    return out


def _in_order(names: Iterable[str], order: list[str]) -> list[str]:
    """``names`` as in ``order``; those that it lacks follow in alphabetical order."""
    found = set(names)
    return [*(name for name in order if name in found), *sorted(found - set(order))]


def _worst_first(card: Card) -> tuple[bool, float, str]:
    z = card.view.plausibility
    return (
        card.view.role != "test",
        -z if z is not None and not math.isnan(z) else math.inf,
        card.view.case,
    )


def _origins(data: ReportData) -> tuple[list[str], dict[str, Counter[str]]]:
    """Names of the origins, and per organ how many pseudo-labels come from each."""
    table: dict[str, Counter[str]] = {}
    for row in data.provenance:
        table.setdefault(row.organ, Counter())[row.origin] += 1
    return sorted({row.origin for row in data.provenance}), table


def _case_scores(scores: Scores | None) -> list[tuple[str, str, float | None, float | None, int]]:
    """(case, domain, mean DSC, mean NSD, number of organs) of every scored case."""
    if scores is None:
        return []
    rows: dict[tuple[str, str], list[tuple[float | None, float | None]]] = {}
    for row in scores.cases:
        rows.setdefault((row.case, row.domain), []).append((row.dsc, row.nsd))
    return [
        (case, domain, _mean(d for d, _ in values), _mean(n for _, n in values), len(values))
        for (case, domain), values in rows.items()
    ]


def _mean(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None and math.isfinite(v)]
    return sum(known) / len(known) if known else None


def _plots(data: ReportData, organs: OrganSet) -> dict[str, Any]:
    """Inline SVG: scores per organ, plausibility and instability per domain, losses."""
    plots: dict[str, Any] = {"dsc": None, "nsd": None, "plausibility": None, "instability": None}
    if data.scores is not None:
        for name in ("dsc", "nsd"):
            rows: dict[str, list[tuple[str, float]]] = {organ.name: [] for organ in organs}
            for row in data.scores.cases:
                value = getattr(row, name)
                if value is not None:
                    rows.setdefault(row.organ, []).append((row.domain, value))
            rows = {organ: points for organ, points in rows.items() if points}
            if rows:
                plots[name] = Markup(strip_plot(rows, name.upper(), unit_range=True))
    labels = {
        "plausibility": "implausibility z (0 is the source's mean)",
        "instability": "instability u (eq. 7)",
    }
    for name, label in labels.items():
        spread: dict[str, list[tuple[str, float]]] = {}
        for case in data.cases:
            value = getattr(case, name)
            if case.role != "source" and value is not None and math.isfinite(value):
                group = "scored" if case.role == "test" else "target"
                spread.setdefault(case.domain, []).append((group, value))
        if spread:
            order = [row.domain for row in data.domains]
            ordered = {name: spread[name] for name in _in_order(spread, order)}
            plots[name] = Markup(strip_plot(ordered, label, unit_range=False))
    plots["losses"] = [(name, Markup(svg)) for name, svg in loss_plots(data.losses or {})]
    return plots
