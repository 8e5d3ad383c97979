"""The layouts that people have: nested folders, lists, nnU-Net, BIDS, odd names; at each stage."""

from __future__ import annotations

import json
import os
import sys

import nibabel
import numpy as np
import pytest
import SimpleITK
from hard_scene import ct, hashes, labels, line_of, mr, pair, save

from labelferry.io.discover import discover, guess_role
from labelferry.organs import FLARE


def found(folder, role="target"):
    return {
        case.id: (case.patient, case.sequence, case.modality)
        for case in discover(folder, role, FLARE).cohort
    }


# --- nested folders


def test_nested_folders_name_patients_and_sequences(tmp_path):
    for name in ("p01/T1.nii.gz", "p01/scan2/T2.nii.gz", "p02/p02_dwi.nii.gz"):
        save(tmp_path / "mr" / name, mr())
    assert found(tmp_path / "mr") == {
        "p01_T1": ("p01", "T1", "MR"),
        "p01_scan2_T2": ("p01", "T2", "MR"),
        "p02_dwi": ("p02", "DWI", "MR"),
    }
    for name in ("T1/p01.nii.gz", "T2/p01.nii.gz", "T2/p02.nii.gz"):
        save(tmp_path / "by" / name, mr())
    assert found(tmp_path / "by") == {
        "p01_T1": ("p01", "T1", "MR"),
        "p01_T2": ("p01", "T2", "MR"),
        "p02_T2": ("p02", "T2", "MR"),
    }


def test_label_folders_and_other_cohorts_are_not_taken_for_images(tmp_path, call):
    save(tmp_path / "mr" / "p01" / "T1.nii.gz", mr())
    save(tmp_path / "mr" / "p01" / "labels" / "T1.nii.gz", labels())
    save(tmp_path / "mr" / "segmentations" / "x.nii.gz", labels())
    save(tmp_path / "mr" / "other" / "images" / "y.nii.gz", mr())
    assert set(found(tmp_path / "mr")) == {"p01_T1"}
    _, text = call("data", "check", tmp_path / "mr")
    assert "left out: p01/labels, segmentations" in text


def test_images_below_images_are_named(tmp_path, call):
    save(tmp_path / "a_T1.nii.gz", mr())
    save(tmp_path / "site2" / "b_T1.nii.gz", mr())
    assert set(found(tmp_path)) == {"a_T1"}
    code, text = call("data", "check", tmp_path)
    assert code == 0
    assert "warning: 1 image in subfolders, left out: site2/b_T1.nii.gz" in text


def test_a_nested_source_pairs_by_path(tmp_path):
    for name in ("s1/ct.nii.gz", "s2/ct.nii.gz"):
        save(tmp_path / "images" / name, ct())
        save(tmp_path / "labels" / name, labels())
    assert found(tmp_path, "source") == {
        "s1_ct": ("s1", "CT", "CT"),
        "s2_ct": ("s2", "CT", "CT"),
    }


@pytest.mark.skipif(sys.platform == "win32", reason="needs links")
def test_links_that_go_round_end(tmp_path):
    save(tmp_path / "p01" / "T1.nii.gz", mr())
    (tmp_path / "p01" / "back").symlink_to(tmp_path)
    assert set(found(tmp_path)) == {"p01_T1"}


# --- lists


def test_a_text_file_lists_images(tmp_path, call):
    for name in ("p01/T1.nii.gz", "p02/T1.nii.gz", "deep/p03_T2.nii.gz"):
        save(tmp_path / "data" / name, mr())
    path = tmp_path / "mri.txt"
    path.write_text(
        "# ours\ndata/p01/T1.nii.gz\n\ndata/p02/T1.nii.gz\r\ndata/gone.nii.gz\n"
        f"{tmp_path / 'data/deep/p03_T2.nii.gz'}\n",
        encoding="utf-8-sig",
    )
    assert guess_role(path) == "target"
    assert found(path) == {
        "p01_T1": ("p01", "T1", "MR"),
        "p02_T1": ("p02", "T1", "MR"),
        "deep_p03_T2": ("deep", "T2", "MR"),
    }
    code, text = call("data", "check", path)
    assert code == 3
    assert "refused: line 5 of mri.txt: image not found: gone.nii.gz" in text


