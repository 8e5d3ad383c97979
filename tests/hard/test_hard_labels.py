"""Every fault of a label map: in a source (check, prepare) and in truth and prediction."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hard_scene import (
    bad_labels,
    ct,
    grid,
    hashes,
    labels,
    line_of,
    mr,
    odd_labels,
    pair,
    save,
)

from labelferry.organs import FLARE, SCHEMES


def write(folder, table) -> None:
    for name, (make, _) in table.items():
        pair(folder, name)
        make(folder / "labels" / f"{name}.nii.gz")
    for name in ("good_a", "good_b"):
        pair(folder, name)


def test_check_names_every_label_that_cannot_be_used(tmp_path, call):
    table = bad_labels()
    write(tmp_path, table)
    before = hashes(tmp_path)
    code, text = call("data", "check", tmp_path)
    assert code == 3
    for name, (_, word) in table.items():
        lines = [
            line
            for line in text.splitlines()
            if line.startswith((f"refused: {name}:", f"refused: {name}.nii.gz:"))
        ]
        assert len(lines) == 1 and f"{name}.nii.gz" in lines[0], name
        assert word in lines[0].lower(), (name, lines[0])
    assert "2 usable cases" in text
    assert max(map(len, text.splitlines())) < 2000
    assert hashes(tmp_path) == before


def test_check_takes_every_odd_label_and_says_what_is_odd(tmp_path, call):
    table = odd_labels()
    write(tmp_path, table)
    report = tmp_path / "report.json"
    code, text = call("data", "check", tmp_path, "--json", report)
    assert code == 0, text
    for name, (_, word) in table.items():
        line = line_of(text, f"{name}.nii.gz")
        assert (word in line and line.startswith("warning:")) if word else not line, (name, line)
    (found,) = json.loads(report.read_text(encoding="utf-8"))["paths"]
    by_id = {row["case"]: row["organs"] for row in found["cases"]}
    wanted = by_id["good_a"]
    for name in ("other_axes", "floats", "f999", "big_endian", "four_axes", "nifti_2"):
        for organ, facts in wanted.items():
            assert by_id[name][organ]["voxels"] == facts["voxels"], name
            assert by_id[name][organ]["centroid_ras_mm"] == pytest.approx(facts["centroid_ras_mm"])
            assert by_id[name][organ]["mean_intensity"] == pytest.approx(facts["mean_intensity"])
    assert "3" not in by_id["without_spleen"]


def test_prepare_leaves_bad_labels_out_and_keeps_odd_ones(tmp_path, call, settings):
    bad, odd = bad_labels(), odd_labels()
    write(tmp_path / "ct", bad)
    write(tmp_path / "ct", odd)
    save(tmp_path / "mr" / "images" / "a.nii.gz", mr())
    run, before = tmp_path / "run", hashes(tmp_path)
    words = ("--source", tmp_path / "ct", "--target", tmp_path / "mr", "--until", "prepare")
    code, text = call("adapt", run, *words, *settings)
    assert code == 3
    assert {k: v for k, v in hashes(tmp_path).items() if not k.startswith("run/")} == before
    for name, (_, word) in bad.items():
        assert word in line_of(text, f"{name}.nii.gz").lower(), name
    for name, (_, word) in odd.items():
        if word:
            assert word in line_of(text, f"{name}.nii.gz"), name
    rows = json.loads((run / "prepare" / "cases.json").read_text(encoding="utf-8"))["cases"]
    assert {row["id"] for row in rows if row["role"] == "source"} == {*odd, "good_a", "good_b"}


def test_evaluate_takes_odd_files_and_names_bad_ones(tmp_path, call):
    """Prediction by prediction, then the same files as truth."""
    bad, odd = bad_labels(), odd_labels()
    same = ("other_axes", "floats", "f999", "big_endian", "four_axes", "nifti_2", "qform_other")
    for name, (make, _) in {**bad, **odd}.items():
        save(tmp_path / "truth" / f"{name}.nii.gz", labels())
        (tmp_path / "pred").mkdir(exist_ok=True)
        make(tmp_path / "pred" / f"{name}.nii.gz")
    named = [name for name in bad if name not in ("background", "nifti_2")]
    report = tmp_path / "scores.json"
    for pred, truth in (("pred", "truth"), ("truth", "pred")):
        code, text = call("evaluate", tmp_path / pred, tmp_path / truth, "--json", report)
        assert code == 3
        scores = {row["case"]: row["organs"] for row in json.loads(report.read_text())["cases"]}
        for name in same:
            assert {score["dsc"] for score in scores[name].values()} == {1.0}, name
        for name in named:
            assert f"refused: {name}: " in text, name
        assert "NaN" not in report.read_text() and "Infinity" not in report.read_text()


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_other_numberings_are_converted(tmp_path, call, scheme):
    """In a source, and in truth: by the option, and refused or wrong without it."""
    table = SCHEMES[scheme].values
    values = {FLARE.named(name).id: value for value, name in table.items() if name}
    array = np.zeros_like(labels(), np.int16)
    for organ in set(np.unique(labels())) & set(values):
        array[labels() == organ] = values[organ]
    pair(tmp_path / "ct", "a", label=array)
    report = tmp_path / "report.json"
    code, _ = call("data", "check", tmp_path / "ct", "--labels", scheme, "--json", report)
    assert code == 0
    (found,) = json.loads(report.read_text(encoding="utf-8"))["paths"][0]["cases"]
    wanted = {organ for organ in np.unique(labels()) if organ in values}
    assert set(map(int, found["organs"])) == wanted
    assert found["organs"]["1"]["voxels"] == int((labels() == 1).sum())
    # organs that the numbering cannot express stay unknown, those that it can are annotated
    assert set(found["annotated"]) == set(values)
    save(tmp_path / "pred" / "a.nii.gz", labels())
    scores = tmp_path / "scores.json"
    truth = ("evaluate", tmp_path / "pred", tmp_path / "ct" / "labels", "--json", scores)
    assert call(*truth, "--labels", scheme)[0] == 0
    (row,) = json.loads(scores.read_text())["cases"]
    assert {row["organs"][FLARE[int(organ)].name]["dsc"] for organ in wanted} == {1.0}


@pytest.mark.parametrize(
    "content",
    [
        {"liver": 6, "spleen": 1, "kidney_right": 2, "kidney_left": 3, "Aorta": 8, "stomach": 7},
        {"0": "background", "6": "liver", "1": "spleen", "2": "r kidney", "3": "l_kidney"}
        | {"8": "AORTA", "7": "stomach"},
        {"labels": {"background": 0, "Liver": 6, "spleen": 1, "right kidney": 2}}
        | {"note": "nnU-Net"},
    ],
    ids=["names", "values", "dataset"],
)
def test_a_numbering_of_ones_own(tmp_path, call, content):
    array = np.zeros_like(labels())
    for organ, value in {1: 6, 2: 2, 3: 1}.items():
        array[labels() == organ] = value
    pair(tmp_path / "ct", "a", label=array)
    (tmp_path / "mine.json").write_text(json.dumps(content), encoding="utf-8")
    report = tmp_path / "report.json"
    words = ("--labels", tmp_path / "mine.json", "--json", report)
    assert call("data", "check", tmp_path / "ct", *words)[0] == 0
    (found,) = json.loads(report.read_text(encoding="utf-8"))["paths"][0]["cases"]
    assert {int(k): v["voxels"] for k, v in found["organs"].items()} == {
        organ: int((labels() == organ).sum()) for organ in (1, 2, 3)
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"tumour": 1}', "no name of the numbering is that of an organ"),
        ('{"liver": 1, "Liver ": 2}', "two label values mean the same organ"),
        ('{"liver": [1, 2]}', "regions"),
        ('["liver"]', "not a numbering"),
        ("liver=1", "not a JSON file"),
        (None, "file not found"),
    ],
)
def test_a_numbering_that_makes_no_sense_is_refused(tmp_path, call, content, said):
    pair(tmp_path / "ct", "a")
    path = tmp_path / "mine.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    code, text = call("data", "check", tmp_path / "ct", "--labels", path)
    assert code == 2
    assert said in text and "mine.json" in text


def test_an_unknown_numbering_is_refused(tmp_path, call):
    pair(tmp_path / "ct", "a")
    code, text = call("data", "check", tmp_path / "ct", "--labels", "amoss")
    assert code == 2
    assert "amos, btcv, chaos, totalsegmentator" in text


def test_the_numbering_decides_what_prepare_makes(tmp_path, call, settings):
    """And another numbering is another input: nothing stale is taken."""
    pair(tmp_path / "ct", "a", image=ct(), label=labels())
    save(tmp_path / "mr" / "a.nii.gz", mr())
    (tmp_path / "mine.json").write_text('{"liver": 2, "spleen": 3}')
    (tmp_path / "all.json").write_text(json.dumps({"liver": 1, "spleen": 3, **OTHERS}))
    (tmp_path / "swap.json").write_text(json.dumps({"spleen": 1, "liver": 3, **OTHERS}))
    words = ("--source", tmp_path / "ct", "--target", tmp_path / "mr", "--until", "prepare")
    run = ("adapt", tmp_path / "run", *words, *settings, "--labels")
    code, text = call(*run, tmp_path / "mine.json")
    assert code == 2 and "mine.json does not define; seen: 1, 5, 11, 13" in text
    for name in ("all.json", "swap.json"):
        assert call(*run, tmp_path / name)[0] == 0
    import nibabel

    made = nibabel.load(tmp_path / "run" / "prepare" / "source" / "a" / "label.nii.gz")
    assert (np.asarray(made.dataobj) == 3).sum() > 2 * (np.asarray(made.dataobj) == 1).sum()
    np.testing.assert_allclose(made.affine[:3, :3], grid()[:3, :3])


OTHERS = {"right kidney": 2, "aorta": 5, "stomach": 11, "left kidney": 13}
