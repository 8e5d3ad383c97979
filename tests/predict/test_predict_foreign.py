"""Model folders of nnU-Net: the labels are nnU-Net's own, and nothing in them can run."""

import csv
import pickle

import nibabel
import numpy as np
import pytest
import torch

from labelferry.cli import run as command
from labelferry.errors import UserError
from labelferry.io.nifti import write_volume
from labelferry.organs import FLARE
from labelferry.predict.config import PredictConfig
from labelferry.predict.foreign import ForeignModel, load_foreign, load_labeller
from labelferry.predict.predictor import load_model
from labelferry.segment.config import NetworkConfig
from labelferry.segment.foreign import hash_foreign, read_foreign
from labelferry.segment.network import build_network
from labelferry.volume import Grid, Volume, reorient
from nnunet_folder import write_folder

SPACING = (4.0, 3.0, 3.0)
LABELS = {"background": 0, "kidney_left": 1, "tumour": 2, "Liver": 3}


class Trap:
    """What would run on unpickling."""

    def __reduce__(self):
        return (print, ("this must never be printed",))


@pytest.fixture
def foreign(tmp_path):
    """A folder of nnU-Net; keywords change it."""
    return lambda **more: write_folder(tmp_path / "nnunet", LABELS, SPACING, **more)


def theirs(folder, path, out):
    """nnU-Net's own predictor from its own files, folds averaged, without mirroring."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        use_mirroring=False, device=torch.device("cpu"), perform_everything_on_device=False,
        allow_tqdm=False,
    )  # fmt: skip
    predictor.initialize_from_trained_model_folder(str(folder), None)
    image, properties = predictor.plans_manager.image_reader_writer_class().read_images([str(path)])
    found = predictor.predict_single_npy_array(image, properties)
    writer = predictor.plans_manager.image_reader_writer_class()
    writer.write_seg(found, str(out), properties)
    return np.asarray(nibabel.load(out).dataobj)


@pytest.mark.parametrize("reader", ["SimpleITKIO", "NibabelIO", "NibabelIOWithReorient"])
def test_labels_are_nnunets_own(foreign, scan, tmp_path, reader):
    lps = np.diag([-3.0, -3.0, 4.0, 1.0])
    turned = reorient(scan, Grid(scan.array.shape, lps))  # axes other than RAS
    path = tmp_path / "case_0000.nii.gz"
    write_volume(path, turned)
    folder = foreign(reader=reader)
    labels = load_labeller(folder).predict(path)
    expected = theirs(folder, path, tmp_path / "theirs.nii.gz")
    assert len(np.unique(expected)) >= 3, "random weights that say something"
    assert np.mean(labels.array == expected) >= 0.999
    assert labels.grid.matches(turned.grid)


CONFIGURATION = "configurations.3d_fullres"


@pytest.mark.parametrize(
    "plans",
    [
        {"transpose_forward": [2, 0, 1], "transpose_backward": [1, 2, 0]},
        {
            f"{CONFIGURATION}.normalization_schemes": ["CTNormalization"],
            "foreground_intensity_properties_per_channel": {
                "0": {"mean": 150.0, "std": 80.0, "percentile_00_5": 20.0, "percentile_99_5": 300.0}
            },
        },
        {f"{CONFIGURATION}.use_mask_for_norm": [True]},
        {f"{CONFIGURATION}.normalization_schemes": ["RescaleTo01Normalization"]},
        # z apart, by nearest neighbours
        {f"{CONFIGURATION}.spacing": [4.0, 1.2, 1.2]},
        {
            f"{CONFIGURATION}.resampling_fn_probabilities_kwargs": {
                "is_seg": False, "order": 3, "order_z": 1, "force_separate_z": True
            }
        },
    ],
)  # fmt: skip
def test_labels_are_nnunets_own_whatever_the_plans_say(foreign, scan, tmp_path, plans):
    image = np.where(scan.array > 20, scan.array, 0)  # something to crop
    path = tmp_path / "case_0000.nii.gz"
    write_volume(path, Volume(image, scan.grid))
    folder = foreign(folds=1, plans=plans)
    labels = load_foreign(folder, config=PredictConfig(engine="torch")).predict(path)
    expected = theirs(folder, path, tmp_path / "theirs.nii.gz")
    assert len(np.unique(expected)) >= 3, "random weights that say something"
    assert np.mean(labels.array == expected) >= 0.9999


def test_the_command_line_takes_such_a_folder(foreign, scan, tmp_path):
    write_volume(tmp_path / "in" / "a.nii.gz", scan)
    out, folder = tmp_path / "out", foreign(folds=1)
    told = ["predict", str(tmp_path / "in"), str(out), "--model", str(folder), "--device", "cpu"]
    assert command(told) == 0
    labels = np.asarray(nibabel.load(out / "a.nii.gz").dataobj)
    assert np.array_equal(labels, load_foreign(folder).predict(scan).array)
    with (out / "quality.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["organ"] for row in rows] == ["kidney_left", "tumour", "Liver"]
    assert {row["z"] for row in rows} == {""}, "nnU-Net keeps no prior"
    found = {row["organ"] for row in rows if row["entropy"]}
    assert found and found >= {row["organ"] for row in rows if float(row["volume_ml"])}


def test_a_limit_of_memory_holds_for_it(foreign, scan, tmp_path):
    write_volume(tmp_path / "in" / "a.nii.gz", scan)
    out, folder = tmp_path / "out", foreign(folds=1)
    told = ["predict", str(tmp_path / "in"), str(out), "--model", str(folder), "--device", "cpu"]
    assert command([*told, "--max-ram", "0.01"]) == 2
    assert "more memory than --max-ram allows" in (out / "failures.csv").read_text()
    assert not list(out.glob("*.nii.gz"))
    assert command([*told, "--max-ram", "64"]) == 0
    assert command([*told, "--max-ram", "-1"]) == 2


def test_the_structures_are_those_of_its_dataset(foreign):
    model = load_foreign(foreign())
    assert isinstance(model, ForeignModel) and model.modality == "MR"
    assert model.organs.names == ("kidney_left", "tumour", "Liver")
    scheme = model.numbering(FLARE)
    assert scheme.values == {1: "left kidney", 2: None, 3: "liver"}


def test_a_change_of_the_weights_changes_the_hash(foreign):
    first = hash_foreign(foreign(folds=1))
    assert hash_foreign(foreign(folds=1)) == first
    assert hash_foreign(foreign(folds=2)) != first


def test_nothing_in_a_checkpoint_runs(foreign, capsys):
    folder = foreign(folds=1, checkpoint={"_best_ema": Trap()})
    with pytest.raises(UserError, match="could run any program"):
        read_foreign(folder)
    (folder / "fold_0" / "checkpoint_final.pth").write_bytes(pickle.dumps(Trap(), 2))
    with pytest.raises(UserError, match="checkpoint"):
        read_foreign(folder)
    assert "never be printed" not in capsys.readouterr().out


ARCHITECTURE = "configurations.3d_fullres.architecture"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (f"{ARCHITECTURE}.network_class_name", "os.system"),
        (f"{ARCHITECTURE}.arch_kwargs.conv_op", "os.system"),
        (f"{ARCHITECTURE}.arch_kwargs.nonlin", "builtins.print"),
        (f"{ARCHITECTURE}.arch_kwargs.more", "builtins.print"),
        (f"{ARCHITECTURE}.arch_kwargs.n_conv_per_stage", [10**9] * 3),
        ("configurations.3d_fullres.preprocessor_name", "MyPreprocessor"),
        ("configurations.3d_fullres.resampling_fn_data", "my_resampling"),
        ("configurations.3d_fullres.normalization_schemes", ["MyNormalization"]),
        ("configurations.3d_fullres.previous_stage", "3d_lowres"),
        ("label_manager", "MyManager"),
        ("image_reader_writer", "Rgb"),
    ],
)
def test_names_that_are_not_known_are_refused(foreign, key, value):
    folder = foreign(folds=1, plans={key: value})
    with pytest.raises(UserError, match=r"plans\.json"):
        read_foreign(folder)


@pytest.mark.parametrize(
    ("dataset", "told"),
    [
        ({"channel_names": {"0": "T1", "1": "T2"}}, "several images"),
        ({"labels": {"background": 0, "whole": [1, 2]}}, "regions"),
        ({"labels": {"background": 0, "liver": 2}}, "consecutive"),
    ],
)
def test_what_is_not_run_here_is_told(foreign, dataset, told):
    with pytest.raises(UserError, match=told):
        read_foreign(foreign(folds=1, dataset=dataset))


def test_weights_of_another_network_are_told(foreign):
    other = build_network(NetworkConfig(patch=(8, 16, 16), channels=6), 1, 4, spacing=SPACING)
    folder = foreign(folds=1, checkpoint={"network_weights": other.state_dict()})
    with pytest.raises(UserError, match="not those of the network"):
        load_foreign(folder)


def test_an_image_without_contrast_is_told(foreign):
    grid = Grid((8, 8, 8), np.diag([3.0, 3.0, 4.0, 1.0]))
    with pytest.raises(UserError, match="contrast"):
        load_foreign(foreign(folds=1)).predict(Volume(np.zeros((8, 8, 8), np.float32), grid))


def test_other_folders_are_told(foreign, tmp_path):
    with pytest.raises(UserError, match="not a model folder of nnU-Net"):
        read_foreign(tmp_path)
    with pytest.raises(UserError, match="--teacher"):
        load_model(foreign(folds=1))