@pytest.mark.parametrize(
    ("name", "head", "mark"),
    [
        ("list.txt", "", ","),
        ("list.txt", "", "\t"),
        ("list.csv", "", ","),
        ("list.csv", "Image;Mask", ";"),
        ("list.csv", "image,label", ","),
        ("list.tsv", "image\tlabel", "\t"),
    ],
)
def test_lists_of_images_and_labels(tmp_path, call, name, head, mark):
    for case in ("a", "b"):
        pair(tmp_path / "ct", case)
    rows = [head] if head else []
    rows += [f"ct/images/{c}.nii.gz{mark}ct/labels/{c}.nii.gz" for c in ("a", "b")]
    rows.append(f"ct/images/c.nii.gz{mark}ct/labels/c.nii.gz")
    path = tmp_path / name
    path.write_text("\n".join(rows))
    assert guess_role(path) == "source"
    assert set(found(path, "source")) == {"a", "b"}
    code, text = call("data", "check", path)
    assert code == 3
    assert f"line {len(rows)} of {name}: image not found" in text


def test_a_list_may_name_cases_and_sequences(tmp_path):
    for name in ("x1", "x2"):
        save(tmp_path / f"{name}.nii.gz", mr())
    path = tmp_path / "list.csv"
    path.write_text("id,path,subject,sequence\none,x1.nii.gz,p7,t2w\ntwo,x2.nii.gz,p7,cine\n")
    assert found(path) == {"one": ("p7", "T2", "MR"), "two": ("p7", "cine", "MR")}


@pytest.mark.parametrize(
    ("content", "said"),
    [("", "names no image"), ("image,label\n", "names no image"), (",x.nii.gz\n", "line 1")],
)
def test_a_list_of_nothing_is_refused(tmp_path, call, content, said):
    (tmp_path / "list.txt").write_text(content)
    code, text = call("data", "check", tmp_path / "list.txt")
    assert code == 2
    assert said in text and "list.txt" in text


# --- nnU-Net


def raw(folder, values, version=2):
    """A raw data set whose labels are numbered by ``values`` (organ id → label value)."""
    array = np.zeros_like(labels())
    for organ, value in values.items():
        array[labels() == organ] = value
    for name in ("case_001", "case_002"):
        save(folder / "imagesTr" / f"{name}_0000.nii.gz", ct())
        save(folder / "labelsTr" / f"{name}.nii.gz", array)
    save(folder / "imagesTs" / "case_003_0000.nii.gz", ct())
    names = {FLARE[organ].name.replace(" ", "_"): value for organ, value in values.items()}
    dataset = {"channel_names": {"0": "CT"}, "labels": {"background": 0, **names}}
    if version == 1:
        labels_1 = {str(value): name for name, value in {"background": 0, **names}.items()}
        dataset = {"modality": {"0": "CT"}, "labels": labels_1}
    (folder / "dataset.json").write_text(json.dumps(dataset))


@pytest.mark.parametrize("version", [1, 2])
def test_an_nnunet_source_is_renumbered_by_name(tmp_path, call, version):
    raw(tmp_path, {1: 4, 2: 1, 3: 2, 13: 3}, version)
    report = tmp_path / "report.json"
    code, text = call("data", "check", tmp_path, "--json", report)
    assert code == 0, text
    assert "converted by the names in dataset.json: 1 right kidney, 2 spleen" in text
    rows = json.loads(report.read_text(encoding="utf-8"))["paths"][0]["cases"]
    assert [row["case"] for row in rows] == ["case_001", "case_002"]
    for row in rows:
        assert row["annotated"] == [1, 2, 3, 13]
        assert row["organs"]["1"]["voxels"] == int((labels() == 1).sum())


def test_names_that_are_no_organ_of_ours_are_said(tmp_path, call):
    raw(tmp_path, {1: 1, 3: 3})
    dataset = json.loads((tmp_path / "dataset.json").read_text())
    dataset["labels"]["liver_tumour"] = 7
    (tmp_path / "dataset.json").write_text(json.dumps(dataset))
    _, text = call("data", "check", tmp_path)
    assert "no organ of ours, taken as background: 7 liver_tumour" in text


