"""DICOM, NRRD and MHA given directly to ``predict``, ``adapt`` and ``data check``."""

from __future__ import annotations

import csv
import json
import os
import pickle
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from hard_dicom import IDENTITY, base, enhanced, put_pixels, read, series, slices, uid, write
from hard_scene import ct, grid, hashes, labels, line_of, mr, pair, save, turn
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless
from test_hard_dicom import ORIENTATIONS, everything

from labelferry.errors import UserError
from labelferry.io.discover import discover
from labelferry.organs import FLARE

PLANTED = (
    *IDENTITY.values(),
    *("Winterbottom", "winterbottom", "Ottilie", "PID-", "SECRET"),
    *(uid("one"), uid("two"), uid("study")),
)
"""What only a key, a DICOM SEG and the screen may hold."""


def study(folder: Path) -> Path:
    """Two series of one patient and one of another, under names that tell all."""
    first = folder / "Winterbottom_Ottilie" / "20190817"

    def about(echo, who=None):
        def edit(data, k):
            data.EchoTime, data.RepetitionTime, data.FrameOfReferenceUID = echo, "3000", uid("for")
            data.SeriesDescription = "SECRET protocol"
            if who:
                data.PatientID = data.PatientName = who

        return edit

    series(first / "S1", mr(seed=1), edit=about("90"))
    series(first / "S2", mr(seed=2), series="two", edit=about("91"))
    series(folder / "PID-2", mr(seed=3), series="three", edit=about("92", "Second^Winterbottom"))
    return folder


def assert_nameless(folder: Path, *more: str) -> None:
    whole = everything(folder)
    for word in (*PLANTED, *more):
        assert word.encode() not in whole, word


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


# --- what may be given


@pytest.mark.parametrize("given", ["file", "series", "study", "cd"])
def test_a_file_stands_for_its_series_and_a_folder_for_all(tmp_path, call, model, given):
    top = study(tmp_path / "in")
    if given == "cd":
        (top / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + bytes(64))
        (top / "viewer.exe").write_bytes(b"MZ")
    one = top / "Winterbottom_Ottilie" / "20190817" / "S1"
    path = {"file": sorted(one.iterdir())[5], "series": one}.get(given, top)
    number = {"file": 1, "series": 1}.get(given, 3)
    before = hashes(top)
    code, text = call("data", "check", path)
    assert code == 0, text
    assert f"(target): {number} usable case" in text
    code, text = call("predict", path, tmp_path / "out", "--model", model)
    assert code == 0, text
    made = sorted((tmp_path / "out").glob("*.nii.gz"))
    assert len(made) == number
    for file in made:
        assert file.name.startswith("p00") and nibabel.load(file).shape == (32, 24, 14)
        assert f"info: {file.name.removesuffix('.nii.gz')}: MR, T2 (guessed from: echo" in text
    assert "14 slices, in S1" in text
    assert hashes(top) == before


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_labels_lie_on_the_grid_of_the_series(tmp_path, call, model, name):
    affine = ORIENTATIONS[name]
    series(tmp_path / "in", mr(), affine)
    out = tmp_path / "labels.nii.gz"
    code, text = call("predict", tmp_path / "in", out, "--model", model)
    assert code == 0, text
    found = nibabel.as_closest_canonical(nibabel.load(out))
    wanted = nibabel.as_closest_canonical(nibabel.Nifti1Image(mr(), affine))
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found.affine, wanted.affine, atol=1e-3)
    header = nibabel.load(out).header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)


def test_frames_of_one_file_are_read_in_place(tmp_path, call):
    array = mr() // 2 * 2
    order = np.random.default_rng(1).permutation(array.shape[2])
    path = enhanced(tmp_path / "IM_0001", array, grid(), order)
    report = tmp_path / "report.json"
    code, text = call("data", "check", path, "--json", report)
    assert code == 0, text
    (case,) = json.loads(report.read_text(encoding="utf-8"))["paths"][0]["cases"]
    assert case["case"] == "p001_unknown" and case["intensities"] == [array.min(), array.max()]


def test_voxels_are_those_of_the_import(tmp_path, call):
    from labelferry.io.images import read_case, read_image

    study(tmp_path / "in")
    assert call("data", "import", tmp_path / "in", tmp_path / "out")[0] == 0
    for case in discover(tmp_path / "in", "target", FLARE).cohort:
        direct = read_case(case).volume
        imported = read_image(tmp_path / "out" / "images" / f"{case.id}.nii.gz").volume
        np.testing.assert_array_equal(direct.array, imported.array)
        np.testing.assert_allclose(direct.grid.affine, imported.grid.affine, atol=1e-4)


