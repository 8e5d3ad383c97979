"""Every fault of an image, in CT and in MRI, at every stage: named, and never in the way."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
from hard_scene import (
    bad_images,
    ct,
    grid,
    hashes,
    labels,
    line_of,
    mr,
    odd_images,
    patched,
    save,
)

ARRAYS = {"ct": ct, "mr": mr}


def write(folder, modality, table) -> None:
    """One file for each fault, and two good ones; CT with the labels of the same grid."""
    array = ARRAYS[modality]()
    images = folder / modality / "images"
    images.mkdir(parents=True)
    for name, (make, _) in table.items():
        make(images / f"{name}.nii.gz")
        (images / "x.nii").unlink(missing_ok=True)
    for name in ("good_a", "good_b"):
        save(images / f"{name}.nii.gz", array)
    if modality == "ct":
        for path in sorted(images.iterdir()):
            like(path, folder / "ct" / "labels" / path.name)


def like(image, path) -> None:
    """The organs on the grid of an image, where it has one."""
    marked, affine, codes = labels(), grid(), (1, 1)
    try:
        given = nibabel.load(image)
        codes = int(given.header["sform_code"]), int(given.header["qform_code"])
        if np.isfinite(given.affine).all() and given.affine.any(axis=0).all():
            affine = given.affine
    except (nibabel.filebasedimages.ImageFileError, EOFError, OSError):
        pass
    if image.name.startswith("small"):
        marked = marked[10:22, 8:18, 4:9]
    elif image.name.startswith(("one_slice", "two_axes")):
        marked = marked[:, :, 7:8]
    elif image.name.startswith("left_handed"):
        marked = marked[::-1]
    save(path, marked, affine, codes=codes)


@pytest.mark.parametrize("modality", ["ct", "mr"])
def test_check_names_every_image_that_cannot_be_used(tmp_path, call, modality):
    table = bad_images(ARRAYS[modality]())
    write(tmp_path, modality, table)
    before = hashes(tmp_path)
    code, text = call("data", "check", tmp_path / modality)
    assert code == 3
    for name, (_, word) in table.items():
        line = line_of(text, f"{name}.nii.gz")
        assert line.startswith("refused:"), (name, line)
        assert word in line.lower(), (name, line)
    assert f"{len(table)} refused" in text
    assert "2 usable cases" in text
    assert max(map(len, text.splitlines())) < 2000
    assert hashes(tmp_path) == before


@pytest.mark.parametrize("modality", ["ct", "mr"])
def test_check_takes_every_odd_image_and_says_what_is_odd(tmp_path, call, modality):
    table = odd_images(ARRAYS[modality]())
    write(tmp_path, modality, table)
    report = tmp_path / "report.json"
    code, text = call("data", "check", tmp_path / modality, "--json", report)
    assert code == 0, text
    for name, (_, word) in table.items():
        line = line_of(text, f"{name}.nii.gz")
        assert (word in line.lower() and line.startswith("warning:")) if word else not line, name
    (found,) = json.loads(report.read_text(encoding="utf-8"))["paths"]
    assert len(found["cases"]) == len(table) + 2
    if modality == "ct":
        check_organs(found["cases"])


def check_organs(cases) -> None:
    """Whatever the header and the order of voxels, the organs keep their numbers and places."""
    by_id = {row["case"]: row for row in cases}
    wanted = by_id["good_a"]["organs"]
    same = ("left_handed", "qform_only", "sform_only", "qform_other", "four_axes", "six_axes")
    for name in (*same, "big_endian", "nifti_2", "slope_0", "slope_nan", "doubles", "64_bits"):
        assert by_id[name]["organs"] == wanted, name
    for name in ("oblique", "rounded"):
        there = by_id[name]["organs"]
        turned = np.array(by_id[name]["affine_ras_mm"])[:3, :3] / 10
        for organ, facts in wanted.items():
            assert there[organ]["voxels"] == facts["voxels"]
            place = turned @ facts["centroid_ras_mm"]
            np.testing.assert_allclose(there[organ]["centroid_ras_mm"], place, atol=0.5)


def test_predict_labels_what_can_be_labelled(tmp_path, call, model):
    bad, odd = bad_images(mr()), odd_images(mr())
    write(tmp_path, "mr", {**bad, **odd})
    images, out = tmp_path / "mr" / "images", tmp_path / "out"
    before = hashes(tmp_path)
    code, text = call("predict", tmp_path / "mr", out, "--model", model)
    assert code == 3
    assert hashes(tmp_path / "mr") == {
        name.removeprefix("mr/"): value for name, value in before.items()
    }
    failed = "\n".join(line for line in text.splitlines() if line.startswith("failed:"))
    for name, (_, word) in bad.items():
        line = line_of(failed, f"{name}.nii.gz")
        assert word in line.lower() and line, name
        assert not (out / f"{name}.nii.gz").exists()
    for name, (_, word) in odd.items():
        made, given = (nibabel.load(folder / f"{name}.nii.gz") for folder in (out, images))
        assert made.shape == given.shape[:3], name
        np.testing.assert_allclose(made.affine, given.affine, atol=1e-3)
        for code_name in ("sform_code", "qform_code"):
            assert int(made.header[code_name]) == int(given.header[code_name]), name
        if int(made.header["qform_code"]) and name != "sheared":
            np.testing.assert_allclose(made.get_qform(), given.affine, atol=0.1)
        assert np.asanyarray(made.dataobj).dtype == np.uint8
        if word:
            assert word in line_of(text, f"{name}.nii.gz").lower(), name
    assert {"good_a.nii.gz", "good_b.nii.gz"} < {path.name for path in out.iterdir()}


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0, 255), (-1, 1), (-3, 5)], ids=["unit", "byte", "sign", "z-score"]
)
def test_ct_that_cannot_be_hounsfield_is_said_aloud(tmp_path, call, model, low, high):
    array = (np.clip(ct().astype(np.float32), -160, 240) + 160) / 400 * (high - low) + low
    data = tmp_path / "ct"
    for name in ("scaled", "good"):
        save(data / "images" / f"{name}.nii.gz", array if name == "scaled" else ct())
        save(data / "labels" / f"{name}.nii.gz", labels())
    _, text = call("data", "check", data)
    line = line_of(text, "scaled.nii.gz")
    assert "Hounsfield" in line and f"[{low:g}," in line
    assert not line_of(text, "good.nii.gz")
    if high == 1:  # whatever is given to a model for MRI
        code, text = call("predict", data, tmp_path / "out", "--model", model)
        assert code == 0
        assert "Hounsfield" in line_of(text, "scaled.nii.gz")
        assert "is this MRI a CT?" in line_of(text, "good.nii.gz")


def test_unsigned_ct_with_an_intercept_is_in_hounsfield_units(tmp_path, call):
    stored = (ct().astype(np.int32) + 1024).clip(0).astype(np.uint16)
    for name, inter in (("with", -1024.0), ("without", 0.0)):
        path = save(tmp_path / "images" / f"{name}.nii.gz", stored)
        patched(path, scl_slope=("<f", 1.0), scl_inter=("<f", inter))
        save(tmp_path / "labels" / path.name, labels())
    report = tmp_path / "report.json"
    _, text = call("data", "check", tmp_path, "--json", report)
    assert "Hounsfield" in line_of(text, "without.nii.gz")
    assert not line_of(text, "with.nii.gz")
    (found,) = json.loads(report.read_text(encoding="utf-8"))["paths"]
    aorta = {row["case"]: row["organs"]["5"]["mean_intensity"] for row in found["cases"]}
    assert aorta["with"] == pytest.approx(150, abs=5)