def test_a_dataset_json_that_contradicts_itself_is_refused(tmp_path, call):
    raw(tmp_path, {1: 1, 3: 3})
    (tmp_path / "dataset.json").write_text('{"labels": {"liver": 1, "Liver": 2}}')
    code, text = call("data", "check", tmp_path)
    assert code == 2
    assert "two label values mean the same organ" in text and "dataset.json" in text
    (tmp_path / "mine.json").write_text('{"liver": 1, "spleen": 3}')
    assert call("data", "check", tmp_path, "--labels", tmp_path / "mine.json")[0] == 0


def test_a_raw_set_without_dataset_json_is_numbered_as_flare(tmp_path):
    raw(tmp_path, {1: 1, 3: 3})
    (tmp_path / "dataset.json").unlink()
    (case, _) = discover(tmp_path, "source", FLARE).cohort
    assert case.numbering is None


def test_channels_of_a_target_are_sequences_of_one_patient(tmp_path, call):
    for channel in ("0000", "0001"):
        save(tmp_path / "imagesTr" / f"p1_{channel}.nii.gz", mr())
    (tmp_path / "dataset.json").write_text('{"channel_names": {"0": "T1", "1": "T2w"}}')
    assert found(tmp_path) == {"p1_T1": ("p1", "T1", "MR"), "p1_T2w": ("p1", "T2", "MR")}
    assert call("data", "check", tmp_path)[0] == 0


def test_channels_of_a_source_are_refused(tmp_path, call):
    raw(tmp_path, {1: 1, 3: 3})
    save(tmp_path / "imagesTr" / "case_002_0001.nii.gz", ct())
    code, text = call("data", "check", tmp_path)
    assert code == 3
    assert "refused: case_002: 2 channels for one label" in text


# --- BIDS


def test_bids_names_patient_and_sequence(tmp_path, call):
    for name in (
        "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz",
        "sub-01/ses-1/anat/sub-01_ses-1_ce-gadolinium_T1w.nii.gz",
        "sub-01/ses-2/anat/sub-01_ses-2_acq-inphase_T1w.nii.gz",
        "sub-02/anat/sub-02_T2w.nii.gz",
        "sub-02/anat/sub-02_PDw.nii.gz",
        "derivatives/x/sub-02/anat/sub-02_T2w_dseg.nii.gz",
    ):
        save(tmp_path / name, mr())
    (tmp_path / "dataset_description.json").write_text("{}")
    assert found(tmp_path) == {
        "sub-01_ses-1_T1w": ("sub-01", "T1", "MR"),
        "sub-01_ses-1_ce-gadolinium_T1w": ("sub-01", "T1ce", "MR"),
        "sub-01_ses-2_acq-inphase_T1w": ("sub-01", "in-phase", "MR"),
        "sub-02_T2w": ("sub-02", "T2", "MR"),
        "sub-02_PDw": ("sub-02", "PDw", "MR"),
    }
    assert call("data", "check", tmp_path)[0] == 0


def test_a_bids_source_has_its_labels_in_derivatives(tmp_path, call):
    for sub in ("01", "02"):
        save(tmp_path / f"sub-{sub}/ct/sub-{sub}_ct.nii.gz", ct())
        name = f"derivatives/organs/sub-{sub}/ct/sub-{sub}_desc-organs_dseg.nii.gz"
        save(tmp_path / name, labels())
    save(tmp_path / "sub-03/ct/sub-03_ct.nii.gz", ct())
    assert set(found(tmp_path, "source")) == {"sub-01_ct", "sub-02_ct"}
    code, text = call("data", "check", tmp_path, "--role", "source")
    assert code == 3
    assert "sub-03_ct.nii.gz has no label map" in text


# --- every layout, at every stage