def test_a_loaded_model_takes_a_series(tmp_path):
    from labelferry.predict.inputs import as_volume

    top = study(tmp_path / "in")
    one = top / "PID-2"
    whole = as_volume(one)
    np.testing.assert_array_equal(whole.array.sum(), mr(seed=3).sum())
    np.testing.assert_array_equal(as_volume(str(sorted(one.iterdir())[2])).array, whole.array)
    with pytest.raises(UserError, match="several DICOM series"):
        as_volume(top)
    bad_series(tmp_path / "bad", "gap")
    with pytest.raises(UserError, match="slices are missing"):
        as_volume(tmp_path / "bad")


def test_import_takes_the_series_of_a_file(tmp_path, call):
    top = study(tmp_path / "in")
    file = sorted((top / "PID-2").iterdir())[2]
    code, text = call("data", "import", file, tmp_path / "out")
    assert code == 0, text
    (path,) = (tmp_path / "out" / "images").iterdir()
    assert nibabel.load(path).shape == (32, 24, 14)


def test_a_source_needs_labels(tmp_path, call, good, settings):
    series(tmp_path / "ct", ct(), modality="CT")
    words = ("adapt", tmp_path / "run", "--source", tmp_path / "ct", "--target", good / "mr")
    code, text = call(*words, *settings)
    assert code == 2
    assert "a DICOM series has no label map" in text and "labelferry data import" in text


# --- who the patient is


def test_no_output_of_a_run_tells_who_the_patient_is(tmp_path, call, good, settings):
    """The whole chain, then predict and data check on its input: only the key holds a name."""
    top = study(tmp_path / "in")
    bad = top / "Winterbottom_bad"
    for k, data in enumerate(slices(mr(), series="SECRET")):
        if k not in (5, 6):
            write(bad / f"Winterbottom_{k}.dcm", data)
    cut = series(top / "Winterbottom_cut", mr(), series="cut")
    damaged = sorted(cut.iterdir())[3]
    damaged.write_bytes(damaged.read_bytes()[:-200])
    damaged.rename(cut / "Winterbottom_cut.dcm")
    out, key = tmp_path / "out", tmp_path / "key.csv"
    words = ("adapt", out / "run", "--source", good / "ct", "--target", top, "--key", key)
    code, text = call(*words, *settings)
    assert code == 3, text
    assert "Winterbottom_bad: slices are missing" in text
    assert "Winterbottom_cut.dcm" in text  # the screen names what can be mended
    assert (out / "run" / "report" / "report.html").exists()
    code, text = call("predict", top, out / "labels", "--model", out / "run")
    assert code == 3, text
    assert "Winterbottom_cut.dcm" in text and "Winterbottom_bad" in text
    rows = table(out / "labels" / "failures.csv")
    assert {row["reason"].split(";")[0] for row in rows} == {
        "slices are missing",
        "the pixels of the DICOM file are truncated or damaged",
    }
    assert call("data", "check", top, "--json", out / "check.json")[0] == 3
    assert_nameless(out, str(tmp_path), "Winterbottom_bad")
    rows = table(key)
    assert {row["original_patient"] for row in rows} == {"PID-774411", "Second^Winterbottom"}
    assert len({row["patient"] for row in rows}) == 2


@pytest.mark.parametrize("verb", ["predict", "adapt"])
def test_a_key_is_kept_apart(tmp_path, call, model, good, settings, verb):
    series(tmp_path / "in", mr())
    out = tmp_path / "out"
    words = {
        "predict": ("predict", tmp_path / "in", out, "--model", model),
        "adapt": ("adapt", out, "--source", good / "ct", "--target", tmp_path / "in", *settings),
    }[verb]
    code, text = call(*words, "--key", out / "key.csv")
    assert code == 2 and "the key would lie beside" in text and not out.exists()
    if verb == "predict":
        assert call(*words, "--key", tmp_path / "key.csv")[0] == 0
        assert table(tmp_path / "key.csv")[0]["original_patient"] == "PID-774411"


def test_the_ct_of_a_study_is_no_target(tmp_path, call, good, settings):
    series(tmp_path / "in" / "mr", mr())
    series(tmp_path / "in" / "ct", ct(), modality="CT", series="two")
    words = ("adapt", tmp_path / "run", "--source", good / "ct", "--target", tmp_path / "in")
    code, text = call(*words, "--until", "prepare", *settings)
    assert code == 0
    assert "warning: 1 CT among the DICOM series of the target, left out: p001_CT" in text
    path = tmp_path / "run" / "prepare" / "cases.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["cases"]
    assert [row["id"] for row in rows if row["role"] == "target"] == ["p001_unknown"]


