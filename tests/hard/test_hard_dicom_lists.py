"""DICOM named line by line: in a list of files, and in ``cohort.csv``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hard_dicom import series
from hard_scene import ct, labels, mr, save
from test_hard_dicom_direct import assert_nameless, study, table

from labelferry.io.discover import discover
from labelferry.organs import FLARE

FIRST = Path("in/Winterbottom_Ottilie/20190817/S1")
SECOND = FIRST.with_name("S2")


def written(folder: Path, kind: str, lines: list[tuple[str, str]]) -> Path:
    """A list, or a table, of (case, image)."""
    path = folder / ("list.csv" if kind == "list" else "cohort.csv")
    head = "case,image" if kind == "list" else "case,patient,modality,image"
    rows = [
        f"{case},{image}" if kind == "list" else f"{case},q,MR,{image}" for case, image in lines
    ]
    path.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["list", "table"])
def test_a_line_names_a_folder_or_a_file_of_a_series(tmp_path, call, model, kind):
    study(tmp_path / "in")
    save(tmp_path / "plain.nii.gz", mr(seed=4))
    one = sorted((tmp_path / SECOND).iterdir())[3].relative_to(tmp_path)
    lines = [("a", FIRST.as_posix()), ("b", one.as_posix()), ("c", "plain.nii.gz")]
    path = written(tmp_path, kind, lines)
    found = discover(path, "target", FLARE)
    assert not found.refused
    pictures = {case.id: len(case.files) for case in found.cohort}
    assert pictures == {"a": 14, "b": 14, "c": 1}
    by_id = {case.id: case for case in found.cohort}
    assert {file.parent for file in by_id["b"].files} == {tmp_path / SECOND}
    code, text = call("predict", path, tmp_path / "out", "--model", model)
    assert code == 0, text
    made = sorted(file.name for file in (tmp_path / "out").glob("*.nii.gz"))
    assert made == ["a.nii.gz", "b.nii.gz", "c.nii.gz"]


def test_what_a_table_leaves_open_the_headers_say(tmp_path):
    study(tmp_path / "in")
    path = tmp_path / "cohort.csv"
    path.write_text(
        "case,patient,modality,sequence,domain,image\n"
        f"a,q,MR,,,{FIRST.as_posix()}\n"
        f"b,q,MR,DWI,mine,{SECOND.as_posix()}\n"
        "c,r,CT,,,in/PID-2\n",
        encoding="utf-8",
    )
    found = discover(path, "target", FLARE)
    said = [(case.id, case.patient, case.sequence, case.domain) for case in found.cohort]
    assert said == [("a", "q", "T2", "T2"), ("b", "q", "DWI", "mine")]
    assert "another modality" in found.refused[0].text and found.refused[0].case == "c"


def test_lines_without_names_get_pseudonyms_that_are_unique(tmp_path):
    """One patient in two lines is one patient; another is another."""
    study(tmp_path / "in")
    (tmp_path / "list.txt").write_text(f"{FIRST}\n{SECOND}\nin/PID-2\n", encoding="utf-8")
    cases = list(discover(tmp_path / "list.txt", "target", FLARE).cohort)
    assert len({case.id for case in cases}) == 3
    assert sorted({case.patient for case in cases}) == ["p001", "p002"]


@pytest.mark.parametrize("kind", ["list", "table"])
def test_lines_that_name_no_single_volume_stop_no_other(tmp_path, call, model, kind):
    study(tmp_path / "in")
    (tmp_path / "empty").mkdir()
    lines = [("many", "in"), ("none", "empty"), ("good", FIRST.as_posix()), ("gone", "nowhere")]
    path = written(tmp_path, kind, lines)
    code, text = call("predict", path, tmp_path / "out", "--model", model)
    assert code == 3, text
    assert "several DICOM series; seen: 3" in text and "no volume in this DICOM" in text
    assert "image not found" in text
    assert (tmp_path / "out" / "good.nii.gz").exists()
    reasons = [row["reason"] for row in table(tmp_path / "out" / "failures.csv")]
    assert len(reasons) == 3
    (tmp_path / "out" / "failures.csv").rename(tmp_path / "out" / "seen.csv")
    assert_nameless(tmp_path / "out")


def test_a_line_twice_is_refused(tmp_path):
    study(tmp_path / "in")
    (tmp_path / "list.txt").write_text(f"{FIRST}\n{FIRST}\nin/PID-2\n", encoding="utf-8")
    found = discover(tmp_path / "list.txt", "target", FLARE)
    assert len(found.cohort) == 1 and len(found.refused) == 2
    assert all("same case id" in note.text for note in found.refused)


def test_a_name_that_leads_out_of_a_folder_is_refused(tmp_path):
    study(tmp_path / "in")
    path = written(tmp_path, "list", [("../up", FIRST.as_posix()), ("good", SECOND.as_posix())])
    found = discover(path, "target", FLARE)
    assert [case.id for case in found.cohort] == ["good"]
    assert "cannot name a file" in found.refused[0].text


def test_a_source_may_be_dicom_beside_label_maps(tmp_path, call, good, settings):
    """What a folder of DICOM cannot say, a list can: which label map belongs to a series."""
    lines = ["case,image,label"]
    for n in range(3):
        series(tmp_path / f"ct{n}", ct(seed=n), modality="CT", series=f"s{n}")
        save(tmp_path / f"label{n}.nii.gz", labels())
        lines.append(f"c{n},ct{n},label{n}.nii.gz")
    path = tmp_path / "list.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    run = tmp_path / "run"
    words = ("adapt", run, "--source", path, "--target", good / "mr", "--until", "prepare")
    code, text = call(*words, *settings)
    assert code == 0, text
    rows = json.loads((run / "prepare" / "cases.json").read_text(encoding="utf-8"))["cases"]
    assert [row["id"] for row in rows if row["role"] == "source"] == ["c0", "c1", "c2"]