def test_predict_takes_every_layout(tmp_path, call, model):
    save(tmp_path / "nested" / "p01" / "T1.nii.gz", mr())
    save(tmp_path / "bids" / "sub-01" / "anat" / "sub-01_T1w.nii.gz", mr())
    save(tmp_path / "raw" / "imagesTs" / "c3_0000.nii.gz", mr())
    save(tmp_path / "raw" / "imagesTr" / "c1_0000.nii.gz", mr())
    (tmp_path / "list.txt").write_text("nested/p01/T1.nii.gz\ngone.nii.gz\n")
    for given, names, code in (
        ("nested", ["p01_T1"], 0),
        ("bids", ["sub-01_T1w"], 0),
        ("raw", ["c3"], 0),
        ("list.txt", ["T1"], 3),
    ):
        out = tmp_path / "out" / given
        found_code, text = call("predict", tmp_path / given, out, "--model", model)
        assert found_code == code, text
        assert sorted(p.name for p in out.glob("*.nii.gz")) == [f"{n}.nii.gz" for n in names]
    assert "gone.nii.gz" in line_of(text, "list.txt")


def test_prepare_takes_lists_and_raw_sets(tmp_path, call, settings):
    raw(tmp_path / "raw", {1: 4, 2: 1, 3: 2, 13: 3})
    for name in ("p01/T1.nii.gz", "p02/T2.nii.gz"):
        save(tmp_path / "mr" / name, mr())
    (tmp_path / "mri.txt").write_text("mr/p01/T1.nii.gz\nmr/p02/T2.nii.gz\n")
    before = hashes(tmp_path)
    words = ("--source", tmp_path / "raw", "--target", tmp_path / "mri.txt", "--until", "prepare")
    code, text = call("adapt", tmp_path / "run", *words, *settings)
    assert code == 0, text
    assert {k: v for k, v in hashes(tmp_path).items() if not k.startswith("run/")} == before
    rows = json.loads((tmp_path / "run/prepare/cases.json").read_text())["cases"]
    assert {row["id"]: row["annotated"] for row in rows} == {
        "case_001": [1, 2, 3, 13],
        "case_002": [1, 2, 3, 13],
        "T1": [],
        "T2": [],
    }
    made = nibabel.load(tmp_path / "run/prepare/source/case_001/label.nii.gz")
    assert set(np.unique(np.asarray(made.dataobj))) == {0, 1, 2, 3, 13}


# --- names and kinds of files


def odd_names(folder) -> list[str]:
    names = ["1.3.6.1.4.0175", "1.3.6.1.4.0176", "1.v2.nii", "with blank", "pätient_T1", "-dash"]
    names += ["[red]x[bold]", "100%s"] + ([] if sys.platform == "win32" else ['a"b', "x" * 245])
    for name in names:
        save(folder / f"{name}.nii.gz", mr())
    return names


def test_odd_names_are_kept_whole(tmp_path, call, model):
    names = odd_names(tmp_path / "in")
    assert call("data", "check", tmp_path / "in")[0] == 0
    code, text = call("predict", tmp_path / "in", tmp_path / "out", "--model", model)
    assert code == 0, text
    made = {p.name for p in (tmp_path / "out").iterdir() if p.suffix != ".csv"}
    assert made == {f"{name}.nii.gz" for name in names}
    assert call("evaluate", tmp_path / "out", tmp_path / "out")[0] in (0, 2)


@pytest.mark.skipif(sys.platform != "linux", reason="needs such names, pipes and links")
def test_files_that_are_none_are_named(tmp_path, call, model):
    images = tmp_path / "images"
    save(images / "good.nii.gz", mr())
    content = (images / "good.nii.gz").read_bytes()
    for name in (b"bad\xff.nii.gz", b"new\nline.nii.gz"):
        with open(os.fsencode(images) + b"/" + name, "wb") as stream:  # noqa: PTH123
            stream.write(content)
    (images / "folder.nii.gz").mkdir()
    (images / "link.nii.gz").symlink_to("gone.nii.gz")
    (images / "round.nii.gz").symlink_to("round.nii.gz")
    os.mkfifo(images / "pipe.nii.gz")
    for words in (("data", "check", images), ("predict", images, tmp_path / "out")):
        more = ("--model", model) if words[0] == "predict" else ()
        code, text = call(*words, *more)
        assert code == 3
        for name in ("folder.nii.gz", "link.nii.gz", "round.nii.gz", "pipe.nii.gz"):
            assert line_of(text, name), (words, name)
        assert "cannot name a file" in text
    assert (tmp_path / "out" / "good.nii.gz").exists()


