"""Pictures that are reversed against their header, on the phantom and on arrays of any kind."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from nibabel import orientations

from labelferry.cases import Modality
from labelferry.io.nifti import read_image, read_labels, write_volume
from labelferry.io.notes import Note
from labelferry.organs import FLARE, OrganSet
from labelferry.predict.budget import Budget, Footprint
from labelferry.predict.config import PredictConfig
from labelferry.predict.entropy import Prediction
from labelferry.predict.facing import flipped, label
from labelferry.predict.files import predict_files
from labelferry.prior.learn import learn_prior
from labelferry.prior.model import Prior
from labelferry.prior.reflection import EVERY_FLIP
from labelferry.volume import Grid, Segmentation, Volume, canonical, reorient

UNLIMITED = Budget(
    PredictConfig(), Footprint(14, 1, 4, (8, 8, 8), (5.0, 5.0, 5.0), torch.device("cpu")), 0
)
TURNED = [flips for flips in EVERY_FLIP if any(flips)]
RIGHT, LEFT = 2, 13


@dataclass
class Reader:
    """Reads labels off the voxels, but knows a kidney's side from the picture alone, as a network
    does that never saw a mirrored one; upside down or face down it knows the liver alone."""

    prior: Prior | None
    organs: OrganSet = FLARE
    modality: Modality = "MR"
    budget: Budget = UNLIMITED
    asked: int = 0

    def predict(self, image: Any, *, case: str | None = None) -> Segmentation:
        return self.prediction(image, case=case).labels

    def prediction(self, image: Any, *, case: str | None = None) -> Prediction:
        self.asked += 1
        seen = canonical(image)
        labels = np.rint(seen.array).astype(np.uint8)
        middle = np.argwhere(labels > 0)[:, 0].mean()
        kidneys = np.isin(labels, (RIGHT, LEFT))
        on_the_right = (np.arange(labels.shape[0]) > middle)[:, None, None]
        labels[kidneys & on_the_right] = RIGHT
        labels[kidneys & ~on_the_right] = LEFT
        lowest = np.argwhere(labels == RIGHT)[:, 2].mean()
        if lowest > np.argwhere(labels == 1)[:, 2].mean():
            labels[labels > 1] = 0
        found = reorient(Segmentation(labels, seen.grid), image.grid)
        entropy: Mapping[int, float] = {}
        return Prediction(found, entropy)


@pytest.fixture(scope="module")
def patients(cohort: Path) -> list[Segmentation]:
    return [read_labels(p, FLARE) for p in sorted((cohort / "source/labels").glob("*.nii.gz"))]


@pytest.fixture(scope="module")
def prior(patients: list[Segmentation]) -> Prior:
    return learn_prior([(labels, FLARE.ids) for labels in patients], FLARE)


def picture(labels: Segmentation) -> Volume:
    return Volume(labels.array.astype(np.float32), labels.grid)


@pytest.mark.parametrize("flips", TURNED)
def test_the_phantom_the_other_way_round(
    flips: tuple[bool, bool, bool], prior: Prior, patients: list[Segmentation]
) -> None:
    truth = flipped(patients[0], flips)
    before = picture(truth)
    labels, quality = label(Reader(prior), before, "a")
    assert not any(quality.fixed), "nothing is turned unasked"
    np.testing.assert_array_equal(labels.array, Reader(prior).predict(before).array)
    labels, quality = label(Reader(prior), before, "a", fix=True)
    assert quality.fixed == flips
    np.testing.assert_array_equal(labels.array, truth.array)
    assert labels.grid is before.grid or labels.grid.matches(before.grid)
    assert {row.verdict for row in quality.organs} <= {"look", "doubt"}


def test_a_picture_that_lies_right_is_labelled_once(
    prior: Prior, patients: list[Segmentation]
) -> None:
    for truth in patients:
        model = Reader(prior)
        labels, quality = label(model, picture(truth), "a", fix=True)
        assert (model.asked, any(quality.fixed), quality.turned) == (1, False, ())
        np.testing.assert_array_equal(labels.array, truth.array)


def test_without_a_prior_the_order_of_organs_decides(patients: list[Segmentation]) -> None:
    upright = patients[0]
    bare = Segmentation(
        np.where(np.isin(upright.array, (RIGHT, LEFT)), 0, upright.array), upright.grid
    )

    class Plain(Reader):
        def prediction(self, image: Any, *, case: str | None = None) -> Prediction:
            return Prediction(Segmentation(np.rint(image.array).astype(np.uint8), image.grid), {})

    mirrored = flipped(bare, (True, False, False))
    labels, quality = label(Plain(None), picture(mirrored), "a", fix=True)
    assert quality.fixed == (True, False, False)
    np.testing.assert_array_equal(labels.array, mirrored.array)


def test_nonsense_is_left_as_it_is(prior: Prior) -> None:
    array = np.zeros((30, 30, 20), np.uint8)
    array[4:9, 4:9, 4:9] = 1
    noise = Segmentation(array, Grid(array.shape, np.diag([9.6, 9.6, 15.0, 1.0])))

    class Stuck(Reader):
        def prediction(self, image: Any, *, case: str | None = None) -> Prediction:
            self.asked += 1
            return Prediction(noise, {})

    model = Stuck(prior)
    labels, quality = label(model, picture(noise), "a", fix=True)
    assert model.asked == 8, "each of the seven reversals was tried"
    assert not any(quality.fixed)
    assert labels is noise


def test_files_and_tables(prior: Prior, patients: list[Segmentation], tmp_path: Path) -> None:
    truth = reorient(patients[0], Grid(patients[0].grid.shape, patients[0].grid.affine))
    mirrored = flipped(truth, (True, False, False))
    write_volume(tmp_path / "in" / "good.nii.gz", picture(truth))
    write_volume(tmp_path / "in" / "odd.nii.gz", picture(mirrored))
    paths = sorted((tmp_path / "in").glob("*"))
    before = [path.read_bytes() for path in paths]
    said: dict[str, list[Note]] = {"plain": [], "fixed": []}
    for name, notes in said.items():
        failures = predict_files(
            Reader(prior), paths, tmp_path / name, fix_orientation=name == "fixed",
            told=notes.append,
        )  # fmt: skip
        assert failures == []
    assert [path.read_bytes() for path in paths] == before
    for name, notes in said.items():
        lines = [note.line() for note in notes if note.severity == "warning"]
        assert [line for line in lines if "good" in line] == []
        (line,) = [line for line in lines if "odd" in line]
        assert ("labelled as if" in line) == (name == "fixed")
        assert "left and right are swapped" in line
        with (tmp_path / name / "quality.csv").open(encoding="utf-8") as stream:
            rows = [row for row in csv.DictReader(stream) if row["case"] == "odd"]
        if name == "plain":
            assert {row["verdict"] for row in rows} == {"doubt"}
            assert all("left and right are swapped" in row["why"] for row in rows)
        else:
            assert {row["verdict"] for row in rows} <= {"look", "doubt"}
            assert all("labelled as if left and right are swapped" in r["why"] for r in rows)
    same = [(tmp_path / name / "good.nii.gz").read_bytes() for name in said]
    assert same[0] == same[1]
    found = nibabel.load(tmp_path / "fixed" / "odd.nii.gz")
    np.testing.assert_array_equal(np.asarray(found.dataobj), mirrored.array)
    np.testing.assert_array_equal(found.affine, nibabel.load(paths[1]).affine)
    as_it_was = read_image(tmp_path / "plain" / "odd.nii.gz").volume.array
    assert (as_it_was != mirrored.array).any(), "the kidneys' sides were those of the picture"


def oblique(seed: int, axes: str, shape: tuple[int, int, int]) -> Grid:
    """A grid of any stored orientation, tilted by less than what changes its nearest axes."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(np.eye(3) + rng.normal(0, 0.08, (3, 3)))[0]
    turn *= np.sign(np.diag(turn))
    base = np.eye(4)
    base[:3, :3] = turn @ np.diag(rng.uniform(0.5, 4, 3))
    base[:3, 3] = rng.normal(0, 100, 3)
    order = orientations.axcodes2ornt(axes)
    stored = [int(n) for n in np.array(shape)]
    inverse = orientations.inv_ornt_aff(
        orientations.ornt_transform(orientations.axcodes2ornt("RAS"), order), stored
    )
    return Grid(tuple(int(stored[int(axis)]) for axis in order[:, 0]), base @ inverse)


