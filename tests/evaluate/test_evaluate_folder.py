"""Folders of predictions and truth, through the function and the command."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import nibabel
import numpy as np
import pytest

from labelferry.cli.evaluate import evaluate as command
from labelferry.errors import UserError
from labelferry.evaluate import evaluate
from labelferry.io.nifti import write_volume
from labelferry.organs import Organ, OrganSet
from labelferry.volume import Grid, Segmentation, canonical

GRID = Grid((8, 7, 6), np.diag([2.0, 2.0, 3.0, 1.0]))
LIVER, SPLEEN, AORTA = 1, 3, 5
HEADER = "case,patient,modality,sequence,domain,image,label,annotated\n"


def save(path, *organs, grid=GRID, cut=0):
    """Label map with a bar of each organ; ``cut`` voxels shorter."""
    array = np.zeros(grid.shape, np.uint8)
    for organ in organs:
        array[1 : 7 - cut, organ : organ + 1, 1:5] = organ
    write_volume(path, Segmentation(array, grid))


@pytest.fixture
def pair(tmp_path):
    for name in ("pred", "truth"):
        for case in ("p1_T1", "p1.2_T2"):
            save(tmp_path / name / f"{case}.nii.gz", LIVER, SPLEEN)
    return tmp_path / "pred", tmp_path / "truth"


def test_perfect(pair):
    found = evaluate(*pair)
    assert [case.case for case in found.cases] == ["p1.2_T2", "p1_T1"]
    assert (found.mean.dsc, found.mean.nsd) == (1.0, 1.0)
    assert found.is_complete
    assert list(found.organs) == ["liver", "spleen"]


def test_the_golden_ellipsoid_through_files(tmp_path):
    spacing = (1.2, 1.2, 3.0)
    grid = Grid((40, 40, 20), np.diag([*spacing, 1.0]))
    index = np.moveaxis(np.indices(grid.shape), 0, -1)
    for name, centre, radius in (("t", (20, 20, 10), 14), ("p", (21, 19, 10), 12)):
        mask = (((index - centre) * spacing) ** 2).sum(axis=-1) <= radius**2
        write_volume(tmp_path / f"{name}.nii.gz", Segmentation(mask.astype(np.uint8), grid))
    for tolerance, expected in ((2.0, 0.6352391486), (3.0, 0.9177912087), (5.0, 1.0)):
        organs = OrganSet((Organ(1, "liver", tolerance_mm=tolerance),))
        found = evaluate(tmp_path / "p.nii.gz", tmp_path / "t.nii.gz", organs=organs)
        assert found.mean.dsc == pytest.approx(0.7714816535, abs=1e-10)
        assert found.mean.nsd == pytest.approx(expected, abs=1e-7)  # spacings of 32 bits


def test_a_missing_and_an_extra_prediction_are_named(pair):
    pred, truth = pair
    (pred / "p1_T1.nii.gz").rename(pred / "other.nii.gz")
    found = evaluate(pred, truth)
    assert (found.missing, found.extra) == (("p1_T1",), ("other",))
    assert found.mean.dsc == 0.5
    assert found.to_json()["n_cases"] == 2
    assert found.to_json()["extra"] == ["other"]


def test_without_a_table_a_case_annotates_what_its_truth_holds(pair):
    pred, truth = pair
    save(truth / "p1_T1.nii.gz", LIVER)
    scores = {case.case: case.organs for case in evaluate(pred, truth).cases}
    assert set(scores["p1_T1"]) == {"liver"}
    assert set(scores["p1.2_T2"]) == {"liver", "spleen"}


def test_the_table_says_what_is_annotated(pair):
    pred, truth = pair
    (truth / "cohort.csv").write_text(
        HEADER
        + "p1_T1,p1,MR,T1,T1,,p1_T1.nii.gz,1;5\n"
        + "p1.2_T2,p1,MR,T2,late,,p1.2_T2.nii.gz,1;3;9\n"
        + "p9_T2,p9,MR,T2,late,,p9_T2.nii.gz,1\n",
        encoding="utf-8",
    )
    save(pred / "p1_T1.nii.gz", LIVER, SPLEEN, AORTA)
    found = evaluate(pred, truth)
    late, first = found.cases
    assert (late.domain, late.sequence, first.domain) == ("late", "T2", "T1")
    # spleen: not annotated; aorta: annotated, absent, predicted; gallbladder: empty in both
    assert {name: score.dsc for name, score in first.organs.items()} == {"liver": 1.0, "aorta": 0.0}
    assert late.organs["gallbladder"].dsc is None
    assert found.mean.dsc == pytest.approx((1 + 1 + 0) / 3)
    assert set(found.to_json()["domains"]) == {"T1", "late"}


def test_the_patient_comes_from_the_table_or_from_the_name(pair):
    pred, truth = pair
    assert [case.patient for case in evaluate(pred, truth).cases] == ["p1.2", "p1"]
    (truth / "cohort.csv").write_text(HEADER + "p1_T1,q7,MR,T1,T1,,,1\n", encoding="utf-8")
    found = evaluate(pred, truth)
    assert [case.patient for case in found.cases] == ["p1.2", "q7"]
    assert found.to_json()["cases"][1]["patient"] == "q7"


@pytest.mark.parametrize("organs", [["liver", "aorta"], [1, 5], ["1", " aorta "]])
def test_organs_may_be_named_for_every_case(pair, organs):
    pred, truth = pair
    (truth / "cohort.csv").write_text("case,annotated\np1_T1,3\n", encoding="utf-8")
    save(pred / "p1_T1.nii.gz", LIVER, AORTA)
    found = evaluate(pred, truth, annotated=organs)
    assert [set(case.organs) for case in found.cases] == [{"liver", "aorta"}] * 2
    assert found.cases[0].organs["aorta"].dsc is None  # empty in both
    assert found.cases[1].organs["aorta"].dsc == 0  # absent, but predicted


@pytest.mark.parametrize(
    ("organs", "message"),
    [
        (["livr"], "Did you mean 'liver'"),
        (["14"], "unknown organ id; seen: 14"),
        ([""], "no organ is given"),
    ],
)
def test_unknown_organs_are_refused(pair, organs, message):
    with pytest.raises(UserError, match=message):
        evaluate(*pair, annotated=organs)


def test_labels_near_an_integer_are_rounded_and_others_refused(tmp_path):
    array = np.zeros(GRID.shape)
    array[1:7, 2:4, 1:5] = 12.9905
    array[0, 0, 0] = -0.009
    for name, values in (("truth", np.round(array)), ("pred", array)):
        write_volume(tmp_path / f"{name}.nii.gz", Segmentation(values, GRID))
    assert evaluate(tmp_path / "pred.nii.gz", tmp_path / "truth.nii.gz").mean.dsc == 1.0
    for odd in (12.98, np.nan, np.inf):
        array[3, 3, 3] = odd
        write_volume(tmp_path / "pred.nii.gz", Segmentation(array, GRID))
        with pytest.raises(UserError, match="label values are not integers"):
            evaluate(tmp_path / "pred.nii.gz", tmp_path / "truth.nii.gz")


def test_a_row_that_annotates_nothing_says_nothing(pair):
    pred, truth = pair
    (truth / "cohort.csv").write_text("case,annotated\np1_T1,\n", encoding="utf-8")
    scores = {case.case: case.organs for case in evaluate(pred, truth).cases}
    assert set(scores["p1_T1"]) == {"liver", "spleen"}


def test_a_table_may_name_labels_below_its_folder(tmp_path):
    save(tmp_path / "source" / "labels" / "ct1.nii.gz", LIVER)
    save(tmp_path / "pred" / "ct1.nii.gz", LIVER)
    table = HEADER + "ct1,c1,CT,CT,CT,images/ct1.nii.gz,labels/ct1.nii.gz,1;3\n"
    (tmp_path / "source" / "cohort.csv").write_text(table, encoding="utf-8")
    found = evaluate(tmp_path / "pred", tmp_path / "source")
    assert set(found.cases[0].organs) == {"liver", "spleen"}


@pytest.mark.parametrize("cell", ["1;14", "liver", "1;-3"])
def test_a_table_with_unknown_organs_is_refused(pair, cell):
    pred, truth = pair
    (truth / "cohort.csv").write_text(f"case,annotated\np1_T1,{cell}\n", encoding="utf-8")
    with pytest.raises(UserError, match="row 2 annotates organs that are not in the list"):
        evaluate(pred, truth)


def test_a_table_without_cases_is_refused(pair):
    pred, truth = pair
    (truth / "cohort.csv").write_text("name,annotated\nx,1\n", encoding="utf-8")
    with pytest.raises(UserError, match="no column 'case'"):
        evaluate(pred, truth)


def test_other_orientation_scores_the_same(tmp_path):
    affine = np.array([[0, 0, -3.0, 9], [-2.0, 0, 0, 4], [0, 2.0, 0, 0], [0, 0, 0, 1]])
    grid = Grid((8, 7, 6), affine)
    save(tmp_path / "truth" / "a.nii.gz", LIVER, grid=grid)
    save(tmp_path / "own.nii.gz", LIVER, grid=grid, cut=1)
    image = nibabel.load(tmp_path / "own.nii.gz")
    own = Segmentation(np.asarray(image.dataobj), grid)
    write_volume(tmp_path / "pred" / "a.nii.gz", canonical(own))
    turned = evaluate(tmp_path / "pred", tmp_path / "truth").mean
    assert turned == evaluate(tmp_path / "own.nii.gz", tmp_path / "truth" / "a.nii.gz").mean
    assert turned.dsc == pytest.approx(2 * 5 / 11)


def test_another_grid_is_refused_and_the_others_scored(pair):
    pred, truth = pair
    moved = Grid(GRID.shape, GRID.affine + _shift(1.0))
    save(pred / "p1_T1.nii.gz", LIVER, grid=moved)
    found = evaluate(pred, truth)
    assert found.missing == ("p1_T1",)
    assert found.refused["p1_T1"].count("spacing 2×2×3 mm") == 2
    assert found.mean.dsc == 0.5
    (pred / "p1.2_T2.nii.gz").unlink()
    with pytest.raises(UserError, match="p1_T1: the prediction lies on another grid"):
        evaluate(pred, truth)


def _shift(mm):
    shift = np.zeros((4, 4))
    shift[0, 3] = mm
    return shift


@pytest.mark.parametrize("damage", [b"", b"not an image at all"])
def test_a_bad_prediction_counts_as_missing(pair, damage):
    pred, truth = pair
    (pred / "p1_T1.nii.gz").write_bytes(damage)
    found = evaluate(pred, truth)
    assert found.missing == ("p1_T1",)
    assert set(found.refused) == {"p1_T1"}
    assert str(pred) not in json.dumps(found.to_json())
    assert found.organs["liver"].dsc == 0.5


def test_a_truncated_prediction_counts_as_missing(pair):
    pred, truth = pair
    path = pred / "p1_T1.nii.gz"
    path.write_bytes(path.read_bytes()[:-30])
    assert evaluate(pred, truth).missing == ("p1_T1",)


def test_a_prediction_with_foreign_labels_counts_as_missing(pair):
    pred, truth = pair
    write_volume(pred / "p1_T1.nii.gz", Segmentation(np.full(GRID.shape, 40, np.uint8), GRID))
    found = evaluate(pred, truth)
    assert "unexpected label values" in found.refused["p1_T1"]


def test_a_bad_truth_is_named_and_not_scored(pair):
    pred, truth = pair
    (truth / "p1_T1.nii.gz").write_bytes(b"")
    found = evaluate(pred, truth)
    assert (found.missing, set(found.refused)) == ((), {"p1_T1"})
    assert [case.case for case in found.cases] == ["p1.2_T2"]
    (truth / "p1.2_T2.nii.gz").write_bytes(b"")
    with pytest.raises(UserError, match="empty file"):
        evaluate(pred, truth)


def test_hidden_and_other_files_do_not_count(pair):
    pred, truth = pair
    for folder in pair:
        (folder / "._p1_T1.nii.gz").write_bytes(b"x")
        (folder / "notes.txt").write_text("x", encoding="utf-8")
        (folder / "more").mkdir()
    found = evaluate(pred, truth)
    assert (len(found.cases), found.extra) == (2, ())


def test_single_files_in_every_mixture(pair):
    pred, truth = pair
    one, other = pred / "p1_T1.nii.gz", truth / "p1.2_T2.nii.gz"
    assert evaluate(one, other).cases[0].case == "p1.2_T2"
    assert [case.case for case in evaluate(one, truth).cases] == ["p1_T1"]
    from_folder = evaluate(str(pred), str(other))
    assert [case.case for case in from_folder.cases] == ["p1.2_T2"]
    assert (from_folder.missing, from_folder.extra) == ((), ())


def test_only(pair):
    found = evaluate(*pair, only=["p1_T1"])
    assert [case.case for case in found.cases] == ["p1_T1"]
    assert found.extra == ()
    with pytest.raises(UserError, match="p7: no truth of this name"):
        evaluate(*pair, only=["p7"])


def test_mistakes_are_told(pair, tmp_path):
    pred, truth = pair
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no such file or folder"):
        evaluate(tmp_path / "nowhere", truth)
    with pytest.raises(UserError, match="no such file or folder"):
        evaluate(pred, tmp_path / "nowhere")
    with pytest.raises(UserError, match="no NIfTI file in the folder"):
        evaluate(tmp_path / "empty", truth)
    save(tmp_path / "above" / "test" / "x.nii.gz", LIVER)
    with pytest.raises(UserError, match=r"no NIfTI file in the folder.*Give a folder of it: test"):
        evaluate(pred, tmp_path / "above")
    save(tmp_path / "strange" / "x.nii.gz", LIVER)
    with pytest.raises(UserError, match="no prediction has the name"):
        evaluate(tmp_path / "strange", truth)


def test_two_files_of_a_case_stop_no_other(pair):
    pred, truth = pair
    one, other = sorted(path.name.removesuffix(".nii.gz") for path in truth.glob("*.nii.gz"))
    save(pred / f"{one}.nii", LIVER)
    found = evaluate(pred, truth)
    assert found.missing == (one,)
    assert "two files of one case" in found.refused[one]
    save(truth / f"{one}.nii", LIVER)
    found = evaluate(pred, truth)
    assert [case.case for case in found.cases] == [other]
    assert "two files of one case" in found.refused[one]
    assert found.missing == found.extra == ()


def test_command(pair, tmp_path, capsys):
    pred, truth = pair
    files = {"json": tmp_path / "out" / "scores.json", "csv": tmp_path / "out" / "scores.csv"}
    assert command(pred, truth, **files) == 0
    lines = capsys.readouterr().out.splitlines()
    sure = " [1.000, 1.000]"
    assert lines[-1] == f"mean DSC 1.000{sure}  NSD 1.000{sure}  (2 cases, 2 organs)"
    assert any(line.split() == ["liver", "1.000", "1.000", "0.0", "2"] for line in lines)
    mean = json.loads(files["json"].read_text())["mean"]["all"]
    assert mean == {"dsc": 1.0, "nsd": 1.0, "hd95_mm": 0.0}
    rows = list(csv.DictReader(files["csv"].read_text().splitlines()))
    assert len(rows) == 4 and rows[0]["organ"] == "liver"


def test_command_says_what_is_wrong_and_goes_on(pair, capsys):
    pred, truth = pair
    save(truth / "p3_[red]T2.nii.gz", LIVER)
    (pred / "p1_T1.nii.gz").write_bytes(b"")
    save(pred / "more.nii.gz", LIVER)
    assert command(pred, truth) == 3
    shown = capsys.readouterr()
    assert "missing: p3_[red]T2" in shown.err
    assert "refused: p1_T1: empty file (0 bytes)" in shown.err
    assert "extra: more" in shown.err
    assert shown.out.splitlines()[-1].endswith("(3 cases, 2 organs)")


def test_command_refuses_a_folder_as_output(pair, tmp_path):
    with pytest.raises(UserError, match="a folder, not a file"):
        command(*pair, json=tmp_path)


def test_the_public_name_is_the_function_and_loads_no_torch():
    code = (
        "import sys, labelferry.cli.evaluate, labelferry.evaluate.results, labelferry\n"
        "from labelferry.errors import UserError\n"
        "for _ in range(2):\n"
        "    try: labelferry.evaluate('/nowhere', '/nowhere')\n"
        "    except UserError: pass\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
