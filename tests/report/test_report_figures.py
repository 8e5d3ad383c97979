"""Pictures, plots, the choice of cases, and numbers in words."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from labelferry.organs import FLARE, Organ, OrganSet
from labelferry.report import words
from labelferry.report.choice import find_extremes, select_cases
from labelferry.report.colours import organ_colours
from labelferry.report.config import ReportConfig
from labelferry.report.data import CaseView
from labelferry.report.figures import case_panels, case_pictures
from labelferry.report.overlay import draw_base, draw_overlay, palette
from labelferry.report.plots import MAX_BOX_POINTS, box_plot, loss_plots, strip_plot

COLOURS = organ_colours(FLARE)


def opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_pictures_share_one_scale_and_one_size_per_plane(
    make_case: Callable[..., CaseView], small: ReportConfig
) -> None:
    pictures = case_pictures(make_case("a"), COLOURS, small)
    assert pictures is not None
    axial, coronal, sagittal = pictures.planes
    assert (axial.width, axial.height) == (80, 63)  # 112 × 88 mm
    assert (coronal.width, coronal.height) == (80, 51)  # 112 × 72 mm
    assert (sagittal.width, sagittal.height) == (63, 51)
    for plane in pictures.planes:
        for uri in (*plane.bases.values(), *plane.overlays.values()):
            assert opened(uri).size == (plane.width, plane.height * plane.count)
    assert axial.count == len(pictures.lines) == len(pictures.heights_mm) == 4
    assert pictures.present["result"] == {1, 2}


@pytest.mark.parametrize("extra", [0, 130])
def test_organ_colours_survive_with_few_and_with_many_organs(
    make_case: Callable[..., CaseView], small: ReportConfig, extra: int
) -> None:
    more = (Organ(i, f"organ {i}") for i in range(14, 14 + extra))
    wanted = organ_colours(OrganSet((*FLARE.organs, *more)))
    pictures = case_pictures(make_case("a"), wanted, small)
    assert pictures is not None
    plane = pictures.planes[0]
    stack = np.asarray(opened(plane.overlays["result"]).convert("RGBA"))
    overlay = stack[plane.height * pictures.start :][: plane.height]
    colours = {tuple(int(c) for c in v) for v in np.unique(overlay.reshape(-1, 4), axis=0)}
    assert (*wanted[0], 255) in colours and (*wanted[0], 70) in colours
    # organ 1 lies on the patient's right: on the left of the picture
    first = np.argwhere((overlay[..., :3] == wanted[0]).all(-1))
    second = np.argwhere((overlay[..., :3] == wanted[1]).all(-1))
    assert first[:, 1].mean() < overlay.shape[1] / 2 < second[:, 1].mean()


def test_overlay_outlines_fills_and_leaves_background() -> None:
    labels = np.zeros((20, 20), np.uint8)
    labels[5:15, 5:15] = 3
    drawn = draw_overlay(labels, len(FLARE), (20, 20), 9)
    assert drawn[5, 5] == len(FLARE) + 3
    assert drawn[6, 13] == 3
    assert drawn[0, 0] == 0 and palette(COLOURS)[0, 3] == 0
    assert not draw_overlay(np.full((4, 4), 99), len(FLARE), (8, 8), 9).any()


def test_sides_are_written_into_the_picture() -> None:
    base = draw_base(np.zeros((60, 60), np.uint8), "axial", (100, 100), 14)
    # the picture itself is as it was, but for the letters and their dark rim
    bright = draw_base(np.full((60, 60), 200, np.uint8), "axial", (100, 100), 14)
    assert (bright[30:70, 30:70] == 200).all() and bright.min() == 0
    for part in (base[40:60, :20], base[40:60, 80:], base[:20, 40:60], base[80:, 40:60]):
        assert part.max() == 255
    assert base[30:70, 30:70].max() == 0


def test_case_without_image_or_with_empty_labels_is_drawn(
    make_case: Callable[..., CaseView], small: ReportConfig
) -> None:
    case = make_case("a")
    result = case.layers["result"]
    empty = result.with_array(np.zeros_like(result.array))
    pictures = case_pictures(CaseView("a", "T1", "target", {"result": empty}), COLOURS, small)
    assert pictures is not None and pictures.present == {"result": frozenset()}
    assert case_pictures(CaseView("a", "T1", "target"), COLOURS, small) is None


def test_choice_of_cases(make_case: Callable[..., CaseView]) -> None:
    zs = [3.0, None, 1.0, float("inf"), 2.0, 5.0, 4.0]
    cases = [make_case(f"t{i}", plausibility=z) for i, z in enumerate(zs)]
    cases += [make_case(f"h{i}", "test") for i in range(3)]
    cases += [make_case(f"s{i}", "source", "CT") for i in range(3)]
    config = ReportConfig(best_and_worst=1, slider_test_cases=2, source_cases=1, max_cases=8)
    shown, sliders = select_cases(cases, config)
    assert len(shown) == 8 and list(shown) == sorted(shown)
    assert sliders == {2, 3, 7, 8, 10}  # best, worst (infinite before unknown), two tests, source
    assert 9 in shown  # the third held-out case comes before further target cases
    for most in (0, 1, 3, 100):
        shown, sliders = select_cases(cases, config.model_copy(update={"max_cases": most}))
        assert len(shown) == min(most, 11) and sliders <= set(shown)
    assert select_cases([], config) == ((), frozenset())


def test_best_and_worst_by_score_else_by_plausibility(make_case: Callable[..., CaseView]) -> None:
    targets = [make_case(f"t{i}", plausibility=z, instability=0.1) for i, z in enumerate((3, 1, 1))]
    found = find_extremes([*targets, make_case("unjudged")], 2)
    assert (found.best, found.worst, found.scored) == ((1, 2), (0,), False)
    scores = [0.3, 0.9, None, 0.6, 0.8]
    tests = [
        make_case(f"h{i}", "test", scores={} if s is None else {"DSC": s})
        for i, s in enumerate(scores)
    ]
    found = find_extremes([*targets, *tests], 2)
    assert (found.best, found.worst, found.scored) == ((4, 7), (3, 6), True)
    # a case that came without a prediction has nothing to show
    lost = make_case("lost", "test", scores={"DSC": 0.0})
    layers = {k: v for k, v in lost.layers.items() if k != "result"}
    lost = CaseView("lost", "T1", "test", layers, scores=lost.scores)
    assert find_extremes([lost, *tests], 9).worst == (1, 4)
    assert find_extremes([], 2).best == ()


def test_best_and_worst_are_on_top(make_case: Callable[..., CaseView]) -> None:
    cases = [make_case(f"h{i}", "test", scores={"DSC": i / 10}) for i in range(9)]
    config = ReportConfig(best_and_worst=2, slider_test_cases=4, max_cases=6)
    shown, top = select_cases(cases, config)
    assert top == {0, 1, 7, 8} and len(shown) == 6


def test_panels_stand_in_the_order_of_the_method() -> None:
    layers = ("image", "anatomy", "result", "pseudo_label", "truth")
    titles = [panel.title for panel in case_panels("target", layers)]
    assert titles == ["Image", "Anatomy space", "Pseudo-label", "Result", "Truth"]
    titles = [panel.title for panel in case_panels("source", ("image", "fake", "truth"))]
    assert titles == ["CT", "CT + label", "Fake MRI", "Fake MRI + label"]


def test_plots_are_inline_and_take_the_pages_ink() -> None:
    ((panel, svg),) = loss_plots({"a/x": [(0, 1.0), (1, 0.5)], "a/y": []})
    assert panel == "a"
    strip = strip_plot({"<liver>": [("T1", 0.5)], "none": []}, "z")
    box = box_plot(
        {"<liver>": [("T1", 0.5), ("_T2", 0.7)], "none": [], "nan": [("T1", np.nan)]}, "DSC"
    )
    for text in (svg, strip, box):
        assert text.startswith("<svg") and "currentColor" in text
        assert "http" not in text and "xlink" not in text
    assert "&lt;liver&gt;" in strip and "&lt;liver&gt;" in box and "DSC, %" in box


def test_box_plot_of_many_cases_stays_small() -> None:
    values = np.random.default_rng(0).uniform(0.4, 0.6, 4000)
    many = box_plot({"liver": [("T1", float(v)) for v in values]}, "DSC")
    few = box_plot({"liver": [("T1", float(v)) for v in values[:MAX_BOX_POINTS]]}, "DSC")
    assert len(many) < len(few) < 30_000
    outlier = box_plot({"liver": [("T1", float(v)) for v in (*values, 0.01)]}, "DSC")
    assert outlier.count("<use") == many.count("<use") + 1


def test_numbers_in_words() -> None:
    assert [words.number(v) for v in (None, float("nan"), float("inf"), 1.234)] == [
        "–",
        "–",
        "∞",
        "1.23",
    ]
    assert [words.duration(v) for v in (None, 2.34, 59.6, 125, 7260)] == [
        "–",
        "2.3 s",
        "1 min 00 s",
        "2 min 05 s",
        "2 h 01 min",
    ]
    assert [words.memory(v) for v in (None, 640.2, 3210)] == ["–", "640 MB", "3.2 GB"]
    assert [words.percent(v) for v in (None, 0.7456, 0, 1)] == ["–", "74.6", "0.0", "100.0"]
    assert words.percent(-0.0123, sign=True) == "−1.2" and words.percent(0.05, sign=True) == "+5.0"
    assert words.percent(-1e-9, sign=True) == "0.0"
    assert words.span(0.1, 0.25) == "10.0–25.0" and words.span(None, 1) == ""
    assert words.span(-0.01, 0.2, sign=True) == "−1.0 to +20.0"
    assert [words.p_value(p) for p in (None, 0.0312, 1e-5)] == ["", "p = 0.031", "p < 0.001"]
    assert words.count(1, "case") == "1 case" and words.count(0, "case") == "0 cases"
    assert float(words.sort_key(float("inf"))) == 1e308 and words.sort_key(None) == ""
    assert words.ink_on((255, 238, 140)) == "#000" and words.ink_on((120, 70, 200)) == "#fff"
