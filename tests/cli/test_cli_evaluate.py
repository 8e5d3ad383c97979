"""labelferry evaluate and compare as a person meets them."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

from labelferry.cli import run
from labelferry.evaluate import evaluate
from labelferry.io.nifti import write_volume
from labelferry.volume import Grid, Segmentation

GRID = Grid((9, 8, 7), np.diag([2.0, 2.0, 3.0, 1.0]))
LIVER, SPLEEN = 1, 3


def save(path, *, cut=0, spleen=True):
    array = np.zeros(GRID.shape, np.uint8)
    array[1 : 8 - cut, 1:4, 1:6] = LIVER
    if spleen:
        array[1:8, 5:7, 1:6] = SPLEEN
    write_volume(path, Segmentation(array, GRID))


@pytest.fixture
def folders(tmp_path):
    """Truth; A, whose livers are cut; B, which is right."""
    for patient in range(6):
        for sequence in ("T1", "T2"):
            name = f"p{patient}_{sequence}.nii.gz"
            save(tmp_path / "truth" / name)
            save(tmp_path / "a" / name, cut=1 + patient % 3)
            save(tmp_path / "b" / name)
    return tmp_path


def call(*tokens):
    return run([str(token) for token in tokens])


def test_evaluate_writes_what_it_shows(folders, capsys):
    out = folders / "scores.json"
    assert call("evaluate", folders / "a", folders / "truth", "--json", out) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["organ", "DSC", "NSD", "HD95", "mm", "n"]
    value = json.loads(out.read_text())
    liver = value["mean"]["liver"]
    shown = [f"{liver['dsc']:.3f}", f"{liver['nsd']:.3f}", f"{liver['hd95_mm']:.1f}", "12"]
    assert any(line.split() == ["liver", *shown] for line in lines)
    sure = value["intervals"]["all"]["dsc"]
    assert sure["patients"] == 6 and sure["cases"] == 12
    assert lines[-1].startswith(
        f"mean DSC {sure['mean']:.3f} [{sure['low']:.3f}, {sure['high']:.3f}]  NSD "
    )
    assert lines[-1].endswith("(12 cases, 2 organs)")


def test_one_patient_has_no_interval(folders, capsys):
    pair = (folders / side / "p0_T1.nii.gz" for side in ("b", "truth"))
    assert call("evaluate", *pair) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "mean DSC 1.000  NSD 1.000  (1 case, 2 organs)"


@pytest.mark.parametrize("organs", ["liver", "1", "liver,1"])
def test_organs_by_name_or_id(folders, capsys, organs):
    assert call("evaluate", folders / "b", folders / "truth", "--organs", organs) == 0
    shown = capsys.readouterr().out
    assert "(12 cases, 1 organ)" in shown and "spleen" not in shown


def test_an_unknown_organ_suggests_the_nearest(folders, capsys):
    assert call("evaluate", folders / "b", folders / "truth", "--organs", "liver,splen") == 2
    assert "Did you mean 'spleen'" in capsys.readouterr().err


def test_organs_from_a_list_of_ones_own(folders, capsys):
    own = folders / "own.json"
    names = ["liver", "cyst", "milt"]
    own.write_text(json.dumps([{"id": n, "name": name} for n, name in enumerate(names, 1)]))
    assert call("evaluate", folders / "b", folders / "truth", "--organs", own) == 0
    assert "milt" in capsys.readouterr().out
    assert call("evaluate", folders / "b", folders / "truth", "--organs", "gone.json") == 2
    assert "list of organs not found" in capsys.readouterr().err


def test_the_official_table(folders):
    table = folders / "official.csv"
    tokens = folders / "a", folders / "truth", "--protocol", "flare24", "--csv", table
    assert call("evaluate", *tokens) == 0
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert rows[0]["Name"] == "p0_T1.nii.gz" and len(rows) == 12
    assert list(rows[0])[1:3] == ["Liver_DSC", "RK_DSC"] and len(rows[0]) == 27
    assert (float(rows[0]["Liver_DSC"]), float(rows[0]["RK_NSD"])) == (0.9231, 1.0)


def test_an_unknown_protocol(folders, capsys):
    assert call("evaluate", folders / "a", folders / "truth", "--protocol", "flare") == 2
    assert "allowed: strict, flare24" in capsys.readouterr().err


def scores(folders, side):
    path = folders / f"{side}.json"
    evaluate(folders / side, folders / "truth").write_json(path)
    return path


def test_compare_scores(folders, capsys):
    a, b = scores(folders, "a"), scores(folders, "b")
    out, table = folders / "out" / "c.json", folders / "out" / "c.csv"
    assert call("compare", a, b, "--json", out, "--csv", table) == 0
    lines = capsys.readouterr().out.splitlines()
    value = json.loads(out.read_text())
    assert (value["schema_version"], value["n_cases"]) == (1, 12)
    liver = value["difference"]["liver"]["dsc"]
    # 1 - (12/13, 10/12, 8/11), two patients each
    assert liver["difference"] == pytest.approx(1 - (12 / 13 + 10 / 12 + 8 / 11) / 3)
    assert liver["low"] > 0
    assert (liver["p"], liver["patients"], liver["cases"]) == (2 / 2**6, 6, 12)
    assert value["difference"]["spleen"]["dsc"]["p"] is None
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [(row["organ"], row["metric"]) for row in rows[:3]] == [
        ("all", "dsc"),
        ("all", "nsd"),
        ("liver", "dsc"),
    ]
    row = next(line.split() for line in lines if line.startswith("liver"))
    assert row[1] == f"{liver['difference']:+.3f}" and row[3] == "0.031"
    assert lines[-1].startswith("mean difference DSC +0.08")
    assert lines[-1].endswith("(12 cases, 6 patients)")
    assert max(map(len, lines[:-1])) <= 80


def test_compare_folders_gives_the_same(folders):
    results = []
    truth = "--truth", folders / "truth"
    for sides in ((scores(folders, "a"), scores(folders, "b")), (folders / "a", folders / "b")):
        assert call("compare", *sides, *truth, "--json", folders / "c.json") == 0
        results.append(json.loads((folders / "c.json").read_text()))
    assert results[0] == results[1]


def test_compare_names_what_one_side_lacks(folders, capsys):
    b = scores(folders, "b")
    (folders / "truth" / "p0_T1.nii.gz").unlink()
    (folders / "a" / "p1_T1.nii.gz").unlink()
    assert call("compare", folders / "a", b, "--truth", folders / "truth") == 3
    shown = capsys.readouterr()
    assert "only B has p0_T1; left out" in shown.err
    assert "A: missing: p1_T1: no prediction; counts 0" in shown.err
    assert "(11 cases, 6 patients)" in shown.out


def test_compare_refuses_what_cannot_be_compared(folders, capsys):
    a = scores(folders, "a")
    assert call("compare", a, folders / "b") == 2
    assert "Give --truth" in capsys.readouterr().err
    assert call("compare", a, folders / "nowhere") == 2
    assert "no such file or folder" in capsys.readouterr().err
    other = folders / "other.json"
    evaluate(folders / "b", folders / "truth", protocol="flare24").write_json(other)
    assert call("compare", a, other) == 2
    assert "different protocols; seen: strict and flare24" in capsys.readouterr().err
    other.write_text('{"schema_version": 9}')
    assert call("compare", a, other) == 2
    assert "another schema version" in capsys.readouterr().err
    value = json.loads(a.read_text())
    value["cases"] = [{**value["cases"][0], "case": "z"}]
    other.write_text(json.dumps(value))
    assert call("compare", a, other) == 2
    assert "share no case" in capsys.readouterr().err


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from labelferry.cli import run\n"
        "run(['compare', '--help']); run(['evaluate', '--help'])\n"
        "assert not {'torch', 'scipy', 'nibabel'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