def test_two_files_of_a_case_stop_no_other(tmp_path, call, model, settings):
    for name in ("dup.nii", "dup.nii.gz", "DUP.nii.gz", "good.nii.gz"):
        save(tmp_path / "mr" / name, mr())
    pair(tmp_path / "ct", "a")
    code, text = call("predict", tmp_path / "mr", tmp_path / "out", "--model", model)
    assert code == 3
    assert "dup.nii and dup.nii.gz" in text
    assert {"DUP.nii.gz", "good.nii.gz"} < {p.name for p in (tmp_path / "out").iterdir()}
    assert not (tmp_path / "out" / "dup.nii.gz").exists()
    words = ("--source", tmp_path / "ct", "--target", tmp_path / "mr", "--until", "prepare")
    code, text = call("adapt", tmp_path / "run", *words, *settings)
    assert code == 3
    assert "dup.nii and dup.nii.gz" in text


def test_other_formats_and_endings(tmp_path, call, model):
    save(tmp_path / "in" / "UPPER.NII.GZ", mr())
    save(tmp_path / "in" / "Mixed.Nii", mr())
    for name in ("c.nrrd", "d.mha"):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(mr().T), str(tmp_path / "in" / name))
    for name in ("e.hdr", "e.img"):
        (tmp_path / "in" / name).write_bytes(b"x")
    for name in ("._UPPER.nii.gz", ".DS_Store", "Thumbs.db", "old.nii.gz~"):
        (tmp_path / "in" / name).write_bytes(b"x")
    code, text = call("predict", tmp_path / "in", tmp_path / "out", "--model", model)
    assert code == 0
    assert "left out: e.hdr" in text
    wanted = {"UPPER.nii.gz", "Mixed.nii.gz", "c.nii.gz", "d.nii.gz"}
    assert {p.name for p in (tmp_path / "out").iterdir() if p.suffix != ".csv"} == wanted


def test_the_run_never_lies_in_the_input(tmp_path, call, settings):
    pair(tmp_path / "ct", "a")
    save(tmp_path / "mr" / "a.nii.gz", mr())
    for place in (tmp_path / "ct" / "run", tmp_path / "mr" / "images"):
        words = ("--source", tmp_path / "ct", "--target", tmp_path / "mr")
        code, text = call("adapt", place, *words, *settings)
        assert code == 2
        assert "the output lies in the input" in text and not place.exists()


@pytest.mark.parametrize("missing", ["source", "target"])
def test_an_empty_folder_is_named_before_anything_is_done(tmp_path, call, settings, missing):
    pair(tmp_path / "ct", "a")
    save(tmp_path / "mr" / "images" / "a.nii.gz", mr())
    folder = tmp_path / ("ct" if missing == "source" else "mr") / "images"
    for path in folder.iterdir():
        path.unlink()
    (folder / "readme.txt").write_text("to be copied")
    words = ("--source", tmp_path / "ct", "--target", tmp_path / "mr")
    code, text = call("adapt", tmp_path / "run", *words, *settings)
    assert code == 2
    assert f"{folder.parent.name}/images" in text and "no image" in text
    assert not (tmp_path / "run").exists()


def test_a_full_disk_is_told_and_the_rerun_completes(tmp_path, call, settings, good, monkeypatch):
    import errno

    import labelferry.io.nifti as nifti

    words = ("--source", good / "ct", "--target", good / "mr", "--until", "prepare")
    run = tmp_path / "run"
    save_one, left = nifti._save, [5]

    def full(path, image) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        save_one(path, image)

    with monkeypatch.context() as patch:
        patch.setattr(nifti, "_save", full)
        code, text = call("adapt", run, *words, *settings)
    assert code == 2
    assert "the disk is full" in text
    assert not list(run.rglob(".part-*"))
    assert call("adapt", run, *words, *settings)[0] == 0