def test_a_run_goes_on_with_the_same_names(tmp_path, call, good, settings):
    top = study(tmp_path / "in")
    run = tmp_path / "run"
    words = ("adapt", run, "--source", good / "ct", "--target", top, "--until", "prepare")
    assert call(*words, *settings)[0] == 0
    rows = json.loads((run / "prepare" / "cases.json").read_text(encoding="utf-8"))["cases"]
    found = [(row["id"], row["patient"]) for row in rows if row["role"] == "target"]
    assert len({patient for _, patient in found}) == 2 and len(found) == 3
    code, text = call(*words, *settings)
    assert code == 0 and "unchanged" in text
    # another picture is another input
    path = sorted((top / "PID-2").iterdir())[0]
    data = read(path)
    put_pixels(data, data.pixel_array + 1)
    write(path, data)
    code, text = call(*words, *settings)
    assert code == 0 and "unchanged" not in text


# --- mistakes


def bad_series(folder: Path, how: str) -> tuple[str, str]:
    """DICOM that makes no volume; a word of the cause, and the name that must stand beside it."""
    if how == "localiser":
        kind = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        series(folder, mr()[:, :, :3], edit=lambda d, k: setattr(d, "ImageType", kind))
        return "Localizer", sorted(folder.iterdir())[0].name
    if how == "one slice":
        write(folder / "IM7", next(slices(mr())))
        return "1 slice makes no volume", "IM7"
    if how == "capture":
        capture = base("capture", "OT", "c", 1)
        put_pixels(capture, np.zeros((30, 30)))
        write(folder / "IM8", capture)
        return "Secondary Capture", "IM8"
    if how == "gap":
        for k, data in enumerate(slices(mr())):
            if k not in (5, 6):
                write(folder / f"IM{k}", data)
        return "slices are missing", "IM4"
    if how == "mixed":
        for k, data in enumerate(slices(mr())):
            write(folder / f"IM{k}", data)
            if k == 3:
                put_pixels(data, data.pixel_array + 5)
                data.SOPInstanceUID = uid("other")
                write(folder / "IM99", data)
        return "different slices lie at one place", "IM99"
    assert how == "no decoder"
    for k, data in enumerate(slices(mr())):
        data.PixelData = encapsulate([b"no JPEG at all"])
        data["PixelData"].VR = "OB"
        write(folder / f"IM{k}", data, JPEG2000Lossless)
    return JPEG2000Lossless, "IM"


@pytest.mark.parametrize("how", ["localiser", "one slice", "capture", "gap", "mixed", "no decoder"])
@pytest.mark.parametrize("verb", ["check", "predict", "adapt"])
def test_what_is_no_volume_is_named(tmp_path, call, model, good, settings, verb, how):
    folder = tmp_path / "bad_series"
    word, name = bad_series(folder, how)
    words = {
        "check": ("data", "check", folder),
        "predict": ("predict", folder, tmp_path / "out", "--model", model),
        "adapt": ("adapt", tmp_path / "run", "--source", good / "ct", "--target", folder),
    }[verb]
    code, text = call(*words, *(settings if verb == "adapt" else ()))
    assert code == 2, text
    marks = ("refused:", "warning:", "error:")
    lines = [line for line in text.splitlines() if line.startswith(marks)]
    assert any(word in line and name in line for line in lines), text


def test_an_empty_file_leaves_a_gap_that_is_named(tmp_path, call):
    folder = series(tmp_path / "bad_series", mr())
    path = sorted(folder.iterdir())[4]
    path.write_bytes(b"")
    _, text = call("data", "check", folder)
    assert "empty" in line_of(text, path.name)


def test_what_is_odd_in_a_series_is_said_with_its_folder(tmp_path, call):
    series(tmp_path / "in" / "flat", np.full_like(mr(), 7))
    series(tmp_path / "in" / "hounsfield", ct(), series="two")
    report = tmp_path / "report.json"
    code, text = call("data", "check", tmp_path / "in", "--json", report)
    assert code == 3
    assert "constant image" in text and f"({tmp_path / 'in' / 'flat'})" in text
    assert "is this MRI a CT?" in text and f"({tmp_path / 'in' / 'hounsfield'})" in text
    assert "hounsfield" not in report.read_text(encoding="utf-8")


def test_a_case_of_dicom_goes_to_other_processes(tmp_path):
    from labelferry.io.images import read_case

    series(tmp_path / "in", mr())
    (case,) = discover(tmp_path / "in", "target", FLARE).cohort
    sent = pickle.loads(pickle.dumps(case))
    np.testing.assert_array_equal(read_case(sent).volume.array, read_case(case).volume.array)
    assert len(sent.files) == 14


def test_one_bad_series_stops_no_other(tmp_path, call, model):
    top = study(tmp_path / "in")
    bad_series(top / "bad", "gap")
    code, text = call("predict", top, tmp_path / "out", "--model", model)
    assert code == 3, text
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 3
    assert "(3 of 4 images)" in text


