"""The page opens by itself, escapes every name, and says why a section is empty."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from labelferry.organs import FLARE, OrganSet
from labelferry.report import page
from labelferry.report.config import ReportConfig
from labelferry.report.data import CaseView, OrganValues, ProvenanceRow, ReportData
from labelferry.report.page import render_report, write_report

VOID = {"meta", "link", "img", "input", "br", "path", "use"}


class Reader(HTMLParser):
    """Checks that tags nest; keeps elements, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_full_page_is_whole_and_needs_nothing_else(full: ReportData, small: ReportConfig) -> None:
    text = render_report(full, FLARE, small)
    reader = Reader(text)
    assert not re.search(
        r"https?:|//[a-z]", re.sub(r"base64,[^\")]*", "", text).split("<script>")[0]
    )
    ids = [a["id"] for _, a in reader.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for tag, attributes in reader.elements:
        for name in ("src", "href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, value)
            if value and value.startswith("#"):
                assert value[1:] in ids, value
        assert not any(name.startswith("on") for name in attributes)
    assert all(picture.get("alt") for picture in reader.all("img"))
    frames = [a for a in reader.all("div") if (a.get("class") or "").startswith("frame")]
    assert frames and all(frame["role"] == "img" and frame["aria-label"] for frame in frames)
    assert "Radiological convention" in reader.text
    assert "scored against truth" in reader.text.lower()


def test_only_our_script_may_run(full: ReportData, small: ReportConfig) -> None:
    reader = Reader(render_report(full, FLARE, small))
    (script,) = reader.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [
        m["content"] for m in reader.all("meta") if m.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy


def test_names_are_escaped(full: ReportData, small: ReportConfig, two_organs: OrganSet) -> None:
    text = render_report(full, two_organs, small)
    reader = Reader(text)
    assert "<script>alert" not in text and "<b>run" not in text and "<spleen>" not in text
    assert len(reader.all("script")) == 1
    for name in ("<script>alert(1)</script>", 't"2', "A <b>run</b>", "mind <this>", "<spleen>"):
        assert name in reader.text
    assert any(
        "<script>alert(1)</script>" in (a.get("aria-label") or "") for a in reader.all("div")
    )


def test_empty_run_says_why_each_section_is_empty(bare: ReportData, small: ReportConfig) -> None:
    text = render_report(bare, FLARE, small)
    sections = text.split("<section ")[1:]
    assert len(sections) == 12
    assert all('class="empty"' in section for section in sections)
    assert not Reader(text).all("img")


def test_one_case_and_no_anatomy(
    bare: ReportData, small: ReportConfig, make_case: Callable[..., CaseView]
) -> None:
    case = make_case("only")
    case = dataclasses.replace(case, layers={"image": case.layers["image"]})
    reader = Reader(render_report(dataclasses.replace(bare, cases=(case,)), FLARE, small))
    assert sum((a.get("class") or "").startswith("frame") for a in reader.all("div")) == 3
    assert "1 case shown" in reader.text


def test_slider_is_a_range_input_that_fits_its_stack(
    bare: ReportData, small: ReportConfig, make_case: Callable[..., CaseView]
) -> None:
    data = dataclasses.replace(bare, cases=(make_case("only"),))
    reader = Reader(render_report(data, FLARE, small))
    (slider,) = [a for a in reader.all("input") if a["type"] == "range"]
    lines = [float(v) for v in (slider["data-lines"] or "").split()]
    assert slider["max"] == str(len(lines) - 1) == "3"
    assert slider["aria-label"] and 0 <= int(slider["value"] or "") < len(lines)
    assert lines == sorted(lines, reverse=True)  # towards the head, so upwards in the picture


def test_case_without_layers_stands_in_the_table(bare: ReportData, small: ReportConfig) -> None:
    data = dataclasses.replace(bare, cases=(CaseView("plain", "T1", "target"),))
    reader = Reader(render_report(data, FLARE, small))
    assert "plain" in reader.text and not reader.all("img")


def test_long_tables_are_cut_and_say_so(bare: ReportData, small: ReportConfig) -> None:
    rows = tuple(ProvenanceRow(f"c{i}", o, "network") for i in range(9) for o in ("liver", "aorta"))
    config = small.model_copy(update={"table_rows": 4})
    text = Reader(render_report(dataclasses.replace(bare, provenance=rows), FLARE, config)).text
    assert "The first 4 of 9 rows are shown" in text and "liver, aorta" in text
    assert "c3" in text and "c4" not in text


def test_same_data_give_the_same_page(full: ReportData, small: ReportConfig) -> None:
    assert render_report(full, FLARE, small) == render_report(full, FLARE, small)


def test_written_whole_or_not_at_all(
    tmp_path: Path, bare: ReportData, small: ReportConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out" / "report.html"
    write_report(path, bare, FLARE, small)
    before = path.read_text(encoding="utf-8")
    assert before.startswith("<!DOCTYPE html>")

    def fail(*_: object) -> str:
        raise RuntimeError("no more")

    monkeypatch.setattr(page, "render_report", fail)
    with pytest.raises(RuntimeError):
        write_report(path, bare, FLARE, small)
    assert path.read_text(encoding="utf-8") == before
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_heat_maps_put_the_worst_first_and_are_cut(bare: ReportData, small: ReportConfig) -> None:
    rows = tuple(OrganValues(f"c{i}", "T1", i / 10, {"liver": i / 10}) for i in range(9))
    data = dataclasses.replace(bare, instability=rows)
    config = small.model_copy(update={"heat_rows": 3})
    text = Reader(render_report(data, FLARE, config)).text
    assert "The 3 worst of 9 cases" in text
    assert text.index("c8") < text.index("c7") < text.index("c6") and "c5" not in text


def test_surfaces_of_the_best_and_worst(full: ReportData, small: ReportConfig) -> None:
    text = render_report(full, FLARE, small)
    pictures = [a["alt"] for a in Reader(text).all("img")]
    assert "Result of kept as surfaces, from the front" in pictures
    assert "Truth of held as surfaces, from the back" in pictures and len(pictures) == 8
    none = small.model_copy(update={"surface_px": 0})
    assert not Reader(render_report(full, FLARE, none)).all("img")


def test_all_shares_are_in_per_cent(full: ReportData, small: ReportConfig) -> None:
    text = Reader(render_report(full, FLARE, small)).text
    assert "62.5" in text and "50.0–75.0" in text and "15.3" in text and "0.625" not in text


def test_says_whether_truth_ranked_the_cases(
    bare: ReportData, full: ReportData, small: ReportConfig, make_case: Callable[..., CaseView]
) -> None:
    cases = (make_case("a", plausibility=1.0), make_case("b", plausibility=2.0))
    text = Reader(render_report(dataclasses.replace(bare, cases=cases), FLARE, small)).text
    assert "No truth was given" in text and "Least plausible" in text
    assert "By mean DSC" in Reader(render_report(full, FLARE, small)).text
