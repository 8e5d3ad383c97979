"""Grouping by looks through the command line, with and without a name for the sequence."""

from __future__ import annotations

import json

import pytest
from hard_dicom import series
from hard_scene import mr, save

import labelferry.anatomy.groups


@pytest.fixture
def two_looks(tmp_path):
    """Three images as they are, three with dark and bright exchanged within the body."""
    bright = mr()
    dark = bright.copy()
    dark[bright > 30] = 560 - bright[bright > 30].clip(0, 550)
    for n in range(3):
        save(tmp_path / "mr" / f"x{n}.nii.gz", bright + n)
        save(tmp_path / "mr" / f"y{n}.nii.gz", dark + n)
    save(tmp_path / "mr" / "z_T2.nii.gz", bright)
    return tmp_path / "mr"


def domains(rows) -> dict[str, str]:
    return {row["id"]: row["domain"] for row in rows if row["role"] == "target"}


def test_check_shows_groups_where_asked(tmp_path, call, two_looks):
    report = tmp_path / "report.json"
    found = {}
    for words in ((), ("--group",)):
        code, text = call("data", "check", two_looks, *words, "--json", report)
        assert code == 0
        rows = json.loads(report.read_text(encoding="utf-8"))["paths"][0]["cases"]
        found[words] = {row["case"]: row["domain"] for row in rows}
    assert set(found[()].values()) == {"unknown", "T2"}
    x, y = ({found[("--group",)][f"{name}{n}"] for n in range(3)} for name in "xy")
    assert {*x, *y} == {"group1", "group2"} and len(x) == len(y) == 1
    assert found[("--group",)]["z_T2"] == "T2"
    assert (
        "6 images of unknown sequence are grouped by how they look: group1 (3), group2 (3)" in text
    )


def test_adapt_has_groups_as_domains(tmp_path, call, two_looks, good, settings, monkeypatch):
    (two_looks / "bad.nii.gz").write_bytes(b"")
    run = tmp_path / "run"
    words = ("adapt", run, "--source", good / "ct", "--target", two_looks, "--until", "prepare")
    assert call(*words, "--group-sequences", "--dry-run", *settings)[0] == 0
    assert not run.exists()
    code, text = call(*words, "--group-sequences", *settings)
    assert code == 3 and "bad.nii.gz" in text
    rows = json.loads((run / "prepare" / "cases.json").read_text(encoding="utf-8"))["cases"]
    assert set(domains(rows).values()) == {"group1", "group2", "T2"}
    assert str(tmp_path) not in (run / "looks.json").read_text(encoding="utf-8")
    # the next start opens no image for it, but for what could not be read
    opened = []
    look_of_case = labelferry.anatomy.groups.look_of
    monkeypatch.setattr(
        labelferry.anatomy.groups, "look_of", lambda *w: opened.append(w) or look_of_case(*w)
    )
    code, text = call(*words, "--group-sequences", *settings)
    assert code == 3 and "unchanged" in text and not opened
    # and without the option all is as before
    assert call(*words, *settings)[0] == 3
    rows = json.loads((run / "prepare" / "cases.json").read_text(encoding="utf-8"))["cases"]
    assert set(domains(rows).values()) == {"unknown", "T2"}


def test_a_run_folder_that_is_a_file_is_said(tmp_path, call, two_looks, good, settings):
    (tmp_path / "run").write_text("x")
    words = ("--source", good / "ct", "--target", two_looks, "--group-sequences")
    code, text = call("adapt", tmp_path / "run", *words, *settings)
    assert code == 2 and "the run folder is a file" in text


def test_dicom_of_unknown_sequence_is_grouped_too(tmp_path, call):
    bright = mr()
    dark = bright.copy()
    dark[bright > 30] = 560 - bright[bright > 30].clip(0, 550)
    for n, array in enumerate((bright, bright + 1, bright + 2, dark, dark + 1, dark + 2)):
        series(tmp_path / "in" / str(n), array, series=str(n))
    code, text = call("data", "check", tmp_path / "in", "--group")
    assert code == 0
    assert "group1 (3), group2 (3)" in text