@pytest.mark.skipif(sys.platform == "win32", reason="needs pipes and links")
def test_what_is_no_file_is_not_waited_for(tmp_path, call):
    folder = series(tmp_path / "in", mr())
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to(tmp_path / "gone")
    (folder / "round").symlink_to(folder)
    code, text = call("data", "check", folder)
    assert code == 0 and "1 usable case" in text
    assert "link, pipe" in line_of(text, "pipe")


def test_dicom_beside_other_images_is_named(tmp_path, call):
    save(tmp_path / "in" / "a_T1.nii.gz", mr())
    series(tmp_path / "in" / "study", mr())
    for k, data in enumerate(slices(mr())):
        write(tmp_path / "in" / f"IM{k}", data)
    code, text = call("data", "check", tmp_path / "in")
    assert code == 0
    assert "warning: 14 DICOM files beside other images, left out: IM0" in text


# --- NRRD and MetaImage


def itk(path: Path, array: np.ndarray, affine: np.ndarray) -> Path:
    lps = np.diag([-1.0, -1.0, 1.0])
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image = SimpleITK.GetImageFromArray(array.T)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin((lps @ affine[:3, 3]).tolist())
    image.SetDirection((lps @ affine[:3, :3] / spacing).ravel().tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("ending", ["nrrd", "NHDR", "mha", "mhd"])
def test_nrrd_and_metaimage_are_images(tmp_path, call, model, ending):
    affine = grid(turn=turn(2, 20))
    path = itk(tmp_path / "in" / f"p1.x_T2.{ending.lower()}", mr(), affine)
    if ending.isupper():
        path = path.rename(path.with_suffix(f".{ending}"))
    for given in (path, path.parent):
        code, text = call("data", "check", given)
        assert code == 0 and "p1.x_T2" in text and "1 T2" in text, text
    code, text = call("predict", path.parent, tmp_path / "out", "--model", model)
    assert code == 0, text
    found = nibabel.load(tmp_path / "out" / "p1.x_T2.nii.gz")
    assert found.shape == mr().shape
    np.testing.assert_allclose(found.affine, affine, atol=1e-4)


def test_a_source_may_be_nrrd_with_its_labels(tmp_path, call, good, settings):
    for name in ("a", "b"):
        itk(tmp_path / "ct" / "images" / f"{name}.nrrd", ct(), grid())
        itk(tmp_path / "ct" / "labels" / f"{name}.nrrd", labels(), grid())
    report = tmp_path / "check.json"
    assert call("data", "check", tmp_path / "ct", "--json", report)[0] == 0
    rows = json.loads(report.read_text(encoding="utf-8"))["paths"][0]["cases"]
    assert rows[0]["organs"]["1"]["voxels"] == int((labels() == 1).sum())
    words = ("adapt", tmp_path / "run", "--source", tmp_path / "ct", "--target", good / "mr")
    code, text = call(*words, "--until", "prepare", *settings)
    assert code == 0, text


def test_bad_nrrd_is_named(tmp_path, call, model):
    folder = tmp_path / "in"
    path = itk(folder / "cut_T2.mha", mr(), grid())
    path.write_bytes(path.read_bytes()[:900])
    (folder / "none_T2.nrrd").write_bytes(b"")
    itk(folder / "fine_T2.nrrd", mr(), grid())
    save(folder / "twice.nii.gz", mr())
    itk(folder / "twice.nrrd", mr(), grid())
    code, text = call("predict", folder, tmp_path / "out", "--model", model)
    assert code == 3
    assert "truncated" in line_of(text, "cut_T2.mha")
    assert "empty" in line_of(text, "none_T2.nrrd")
    assert "two image files" in line_of(text, "twice.nii.gz and twice.nrrd")
    assert [p.name for p in sorted((tmp_path / "out").glob("*.nii.gz"))] == ["fine_T2.nii.gz"]


def test_labels_of_nrrd_that_are_no_labels_are_named(tmp_path, call):
    pair(tmp_path / "ct", "a")
    for name, array in (("b", labels().astype(np.float32) + 0.5), ("c", ct())):
        save(tmp_path / "ct" / "images" / f"{name}.nii.gz", ct())
        itk(tmp_path / "ct" / "labels" / f"{name}.nrrd", array, grid())
    nan = labels().astype(np.float32)
    nan[0, 0, 0] = np.nan
    save(tmp_path / "ct" / "images" / "d.nii.gz", ct())
    itk(tmp_path / "ct" / "labels" / "d.nrrd", nan, grid())
    code, text = call("data", "check", tmp_path / "ct")
    assert code == 3
    for name, word in (("b", "not integers"), ("c", "unexpected"), ("d", "not finite")):
        assert word in line_of(text, f"{name}.nrrd")