@settings(deadline=None)
@given(
    st.integers(0, 2**16),
    st.sampled_from(["RAS", "LPS", "SAR", "PIR", "ASL", "LIP", "IPR"]),
    st.sampled_from(EVERY_FLIP),
    st.tuples(*[st.integers(1, 5)] * 3),
    st.data(),
)
def test_there_and_back(
    seed: int,
    axes: str,
    flips: tuple[bool, bool, bool],
    shape: tuple[int, int, int],
    data: Any,
) -> None:
    grid = oblique(seed, axes, shape)
    array = data.draw(arrays.arrays(np.uint8, grid.shape, elements=st.integers(0, 9)))
    image = Segmentation(array, grid)
    turned = flipped(image, flips)
    assert turned.grid is grid
    np.testing.assert_array_equal(flipped(turned, flips).array, array)
    # along the axes of the body, whatever the file's are
    expected = np.flip(canonical(image).array, [axis for axis in range(3) if flips[axis]])
    np.testing.assert_array_equal(canonical(turned).array, expected)


@settings(deadline=None)
@given(st.sampled_from(EVERY_FLIP), st.sampled_from(["RAS", "LPS", "SAR"]), st.integers(0, 99))
def test_labels_come_back_onto_their_voxels(
    flips: tuple[bool, bool, bool], axes: str, seed: int
) -> None:
    """Whatever a model says of a voxel, it is written onto that voxel."""
    grid = oblique(seed, axes, (4, 5, 3))
    image = Volume(np.random.default_rng(seed).integers(0, 14, grid.shape).astype(np.float32), grid)
    seen = flipped(image, flips)
    by_voxel = Segmentation(seen.array.astype(np.uint8), seen.grid)
    np.testing.assert_array_equal(flipped(by_voxel, flips).array, image.array.astype(np.uint8))
