"""The whole chain on what is odd but can be used: every loss is finite, no contrast is lost."""

from __future__ import annotations

import json
import math

import nibabel
import numpy as np
import pytest
from hard_scene import ct, grid, labels, mr, odd_images, pair, save

TINY = (12, 10, 7)
THICK = (32, 24, 5)


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd")
    pair(folder / "ct", "whole")
    pair(folder / "ct", "no_kidney", label=labels(without=(2, 5)))
    for name, shape, spacing in (("tiny", TINY, (20, 20, 20)), ("thick", THICK, (10, 10, 28))):
        affine = grid(shape, spacing)
        image, label = ct(shape, affine), labels(shape, affine)
        pair(folder / "ct", name, image, label, affine)
        save(folder / "mr" / "images" / f"{name}_T1.nii.gz", mr(shape, affine), affine)
    makers = odd_images(mr())
    for name in ("nan", "infinite", "minus_infinite", "spike", "negative_spike", "one_slice"):
        makers[name][0](folder / "mr" / "images" / f"{name}_T1.nii.gz")
    for name, factor in (("whole", 1.0), ("si_units", 1e-12), ("huge_units", 1e12)):
        array = mr().astype(np.float64) * factor
        save(folder / "mr" / "images" / f"{name}_T2.nii.gz", array)
    two_values = (mr() > 0).astype(np.uint8)
    save(folder / "mr" / "images" / "binary_T2.nii.gz", two_values)
    return folder


@pytest.fixture(scope="module")
def run(odd, settings, tmp_path_factory):
    from labelferry.cli import run as labelferry

    folder = tmp_path_factory.mktemp("run") / "run"
    words = ("adapt", folder, "--source", odd / "ct", "--target", odd / "mr", "--until", "refine")
    assert labelferry([str(word) for word in (*words, *settings)]) == 0
    return folder


def test_every_loss_is_finite(run):
    paths = sorted(run.rglob("losses.jsonl"))
    rows = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    values = [value for row in rows for value in row.values() if isinstance(value, float)]
    assert len(paths) >= 3 and values
    assert all(math.isfinite(value) for value in values)


def test_every_prepared_volume_is_finite(run):
    for path in sorted((run / "prepare").rglob("*.nii.gz")):
        array = np.asarray(nibabel.load(path).dataobj)
        assert np.isfinite(array).all(), path
        assert min(array.shape) > 0


def test_no_contrast_is_lost_by_odd_values_or_units(run):
    def contrast(name):
        image = nibabel.load(run / "prepare" / "target" / name / "image.nii.gz")
        index = np.rint(
            np.linalg.inv(image.affine) @ [[60, 55], [10, -45], [20, -25], [1, 1]]
        ).astype(int)
        array = np.asarray(image.dataobj)
        return abs(float(array[tuple(index[:3, 0])] - array[tuple(index[:3, 1])]))

    wanted = contrast("whole_T2")
    assert wanted > 0.05
    for name in ("si_units_T2", "huge_units_T2", "nan_T1", "infinite_T1", "spike_T1"):
        assert contrast(name) > 0.5 * wanted, name
    assert contrast("minus_infinite_T1") > 0.5 * wanted
    assert contrast("negative_spike_T1") > 0.5 * wanted


def test_labels_of_thick_slices_keep_their_organs(run, odd):
    given = nibabel.load(odd / "ct" / "labels" / "thick.nii.gz")
    made = nibabel.load(run / "prepare" / "source" / "thick" / "label.nii.gz")
    volumes = []
    for image in (given, made):
        voxel = abs(np.linalg.det(image.affine[:3, :3]))
        values, counts = np.unique(np.asarray(image.dataobj), return_counts=True)
        volumes.append(dict(zip(values.tolist(), counts * voxel, strict=True)))
    assert set(volumes[1]) <= set(volumes[0])
    for organ, volume in volumes[0].items():
        assert organ == 0 or volumes[1][organ] > 0.5 * volume


def test_one_labelled_case_is_enough(tmp_path, call, settings, good):
    pair(tmp_path / "ct", "alone")
    words = ("--source", tmp_path / "ct", "--target", good / "mr", "--until", "teach")
    code, text = call("adapt", tmp_path / "run", *words, *settings)
    assert code == 0, text
    assert (tmp_path / "run" / "teach" / "model" / "weights.safetensors").exists()
