"""Plots as inline SVG that takes the page's text colour, so that it suits screen and print."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import NDArray

INK = "#0a0b0c"
"""Stands for the page's text colour; no other part of a plot may use it."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
"""Okabe and Ito, safe for colour-blind readers; the order keeps neighbours apart."""
MARKS = ("o", "s", "^", "D", "v", "P")
STYLES = ("-", "--", "-.", ":")
MAX_POINTS = 400
MAX_BOX_POINTS = 60
"""Most values of a box that are drawn one by one."""

Series = Sequence[tuple[float, float]]


def loss_plots(losses: Mapping[str, Series]) -> tuple[tuple[str, str], ...]:
    """(panel, SVG) pairs, one per part before the first ``/`` of the names."""
    panels: dict[str, dict[str, Series]] = {}
    for name, series in losses.items():
        panel, _, curve = name.partition("/")
        panels.setdefault(panel, {})[curve or panel] = series
    return tuple((panel, _curves(panel, curves)) for panel, curves in panels.items())


def _curves(panel: str, curves: Mapping[str, Series]) -> str:
    figure = Figure(figsize=(5.2, 2.9), layout="constrained")
    axes = figure.subplots()
    for number, (name, series) in enumerate(curves.items()):
        points = np.array([p for p in series if all(map(math.isfinite, p))], float).reshape(-1, 2)
        if len(points) > MAX_POINTS:
            points = points[np.linspace(0, len(points) - 1, MAX_POINTS).astype(int)]
        axes.plot(
            points[:, 0],
            points[:, 1],
            STYLES[number // len(COLOURS) % len(STYLES)],
            color=COLOURS[number % len(COLOURS)],
            linewidth=1.4,
            label=_plain(name),
            marker="o" if len(points) == 1 else None,
        )
    axes.set_xlabel("step")
    axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.6)
    if len(curves) > 1:
        axes.legend(frameon=False, fontsize=8, ncols=2 if len(curves) > 5 else 1)
    return _svg(figure, f"loss-{panel}")


