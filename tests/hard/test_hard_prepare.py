"""What ``adapt`` makes of every fault: the odd is taken as it is meant, the bad is named."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
from hard_scene import (
    bad_images,
    bad_labels,
    ct,
    labels,
    line_of,
    mr,
    odd_images,
    odd_labels,
    pair,
    save,
)
from test_hard_images import write

OTHER_GRID = ("sheared", "metres", "one_slice", "two_axes", "small", "oblique", "rounded")
"""Odd images whose working grid is not the one of the good ones."""


@pytest.fixture
def prepare(tmp_path, call, settings):
    def run(source, target):
        words = ("--source", source, "--target", target, "--until", "prepare")
        code, text = call("adapt", tmp_path / "run", *words, *settings)
        path = tmp_path / "run" / "prepare" / "cases.json"
        rows = json.loads(path.read_text(encoding="utf-8"))["cases"]
        return code, text, {(row["role"], row["id"]) for row in rows}

    return run


def counts(path) -> dict[int, int]:
    values, numbers = np.unique(np.asarray(nibabel.load(path).dataobj), return_counts=True)
    found = dict(zip(values.astype(int).tolist(), numbers.tolist(), strict=True))
    return {organ: number for organ, number in found.items() if organ}


@pytest.mark.parametrize("modality", ["ct", "mr"])
def test_images(tmp_path, prepare, good, modality):
    array = ct() if modality == "ct" else mr()
    bad, odd = bad_images(array), odd_images(array)
    write(tmp_path, modality, {**bad, **odd})
    paths = {"ct": good / "ct", "mr": good / "mr", modality: tmp_path / modality}
    code, text, usable = prepare(paths["ct"], paths["mr"])
    assert code == 3
    role = "source" if modality == "ct" else "target"
    assert {name for r, name in usable if r == role} == {*odd, "good_a", "good_b"}
    for name, (_, word) in bad.items():
        line = line_of(text, f"{name}.nii.gz")
        assert word in line.lower(), (name, line)
    for name, (_, word) in odd.items():
        if word:
            assert word in line_of(text, f"{name}.nii.gz").lower(), name
    if modality == "ct":
        folder = tmp_path / "run" / "prepare" / "source"
        wanted = counts(folder / "good_a" / "label.nii.gz")
        for name in odd:
            if name not in OTHER_GRID:
                assert counts(folder / name / "label.nii.gz") == wanted, name


def test_labels(tmp_path, prepare, good):
    bad, odd = bad_labels(), odd_labels()
    source = tmp_path / "ct"
    pair(source, "good_a")
    for name, (make, _) in {**bad, **odd}.items():
        save(source / "images" / f"{name}.nii.gz", ct())
        make(source / "labels" / f"{name}.nii.gz")
    code, text, usable = prepare(source, good / "mr")
    assert code == 3
    assert {name for role, name in usable if role == "source"} == {*odd, "good_a"}
    for name, (_, word) in bad.items():
        assert word in line_of(text, f"{name}.nii.gz").lower(), name
    folder = tmp_path / "run" / "prepare" / "source"
    wanted = counts(folder / "good_a" / "label.nii.gz")
    for name in ("other_axes", "floats", "f999", "big_endian", "four_axes", "nifti_2"):
        assert counts(folder / name / "label.nii.gz") == wanted, name
        made, given = (nibabel.load(folder / n / "label.nii.gz") for n in (name, "good_a"))
        np.testing.assert_array_equal(np.asarray(made.dataobj), np.asarray(given.dataobj))


def test_names(tmp_path, prepare):
    for name in ("UPPER.NII.GZ", "Mixed.Nii", "plain.nii"):
        save(tmp_path / "ct" / "images" / name, ct())
        save(tmp_path / "ct" / "labels" / name, labels())
        save(tmp_path / "mr" / "images" / name, mr())
    for folder in ("ct/images", "ct/labels", "mr/images"):
        for name in ("._UPPER.NII.GZ", ".DS_Store", "Thumbs.db", "old.nii.gz~", "._good_a.nii.gz"):
            (tmp_path / folder / name).write_bytes(b"x")
        (tmp_path / folder / "__MACOSX").mkdir()
        (tmp_path / folder / "__MACOSX" / "._x.nii.gz").write_bytes(b"x")
    code, _, usable = prepare(tmp_path / "ct", tmp_path / "mr")
    assert code == 0
    names = {"UPPER", "Mixed", "plain"}
    assert usable == {(role, name) for role in ("source", "target") for name in names}
