"""Write the page: choose the cases, draw them, fill the template."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from labelferry.files import write_text
from labelferry.organs import OrganSet
from labelferry.report import tables, words
from labelferry.report.ablation import ablation_view
from labelferry.report.choice import Extremes, find_extremes, select_cases
from labelferry.report.colours import RGB, organ_colours
from labelferry.report.config import ReportConfig
from labelferry.report.data import CaseView, Layer, ReportData
from labelferry.report.encode import colour_uri
from labelferry.report.figures import LABELS, CasePictures, case_pictures
from labelferry.report.plots import box_plot, loss_plots, strip_plot
from labelferry.report.render import render
from labelferry.report.surfaces import VIEWS, View, draw_surfaces, frame_of, organ_surfaces
from labelferry.volume import Segmentation

log = logging.getLogger(__name__)
SURFACE_QUALITY = 80


@dataclass(frozen=True, eq=False)
class Card:
    """A case that is shown."""

    number: int
    """Index among all cases; the page's anchor."""
    view: CaseView
    pictures: CasePictures | None
    on_top: bool
    missing: tuple[str, ...]
    """Names of the organs that the first organ layer lacks."""

    @property
    def seen(self) -> frozenset[int]:
        """Ids of the organs in any organ layer."""
        return frozenset().union(*self.pictures.present.values()) if self.pictures else frozenset()

    @property
    def lead(self) -> str:
        """The organ layer that ``missing`` speaks of."""
        present = self.pictures.present if self.pictures else {}
        return words.LAYER_TITLES[next(iter(present))] if present else ""


@dataclass(frozen=True)
class SurfacePicture:
    """One label map from one side."""

    title: str
    view: View
    uri: str
    width: int
    height: int


@dataclass(frozen=True, eq=False)
class Extreme:
    """A best or worst case with its surfaces."""

    number: int
    view: CaseView
    kind: str
    pictures: tuple[SurfacePicture, ...]


def write_report(path: Path, data: ReportData, organs: OrganSet, config: ReportConfig) -> None:
    """Write the report as one HTML file, whole or not at all.

    Everything is inside the file: it opens by double click, without a network. Every name is
    escaped, and the page forbids itself to load anything or to run any script but its own.
    """
    write_text(path, render_report(data, organs, config))


def render_report(data: ReportData, organs: OrganSet, config: ReportConfig) -> str:
    """The page as text."""
    colours = organ_colours(organs)
    shown, on_top = select_cases(data.cases, config)
    cards = []
    for index in shown:
        view = data.cases[index]
        pictures = case_pictures(view, colours, config)
        cards.append(Card(index, view, pictures, index in on_top, _missing(pictures, organs)))
    log.debug("report: %d of %d cases shown", len(cards), len(data.cases))
    extremes = find_extremes(data.cases, config.best_and_worst)
    names = organs.names
    return render(
        "page.html.j2",
        title=data.title,
        version=data.version,
        inf=math.inf,
        data=data,
        organs=tuple(zip(organs, colours, strict=True)),
        config=config,
        cards=cards,
        shown=frozenset(shown),
        galleries=_galleries(cards, [row.domain for row in data.domains]),
        source_cards=[card for card in cards if card.view.role == "source"],
        extremes=_draw_extremes(data.cases, extremes, colours, config),
        extremes_scored=extremes.scored,
        ablation=ablation_view(data.ablation),
        heats=_heats(data, names, config.heat_rows),
        origins=tables.origin_counts(data.provenance, names),
        provenance=tables.provenance_groups(data.provenance),
        rejections=tables.rejection_counts(data.rejected, names),
        rejected=tables.rejection_groups(data.rejected),
        case_means=tables.case_means(data.scores.cases if data.scores else ()),
        plots=_plots(data, organs),
        total_seconds=sum(row.seconds or 0 for row in data.stages),
        top_memory=max((row.peak_memory_mb or 0 for row in data.stages), default=0),
    )


def _missing(pictures: CasePictures | None, organs: OrganSet) -> tuple[str, ...]:
    if pictures is None or not pictures.present:
        return ()
    found = next(iter(pictures.present.values()))
    return tuple(organ.name for organ in organs if organ.id not in found)


def _galleries(cards: Iterable[Card], order: list[str]) -> list[tuple[str, list[Card], list[Card]]]:
    """(domain, cards on top, further cards): scored first, then the least plausible."""
    domains: dict[str, list[Card]] = {}
    for card in cards:
        if card.view.role != "source":
            domains.setdefault(card.view.domain, []).append(card)
    out = []
    for domain in _in_order(domains, order):
        ordered = sorted(domains[domain], key=_worst_first)
        top = [card for card in ordered if card.on_top]
        out.append((domain, top, [card for card in ordered if not card.on_top]))
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


def _draw_extremes(
    cases: Sequence[CaseView], found: Extremes, colours: Sequence[RGB], config: ReportConfig
) -> list[Extreme]:
    """The best and worst cases as surfaces."""
    if config.surface_px == 0:
        return []
    out = []
    for kind, indices in (("best", found.best), ("worst", found.worst)):
        for index in indices:
            pictures = draw_case_surfaces(cases[index], colours, config.surface_px)
            out.append(Extreme(index, cases[index], kind, pictures))
    return out


def draw_case_surfaces(
    case: CaseView, colours: Sequence[RGB], px: int
) -> tuple[SurfacePicture, ...]:
    """The label map of a case, and its truth if known, from the front and from the back."""
    lead = next((name for name in LABELS if name != "truth" and name in case.layers), None)
    layers: list[Layer] = [
        name for name in (lead, "truth" if "truth" in case.layers else None) if name
    ]
    surfaces = {}
    for name in layers:
        volume = case.layers[name]
        labels = Segmentation(volume.array, volume.grid)
        surfaces[name] = organ_surfaces(labels, len(colours))
    frame = frame_of([surface for each in surfaces.values() for surface in each])
    if frame is None:
        return ()
    out = []
    for view in VIEWS:
        for name in layers:
            picture = draw_surfaces(surfaces[name], colours, frame, view, px)
            height, width = picture.shape[:2]
            uri = colour_uri(picture, SURFACE_QUALITY)
            out.append(SurfacePicture(words.LAYER_TITLES[name], view, uri, width, height))
    return tuple(out)


def _heats(data: ReportData, organs: Sequence[str], limit: int) -> list[dict[str, Any]]:
    """Values per case and organ: instability, then implausibility."""
    wanted = (
        ("u", "Instability u per case and organ", data.instability, 3),
        ("z", "Implausibility z per case and organ", data.plausibility, 1),
    )
    return [
        {"key": key, "title": title, "digits": digits, "heat": found}
        for key, title, rows, digits in wanted
        if (found := tables.heat(rows, organs, limit)) is not None
    ]


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
                plots[name] = Markup(box_plot(rows, name.upper()))
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
            ordered = _in_order(spread, [row.domain for row in data.domains])
            plots[name] = Markup(strip_plot({name: spread[name] for name in ordered}, label))
    plots["losses"] = [(name, Markup(svg)) for name, svg in loss_plots(data.losses or {})]
    return plots
