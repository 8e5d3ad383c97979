"""The page in a real browser: no complaints, slices scroll, tables sort, it prints and fits."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labelferry.organs import FLARE
from labelferry.report.ablation import write_ablation_page
from labelferry.report.config import ReportConfig
from labelferry.report.data import CaseView, InputRow, ReportData
from labelferry.report.page import write_report

if sys.platform == "win32":
    pytest.skip("the browser is driven through a pipe of POSIX", allow_module_level=True)

from report_browser import Browser, find_chromium, open_browser

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture
def shown(browser: Browser) -> Iterator[Browser]:
    """The browser as it is when a test begins."""
    browser.size(1280, 900)
    browser.scripts(True)
    yield browser
    browser.scripts(True)


@pytest.fixture
def page(
    tmp_path: Path, full: ReportData, small: ReportConfig, make_case: Callable[..., CaseView]
) -> Path:
    many = tuple(make_case(f"t{i:02d}", plausibility=float(i)) for i in range(14))
    data = dataclasses.replace(full, cases=(*full.cases, *many))
    path = tmp_path / "a report.html"
    write_report(path, data, FLARE, small.model_copy(update={"max_cases": 9}))
    return path


SLIDER = ".card input[type=range]"
AXIAL = ".card .frame.axial"


def place(browser: Browser) -> int:
    return int(browser.run(f"document.querySelector('{SLIDER}').value"))


def axial(browser: Browser) -> bytes:
    x, y = browser.middle(AXIAL)
    browser.settle()
    return browser.picture(
        clip=(x - 30 + browser.run("scrollX"), y - 20 + browser.run("scrollY"), 60, 40)
    )


def test_opens_without_a_complaint(shown: Browser, page: Path) -> None:
    shown.open(page)
    assert shown.complaints() == []
    assert shown.run("document.querySelectorAll('.card').length") == 9
    broken = "[...document.images].filter(i => !i.naturalWidth).length"
    assert shown.run(broken) == 0


def test_pictures_are_really_there(shown: Browser, page: Path) -> None:
    shown.open(page)
    assert shown.run("getComputedStyle(document.querySelector('.pic')).backgroundImage").startswith(
        'url("data:image/'
    )
    assert len(set(axial(shown))) > 100  # no even area


def test_slider_scrolls_the_slices(shown: Browser, page: Path) -> None:
    shown.open(page)
    before, first = place(shown), axial(shown)
    x, y = shown.middle(SLIDER)
    shown.click(x, y)
    for _ in range(4):
        shown.key("ArrowRight", 39)
    last = place(shown)
    assert last == 3 != before
    assert axial(shown) != first
    text = shown.run("document.querySelector('.card output').textContent")
    assert text.startswith("slice 4 of 4")


def test_wheel_scrolls_slices_only_once_a_picture_is_clicked(shown: Browser, page: Path) -> None:
    shown.open(page)
    x, y = shown.middle(AXIAL)
    before, top = place(shown), shown.run("scrollY")
    shown.wheel(x, y, 120)
    assert place(shown) == before
    shown.run(f"scrollTo({{top: {top}, behavior: 'instant'}})")
    shown.click(x, y)
    top = shown.run("scrollY")
    shown.wheel(x, y, -500)
    assert place(shown) == 3  # away from the reader is up: towards the head
    shown.wheel(x, y, 500)
    assert place(shown) == 0
    assert shown.run("scrollY") == top


def test_a_link_leads_to_a_slice_even_inside_a_folded_part(shown: Browser, page: Path) -> None:
    shown.open(page)
    folded = shown.run("document.querySelector('details .card').id")
    shown.open(page, f"{folded}/2")
    shown.settle()
    assert shown.run(f"document.querySelector('#{folded} input[type=range]').value") == "1"
    assert shown.run(f"document.querySelector('#{folded}').closest('details').open")
    top = shown.run(f"document.querySelector('#{folded}').getBoundingClientRect().top")
    assert -20 <= top < 900


def test_organs_switch_off_and_a_column_grows(shown: Browser, page: Path) -> None:
    shown.open(page)
    visible = "getComputedStyle(document.querySelector('.card .organs')).display"
    assert shown.run(visible) != "none"
    shown.click(*shown.middle(AXIAL))
    shown.key("o", 79)
    assert shown.run(visible) == "none"
    shown.key("o", 79)
    assert shown.run(visible) != "none"
    width = f"document.querySelector('{AXIAL}').getBoundingClientRect().width"
    before = shown.run(width)
    shown.click(*shown.middle(".card .panel button"))
    assert shown.run(width) > 1.15 * before
    assert shown.run("document.querySelector('.card .panel:nth-child(2)').offsetParent === null")
    shown.click(*shown.middle(".card .panel button"))
    assert shown.run(width) == pytest.approx(before)


def test_tables_sort_both_ways_and_keep_what_is_absent_last(shown: Browser, page: Path) -> None:
    shown.open(page)
    column = (
        "[...document.querySelectorAll('#trust details tbody tr')]"
        ".map(r => r.cells[3].dataset.v).join(' ')"
    )
    head = "#trust details thead th:nth-child(4) button"
    for sign, said in ((1, "ascending"), (-1, "descending")):
        shown.click(*shown.middle(head))
        values = shown.run(column).split(" ")
        known = [sign * float(v) for v in values if v]
        assert known == sorted(known) and len(known) == 16
        assert values[len(known) :] == [""] * (len(values) - len(known))
        assert shown.run(f"document.querySelector({head!r}).parentElement.ariaSort") == said


def test_cases_are_found_by_word(shown: Browser, page: Path) -> None:
    shown.open(page)
    shown.run(
        "(e => { e.value = 't03 t1'; e.dispatchEvent(new Event('input')); })"
        "(document.querySelector('#trust [data-filter]'))"
    )
    rows = "[...document.querySelectorAll('#trust details tbody tr')].filter(r => r.offsetParent)"
    assert shown.run(f"{rows}.map(r => r.cells[0].textContent)") == ["t03"]


def test_prints(shown: Browser, page: Path) -> None:
    shown.open(page)
    printed = shown.pdf()
    assert printed.startswith(b"%PDF") and len(printed) > 20_000
    shown.settle()
    # what printing opened is folded again
    assert not shown.run("document.querySelector('#rejected details').open")


@pytest.mark.parametrize("width", [320, 390, 768])
def test_fits_a_narrow_screen(shown: Browser, page: Path, width: int) -> None:
    shown.size(width, 844, mobile=True)
    shown.open(page)
    shown.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert shown.run("document.documentElement.scrollWidth") <= width
    beyond = shown.run(
        "[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll-x, pre, svg')"
        " && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.className)"
    )
    assert beyond == []


def test_without_scripts_the_middle_slice_and_no_dead_controls(shown: Browser, page: Path) -> None:
    shown.open(page)
    first = axial(shown)
    shown.scripts(False)
    shown.open(page)
    assert shown.run("getComputedStyle(document.querySelector('.controls')).display") == "none"
    assert axial(shown) == first


def test_text_has_contrast(shown: Browser, page: Path) -> None:
    """At least 4.5 to 1 (WCAG 2, AA) for every text on the page's own ground."""
    shown.open(page)
    shown.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    poor = shown.run(
        """(() => {
        const linear = c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
        const light = c => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
        const parse = s => {
          const v = s.match(/[\\d.]+/g).map(Number);
          return [v[0] / 255, v[1] / 255, v[2] / 255, v.length > 3 ? v[3] : 1];
        };
        const ground = e => {
          const layers = [];
          for (; e; e = e.parentElement) {
            const c = parse(getComputedStyle(e).backgroundColor);
            if (c[3] > 0) layers.push(c);
            if (c[3] === 1) break;
          }
          let out = [1, 1, 1];
          for (const c of layers.reverse()) out = out.map((o, i) => c[i] * c[3] + o * (1 - c[3]));
          return out;
        };
        const found = new Set();
        for (const e of document.querySelectorAll('body *')) {
          if (e.closest('svg') || !e.offsetParent) continue;
          if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
          const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))];
          const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
          if (ratio < 4.5) found.add(e.tagName + '.' + e.className + ' ' + ratio.toFixed(2));
        }
        return [...found];
      })()"""
    )
    assert poor == []


def test_ablation_page_in_the_browser(shown: Browser, tmp_path: Path, full: ReportData) -> None:
    path = tmp_path / "ablation.html"
    write_ablation_page(path, "Ablation", full.ablation, facts=(InputRow("seeds", "2"),))
    for width in (1280, 390):
        shown.size(width, 844, mobile=width < 600)
        shown.open(path)
        assert shown.complaints() == []
        assert shown.run("document.documentElement.scrollWidth") <= width
    names = (
        "[...document.querySelectorAll('.ablation tbody tr')].map(r => r.cells[0].firstChild.data)"
    )
    assert shown.run(names) == ["Only <CT>", "ASIT"]
    for _ in range(2):
        shown.click(*shown.middle(".ablation thead th:nth-child(2) button"))
    assert shown.run(names) == ["ASIT", "Only <CT>"]
