from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch

from labelferry.anatomy.prepare import prepare
from labelferry.errors import UserError
from labelferry.io.nifti import write_volume
from labelferry.predict.config import PredictConfig
from labelferry.predict.predictor import Model, choose_device, find_bundle, load_model
from labelferry.segment.bundle import Bundle, pack_bundle, write_bundle
from labelferry.segment.network import build_network
from labelferry.volume import Grid, Segmentation, Volume, canonical

Make = Callable[..., Model]


def stored_as(volume: Volume, axes: str) -> Volume:
    """The same world in another voxel order, such as ``LPS`` or ``SAR``."""
    start = nibabel.orientations.io_orientation(volume.grid.affine)
    end = nibabel.orientations.axcodes2ornt(axes)
    change = nibabel.orientations.ornt_transform(start, end)
    array = nibabel.orientations.apply_orientation(volume.array, change)
    affine = volume.grid.affine @ nibabel.orientations.inv_ornt_aff(change, volume.grid.shape)
    return Volume(array, Grid(array.shape, affine))


def rotated(volume: Volume, degrees: float) -> Volume:
    """The same voxels, tilted in the world."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = np.array([[c, 0, s, 0], [0, 1, 0, 0], [-s, 0, c, 0], [0, 0, 0, 1]])
    return Volume(volume.array, Grid(volume.grid.shape, turn @ volume.grid.affine))


@pytest.fixture
def labels(fake_model: Make, scan: Volume) -> Segmentation:
    return fake_model().predict(scan)


def test_labels_lie_on_the_image(labels: Segmentation, scan: Volume) -> None:
    assert labels.grid.matches(scan.grid)
    assert labels.array.dtype == np.uint8
    organ = scan.array > 250  # body 150, organ 350
    found = labels.array == 2
    assert 2 * (organ & found).sum() / (organ.sum() + found.sum()) > 0.8


@pytest.mark.parametrize("axes", ["LPS", "RAI", "SAR", "PIR", "ASL"])
def test_the_stored_orientation_does_not_matter(
    axes: str, fake_model: Make, scan: Volume, labels: Segmentation
) -> None:
    image = stored_as(scan, axes)
    assert image.grid.axes == axes
    found = fake_model().predict(image)
    assert found.grid.matches(image.grid)
    np.testing.assert_array_equal(canonical(found).array, labels.array)


def test_an_oblique_image_keeps_its_grid(
    fake_model: Make, scan: Volume, labels: Segmentation
) -> None:
    image = rotated(scan, 12)
    found = fake_model().predict(image)
    assert found.grid.matches(image.grid)
    np.testing.assert_array_equal(found.array, labels.array)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SAR"])
def test_every_kind_of_image_gives_the_same(
    axes: str, fake_model: Make, scan: Volume, labels: Segmentation, tmp_path: Path
) -> None:
    image = rotated(stored_as(scan, axes), 5)
    path = tmp_path / "scan.nii.gz"
    write_volume(path, image)
    model = fake_model()
    expected = model.predict(image)
    for given in (path, str(path), nibabel.load(path), SimpleITK.ReadImage(str(path))):
        found = model.predict(given)
        assert found.grid.matches(image.grid, 1e-2), type(given)
        np.testing.assert_array_equal(found.array, expected.array)
    np.testing.assert_array_equal(canonical(expected).array, labels.array)


def test_other_things_are_refused(fake_model: Make) -> None:
    model = fake_model()
    with pytest.raises(UserError, match="not an image"):
        model.predict(np.zeros((4, 4, 4)))
    with pytest.raises(UserError, match="3-D"):
        model.predict(nibabel.Nifti1Image(np.zeros((4, 4, 4, 2), np.float32), np.eye(4)))
    with pytest.raises(UserError, match="3-D"):
        model.predict(SimpleITK.Image([4, 4], SimpleITK.sitkFloat32))
    with pytest.raises(UserError, match=r"patient 7.*no contrast"):
        flat = Volume(np.ones((8, 8, 8), np.float32), Grid((8, 8, 8), np.eye(4)))
        model.predict(flat, case="patient 7")


@pytest.mark.parametrize("export", ["fast", "exact", "paper"])
@pytest.mark.parametrize("network", [{}, {"dimensions": 2, "patch": (16, 16)}])
def test_ways_of_export_agree(
    export: str, network: dict[str, object], fake_model: Make, scan: Volume, labels: Segmentation
) -> None:
    config = PredictConfig.model_validate({"export": export, "amp": "fp32"})
    found = fake_model(config, **network).predict(scan)
    assert (found.array == labels.array).mean() > 0.96


def test_the_working_grid(fake_model: Make, scan: Volume) -> None:
    model = fake_model()
    prepared = prepare(scan, "MR", model.bundle.anatomy)
    working = model.working_labels(prepared)
    assert working.grid.matches(prepared.image.grid, 1e-9)
    logits = model.logits(prepared)
    assert tuple(logits.shape) == (3, *prepared.image.grid.shape[::-1])
    probabilities = model.working_probabilities(prepared)
    assert probabilities.shape == (3, *prepared.image.grid.shape)
    assert probabilities.dtype == np.float16
    np.testing.assert_allclose(probabilities.astype(float).sum(0), 1, atol=2e-3)
    np.testing.assert_array_equal(logits.argmax(0).numpy().transpose(2, 1, 0), working.array)


def test_outside_the_picture_is_background(fake_model: Make, scan: Volume) -> None:
    model = fake_model()
    prepared = prepare(scan, "MR", model.bundle.anatomy)
    part = prepared.image.array.copy()
    part[:4] = 0
    part[:, :, -1] = 0
    cut = type(prepared)(
        prepared.image.with_array(part),
        prepared.anatomy,
        prepared.body,
        prepared.canonical,
        prepared.box,
    )
    logits = model.logits(cut)
    assert (logits[0, :, :, :4] == 10).all()
    assert (logits[0, -1] == 10).all()
    empty = type(prepared)(
        prepared.image.with_array(part * 0),
        prepared.anatomy,
        prepared.body,
        prepared.canonical,
        prepared.box,
    )
    assert not model.working_labels(empty).array.any()


def test_a_bundle_is_found_and_loaded(
    make_bundle: Callable[..., Bundle], scan: Volume, tmp_path: Path
) -> None:
    bundle = make_bundle()
    network = build_network(
        bundle.network, 1, 3, spacing=bundle.anatomy.spacing[::-1], deep_supervision=True, seed=3
    )
    run = tmp_path / "run"
    (run / "prepare").mkdir(parents=True)
    with pytest.raises(UserError, match=r"no model yet.*adapt"):
        load_model(run)
    for stage in ("teach", "distil"):
        write_bundle(run / stage / "model", bundle, network.state_dict())
        assert find_bundle(run) == run / stage / "model"
    pack_bundle(run / "distil/model", tmp_path / "student.zip")
    config = PredictConfig(amp="fp32")
    expected = load_model(run, device="cpu", config=config).predict(scan)
    assert expected.array.any()
    for place in (run / "distil", run / "distil/model", str(tmp_path / "student.zip")):
        found = load_model(place, device="cpu", config=config).predict(scan)
        np.testing.assert_array_equal(found.array, expected.array)


def test_a_bundle_remembers_how_its_run_applied_it(
    make_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    bundle = make_bundle()
    network = build_network(bundle.network, 1, 3, spacing=bundle.anatomy.spacing[::-1])
    used = PredictConfig(export="paper", largest_component=True, step=0.75)
    write_bundle(
        tmp_path, replace(bundle, inference=used.model_dump(mode="json")), network.state_dict()
    )
    assert load_model(tmp_path, device="cpu").config == used
    changed = load_model(tmp_path, device="cpu", export="fast").config
    assert changed == used.model_copy(update={"export": "fast"})
    write_bundle(tmp_path, replace(bundle, inference={"step": 7}), network.state_dict())
    with pytest.raises(UserError, match=r"way of inference.*step"):
        load_model(tmp_path)


def test_where_there_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such model"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no model in this folder"):
        load_model(tmp_path)
    (tmp_path / "fold_0").mkdir()
    with pytest.raises(UserError, match="nnU-Net"):
        load_model(tmp_path)


def test_devices() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda")
    with pytest.raises(UserError, match="unknown device"):
        choose_device("toaster")
    with pytest.raises(UserError, match="no such CUDA device"):
        choose_device("cuda:99")


def test_the_room_loads_no_torch() -> None:
    code = (
        "import sys, labelferry.predict, labelferry.predict.config, labelferry.cli.predict;"
        "assert 'torch' not in sys.modules and 'scipy' not in sys.modules;"
        "assert labelferry.predict.load_model.__name__ == 'load_model'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