def box_plot(
    rows: Mapping[str, Sequence[tuple[str, float]]], label: str, groups: Sequence[str] = ()
) -> str:
    """One box a name over shares in [0, 1], drawn in per cent.

    The box holds the middle half, the bar is the median, the whiskers reach the farthest value
    within 1.5 box lengths (Tukey). Values are drawn as well, coloured by group, while they are few;
    else only those beyond the whiskers.
    """
    groups = groups or sorted({group for points in rows.values() for group, _ in points})
    figure = Figure(figsize=(5.4, 0.95 + 0.29 * max(len(rows), 1)), layout="constrained")
    axes = figure.subplots()
    few = max((len(points) for points in rows.values()), default=0) <= MAX_BOX_POINTS
    spots: dict[str, list[tuple[float, float]]] = {group: [] for group in groups}
    for row, points in enumerate(rows.values()):
        values = np.array([100 * v for _, v in points if math.isfinite(v)])
        if not len(values):
            continue
        low, high = _box(axes, row, values)
        for k, (group, value) in enumerate(points):
            if math.isfinite(value) and (few or not low <= 100 * value <= high):
                spots[group].append((100 * value, row + 0.24 * (((7 * k) % 5) / 2 - 1)))
    _marks(axes, spots, size=3.6)
    axes.set_yticks(range(len(rows)), [_plain(name) for name in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-2, 102)
    axes.set_xlabel(f"{label}, %")
    axes.grid(axis="x", color=INK, alpha=0.12, linewidth=0.6)
    axes.tick_params(axis="y", length=0)
    if len(groups) > 1:
        figure.legend(loc="outside upper right", frameon=False, fontsize=8, ncols=len(groups))
    return _svg(figure, f"box-{label}")


def _box(axes: Axes, row: int, values: NDArray[np.float64]) -> tuple[float, float]:
    """Draw a box with whiskers; returns where the whiskers end."""
    q1, median, q3 = np.percentile(values, (25, 50, 75))
    reach = 1.5 * (q3 - q1)
    low = float(values[values >= q1 - reach].min())
    high = float(values[values <= q3 + reach].max())
    for ends in ((low, q1), (q3, high)):
        axes.plot(ends, [row, row], color=INK, alpha=0.55, linewidth=1, zorder=1)
    axes.barh(row, q3 - q1, 0.62, q1, color=INK, alpha=0.10, zorder=1)
    axes.barh(row, q3 - q1, 0.62, q1, fill=False, edgecolor=INK, alpha=0.55, linewidth=0.8)
    axes.plot([median, median], [row - 0.31, row + 0.31], color=INK, linewidth=2, zorder=3)
    return low, high


def _marks(axes: Axes, spots: Mapping[str, Sequence[tuple[float, float]]], size: float) -> None:
    """Values by group: another colour and another form of the mark for each."""
    for number, (group, points) in enumerate(spots.items()):
        if points:
            xs, ys = zip(*points, strict=True)
            axes.plot(
                xs,
                ys,
                linestyle="none",
                marker=MARKS[number % len(MARKS)],
                markersize=size,
                markeredgewidth=0,
                color=COLOURS[number % len(COLOURS)],
                alpha=0.8,
                label=_plain(group),
                zorder=2,
            )


def strip_plot(rows: Mapping[str, Sequence[tuple[str, float]]], label: str) -> str:
    """One row a name, one mark a (group, value), a bar at each row's median.

    Groups differ by colour and by the form of the mark.
    Marks are spread by a fixed pattern, not at random: the same data give the same picture.
    """
    groups = sorted({group for points in rows.values() for group, _ in points})
    figure = Figure(figsize=(5.4, 0.9 + 0.27 * max(len(rows), 1)), layout="constrained")
    axes = figure.subplots()
    for row, points in enumerate(rows.values()):
        values = [value for _, value in points if math.isfinite(value)]
        if values:
            axes.plot([np.median(values)] * 2, [row - 0.34, row + 0.34], color=INK, linewidth=1.6)
    spots: dict[str, list[tuple[float, float]]] = {group: [] for group in groups}
    for row, points in enumerate(rows.values()):
        for k, (group, value) in enumerate(points):
            if math.isfinite(value):
                spots[group].append((value, row + 0.26 * (((7 * k) % 5) / 2 - 1)))
    _marks(axes, spots, size=4.5)
    axes.set_yticks(range(len(rows)), [_plain(name) for name in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(label)
    axes.grid(axis="x", color=INK, alpha=0.12, linewidth=0.6)
    axes.tick_params(axis="y", length=0)
    if len(groups) > 1:
        figure.legend(loc="outside upper right", frameon=False, fontsize=8, ncols=len(groups))
    return _svg(figure, f"strip-{label}")


def _plain(text: str) -> str:
    """Text that matplotlib neither reads as mathematics nor hides for a leading underscore."""
    return ("\u200b" + text if text.startswith("_") else text).replace("$", r"\$")


def _svg(figure: Figure, salt: str) -> str:
    """The figure as an inline SVG element; ``salt`` keeps the ids of two plots apart."""
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(INK)
        axes.patch.set_visible(False)
        axes.tick_params(colors=INK, labelsize=9)
        axes.xaxis.label.set(color=INK, size=9)
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes)]
    for legend in legends:
        for text in legend.get_texts() if legend is not None else ():
            text.set_color(INK)
    stream = io.StringIO()
    # text stays text, and the same data give the same ids
    plain_text = matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt})
    with plain_text, warnings.catch_warnings():
        # the browser draws the text with its own fonts; ours only measures it
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None})
    return _inline(stream.getvalue())


def _inline(svg: str) -> str:
    """What stands inside an HTML page: no prologue, no metadata, no namespace addresses."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'<svg ([^>]*?)(?:width|height)="[^"]*"', r"<svg \1", svg, count=1)
    svg = re.sub(r'(<svg [^>]*?)(?:width|height)="[^"]*"', r"\1", svg, count=1)
    # matplotlib names every part; on a page with several plots only names in use may stay
    used = set(re.findall(r"#([\w.-]+)", svg))
    svg = re.sub(r'\sid="([^"]*)"', lambda m: m[0] if m[1] in used else "", svg)
    return svg.replace("xlink:href", "href").replace(INK, "currentColor")
