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
from labelferry.report.choice import select_cases
from labelferry.report.config import ReportConfig
from labelferry.report.data import CaseView
from labelferry.report.figures import case_pictures, draw_base, draw_overlay, palette
from labelferry.report.plots import loss_plots, strip_plot


def opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_pictures_share_one_scale_and_one_size_per_plane(
    make_case: Callable[..., CaseView], small: ReportConfig
) -> None:
    pictures = case_pictures(make_case("a"), FLARE, small, slider=True)
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
    organs = OrganSet((*FLARE.organs, *more))
    pictures = case_pictures(make_case("a"), organs, small, slider=False)
    assert pictures is not None
    overlay = np.asarray(opened(pictures.planes[0].overlays["result"]).convert("RGBA"))
    colours = {tuple(int(c) for c in v) for v in np.unique(overlay.reshape(-1, 4), axis=0)}
    assert (*FLARE[1].colour, 255) in colours and (*FLARE[1].colour, 70) in colours
    # organ 1 lies on the patient's right: on the left of the picture
    reds = np.argwhere((overlay[..., :3] == FLARE[1].colour).all(-1))
    blues = np.argwhere((overlay[..., :3] == FLARE[2].colour).all(-1))
    assert reds[:, 1].mean() < overlay.shape[1] / 2 < blues[:, 1].mean()


def test_overlay_outlines_fills_and_leaves_background() -> None:
    labels = np.zeros((20, 20), np.uint8)
    labels[5:15, 5:15] = 3
    drawn = draw_overlay(labels, FLARE, (20, 20), 9)
    assert drawn[5, 5] == len(FLARE) + 3
    assert drawn[6, 13] == 3
    assert drawn[0, 0] == 0 and palette(FLARE)[0, 3] == 0
    assert not draw_overlay(np.full((4, 4), 99), FLARE, (8, 8), 9).any()


def test_sides_are_written_into_the_picture() -> None:
    base = draw_base(np.zeros((60, 60), np.uint8), "axial", (100, 100), 14)
    for part in (base[40:60, :20], base[40:60, 80:], base[:20, 40:60], base[80:, 40:60]):
        assert part.max() == 255
    assert base[30:70, 30:70].max() == 0


def test_case_without_image_or_with_empty_labels_is_drawn(
    make_case: Callable[..., CaseView], small: ReportConfig
) -> None:
    case = make_case("a")
    result = case.layers["result"]
    empty = result.with_array(np.zeros_like(result.array))
    pictures = case_pictures(CaseView("a", "T1", "target", {"result": empty}), FLARE, small, True)
    assert pictures is not None and pictures.present == {"result": frozenset()}
    assert case_pictures(CaseView("a", "T1", "target"), FLARE, small, True) is None


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


def test_plots_are_inline_and_take_the_pages_ink() -> None:
    ((panel, svg),) = loss_plots({"a/x": [(0, 1.0), (1, 0.5)], "a/y": []})
    assert panel == "a"
    strip = strip_plot({"<liver>": [("T1", 0.5)], "none": []}, "DSC", unit_range=True)
    for text in (svg, strip):
        assert text.startswith("<svg") and "currentColor" in text
        assert "http" not in text and "xlink" not in text
    assert "&lt;liver&gt;" in strip


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
    assert words.count(1, "case") == "1 case" and words.count(0, "case") == "0 cases"
    assert float(words.sort_key(float("inf"))) == 1e308 and words.sort_key(None) == ""
    assert words.ink_on((255, 238, 140)) == "#000" and words.ink_on((120, 70, 200)) == "#fff"
