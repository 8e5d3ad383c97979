"""Models to give away: one file, and a folder that an unmodified nnU-Net opens."""

import subprocess
import sys

import nibabel
import numpy as np
import pytest

from labelferry.anatomy.prepare import Prepared, prepare
from labelferry.errors import UserError
from labelferry.io.nifti import read_image
from labelferry.predict import export_model, load_model
from labelferry.predict.config import PredictConfig
from labelferry.predict.sums import window_weight
from labelferry.predict.window import windows
from labelferry.segment.bundle import write_bundle
from labelferry.segment.network import build_network
from labelferry.volume import Box, Grid, Volume

SHAPE = (26, 22, 14)


@pytest.fixture
def model(make_bundle, tmp_path):
    """A bundle folder with a network of random weights; keywords change the network."""

    def make(space="plain", **network):
        bundle = make_bundle(**network)
        bundle = type(bundle)(**{**vars(bundle), "space": space})
        built = build_network(
            bundle.network,
            bundle.network.channels_in(1),
            bundle.classes,
            spacing=bundle.anatomy.spacing[::-1],
            seed=2,
        )
        folder = tmp_path / "bundle"
        write_bundle(folder, bundle, built.state_dict())
        return folder

    return make


def prepared_image(bundle, tmp_path):
    """An image on the working grid, as nnU-Net would have to be given it: smooth, in [0, 1]."""
    rng = np.random.default_rng(5)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    array = np.where(x**2 + y**2 + 0.3 * z**2 < 0.9, 0.3 + 0.2 * np.sin(4 * x + 2 * z), 0.0)
    array += rng.uniform(0, 0.1, SHAPE) * (array > 0)
    grid = Grid(SHAPE, np.diag([*bundle.anatomy.spacing, 1.0]))
    image = prepare(Volume(array.astype(np.float32), grid), "MR", bundle.anatomy).image
    folder = tmp_path / "images"
    folder.mkdir()
    nibabel.save(nibabel.Nifti1Image(image.array, image.grid.affine), folder / "case_0000.nii.gz")
    return folder


def test_one_file_gives_the_same_model(model, tmp_path):
    folder = model()
    path = export_model(folder, tmp_path / "student.zip")
    assert path == tmp_path / "student.zip"
    volume = read_image(prepared_image(load_model(folder).bundle, tmp_path) / "case_0000.nii.gz")
    labels = load_model(folder).predict(volume.volume)
    assert np.array_equal(load_model(path).predict(volume.volume).array, labels.array)


@pytest.mark.parametrize(
    "network",
    [
        pytest.param({"patch": (8, 16, 16), "dimensions": 3}, id="3d"),
        pytest.param({"patch": (16, 16), "dimensions": 2}, id="2d", marks=pytest.mark.slow),
    ],
)
def test_nnunet_labels_as_we_do(model, tmp_path, network):
    """nnU-Net's own command, in its own process, on what our network sees."""
    loaded = load_model(model(**network), config=PredictConfig(amp="fp32"))
    folder = export_model(tmp_path / "bundle", tmp_path / "results", "nnunet")
    images = prepared_image(loaded.bundle, tmp_path)
    code = (
        "from nnunetv2.inference.predict_from_raw_data import predict_entry_point_modelfolder as m;"
        "m()"
    )
    arguments = ["-i", images, "-o", tmp_path / "out", "-m", folder, "-f", "0"]
    options = ["--disable_tta", "-device", "cpu", "-npp", "1", "-nps", "1"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments), *options],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    theirs = nibabel.load(tmp_path / "out" / "case.nii.gz")
    image = read_image(images / "case_0000.nii.gz").volume
    box = Box((0, 0, 0), image.grid.shape)
    scores = loaded.logits(Prepared(image, image, image, image.grid, box))
    ours = scores.argmax(0).numpy().transpose(2, 1, 0)
    assert len(np.unique(ours)) == 3
    certain = weight_of(image.grid.shape[::-1], loaded.bundle.patch).transpose(2, 1, 0) > 1e-3
    assert certain.mean() > 0.5
    assert np.mean((np.asarray(theirs.dataobj) == ours)[certain]) > 0.9999
    assert np.allclose(theirs.affine, image.grid.affine, atol=1e-4)


def weight_of(shape, patch):
    """The largest weight that a window gives each voxel (z, y, x).

    nnU-Net sums in half precision: where all weights are small, in the corners, it keeps a few bits
    of the scores, and random weights decide by fewer.
    """
    weight = window_weight(patch, gaussian=True).numpy().reshape((1, *patch)[-3:])
    largest = np.zeros(shape, np.float32)
    for window in windows(shape, patch, 0.5):
        largest[window] = np.maximum(largest[window], weight)
    return largest


def test_an_older_export_is_replaced(model, tmp_path):
    model()
    folder = export_model(tmp_path / "bundle", tmp_path / "results", "nnunet")
    (folder / "stale").write_text("")
    assert export_model(tmp_path / "bundle", tmp_path / "results", "nnunet") == folder
    assert sorted(p.name for p in folder.iterdir()) == ["dataset.json", "fold_0", "plans.json"]


def test_refuses_what_nnunet_cannot_feed(model, tmp_path):
    model(patch=(16, 16), dimensions=2, context=1)
    with pytest.raises(UserError, match="neighbours"):
        export_model(tmp_path / "bundle", tmp_path / "results", "nnunet")
    model(space="anatomy")
    with pytest.raises(UserError, match="anatomy space"):
        export_model(tmp_path / "bundle", tmp_path / "results", "nnunet")
    assert not (tmp_path / "results").exists()


def test_refuses_places_that_cannot_be(model, tmp_path):
    folder = model()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="not a folder"):
        export_model(folder, tmp_path / "file", "nnunet")
    with pytest.raises(UserError, match="one zip file"):
        export_model(folder, tmp_path / "out")
    packed = export_model(folder, tmp_path / "a.zip")
    with pytest.raises(UserError, match="one file already"):
        export_model(packed, tmp_path / "b.zip")
    with pytest.raises(UserError, match="no such model"):
        export_model(tmp_path / "nowhere", tmp_path / "b.zip")
