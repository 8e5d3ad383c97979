from __future__ import annotations

import hashlib
import io
import json
import math
import pickle
import stat
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from labelferry.anatomy.config import AnatomyConfig
from labelferry.errors import UserError
from labelferry.organs import FLARE
from labelferry.prior.learn import learn_prior
from labelferry.segment import archive
from labelferry.segment.bundle import (
    Bundle,
    open_network,
    pack_bundle,
    read_bundle,
    write_bundle,
)
from labelferry.segment.config import NetworkConfig
from labelferry.segment.network import build_network
from labelferry.segment.plans import make_dataset, make_plans
from labelferry.volume import Grid, Segmentation

NETWORK = NetworkConfig(patch=(8, 16, 16), channels=2, downsamplings=2, convolutions=1)
ANATOMY = AnatomyConfig(spacing=(3.0, 3.0, 5.0))
Change = Callable[[dict[str, Any]], None]


def make(network: NetworkConfig = NETWORK, intensities: Any = None) -> Bundle:
    return Bundle(
        name="student",
        organs=FLARE,
        space="both",
        anatomy=ANATOMY,
        modality="MR",
        network=network,
        plans=make_plans(network, ANATOMY.spacing[::-1], 2, batch=2, intensities=intensities),
        dataset=make_dataset(FLARE, ["image", "anatomy"]),
        provenance={"seed": 7, "examples": []},
    )


def state(network: NetworkConfig = NETWORK, seed: int = 1) -> dict[str, Tensor]:
    built = build_network(
        network, 2, 14, spacing=ANATOMY.spacing[::-1], deep_supervision=True, seed=seed
    )
    return dict(built.state_dict())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "model", make(), state())
    return tmp_path / "model"


def forge(folder: Path, name: str, content: bytes) -> None:
    """Replace a file, with the hash that it then has."""
    (folder / name).write_bytes(content)
    if name != "bundle.json":
        header = json.loads((folder / "bundle.json").read_text())
        header["sha256"][name] = hashlib.sha256(content).hexdigest()
        (folder / "bundle.json").write_text(json.dumps(header))


def zipped(folder: Path, extra: str | zipfile.ZipInfo | None = None) -> Path:
    path = folder.parent / "model.zip"
    with zipfile.ZipFile(path, "w") as out:
        for name in archive.BUNDLE_FILES:
            out.write(folder / name, name)
        if extra is not None:
            out.writestr(extra, "x")
    return path


def test_there_and_back(folder: Path) -> None:
    assert sorted(p.name for p in folder.iterdir()) == sorted(archive.BUNDLE_FILES)
    bundle, weights = read_bundle(folder)
    assert bundle == make()
    assert (bundle.channels, bundle.classes, bundle.patch) == (2, 14, (8, 16, 16))
    written = state()
    assert set(weights) == set(written)
    for name, tensor in written.items():
        assert torch.equal(weights[name], tensor)
    # the state dict goes into a network under training, and into one for inference
    build_network(
        NETWORK, 2, 14, spacing=ANATOMY.spacing[::-1], deep_supervision=True
    ).load_state_dict(weights)
    network = open_network(bundle, weights)
    assert not network.training
    x = torch.rand(1, 2, 8, 16, 16)
    fresh = build_network(NETWORK, 2, 14, spacing=ANATOMY.spacing[::-1], seed=1).eval()
    with torch.inference_mode():
        assert torch.equal(network(x), fresh(x))


def test_each_weight_is_stored_once(folder: Path) -> None:
    network = build_network(NETWORK, 2, 14, spacing=ANATOMY.spacing[::-1])
    size = sum(p.numel() * 4 for p in network.parameters())
    assert (folder / "weights.safetensors").stat().st_size < size + 20_000


def test_statistics_of_the_data_set(tmp_path: Path) -> None:
    row = {"mean": 0.4, "std": 0.2, "percentile_00_5": 0.01, "percentile_99_5": 0.97}
    bundle = make(intensities={"0": row, "1": row})
    write_bundle(tmp_path / "model", bundle, state())
    assert read_bundle(tmp_path / "model")[0] == bundle


def test_flat_networks(tmp_path: Path) -> None:
    network = NetworkConfig(
        dimensions=2, patch=(16, 16), channels=2, downsamplings=1, convolutions=1
    )
    write_bundle(tmp_path / "model", make(network), state(network))
    bundle, weights = read_bundle(tmp_path / "model")
    out = open_network(bundle, weights)(torch.rand(1, 2, 16, 16))
    assert tuple(out.shape) == (1, 14, 16, 16)


def test_one_file(folder: Path, tmp_path: Path) -> None:
    pack_bundle(folder, tmp_path / "a.zip")
    pack_bundle(folder, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    bundle, weights = read_bundle(tmp_path / "a.zip")
    assert bundle == make()
    assert torch.equal(
        weights["decoder.seg_layers.0.weight"], state()["decoder.seg_layers.0.weight"]
    )


def test_a_pickle_posing_as_weights(folder: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (folder.with_name("ran").touch, ())

    forge(folder, "weights.safetensors", pickle.dumps(Evil()))
    with pytest.raises(UserError, match="pickle"):
        read_bundle(folder)
    buffer = io.BytesIO()
    torch.save(Evil(), buffer)
    forge(folder, "weights.safetensors", buffer.getvalue())
    with pytest.raises(UserError, match="pickle"):
        read_bundle(zipped(folder))
    assert not folder.with_name("ran").exists()


@pytest.mark.parametrize("name", ["model.pth", "checkpoint_final.pt", "w.PKL"])
def test_pickles_by_name(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"x")
    for path in (folder, folder / name, zipped(folder, name)):
        with pytest.raises(UserError, match="pickle") as told:
            read_bundle(path)
        assert name in str(told.value)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("../evil", "out of the bundle"),
        ("a/../../evil.json", "out of the bundle"),
        ("..\\evil", "out of the bundle"),
        ("/etc/evil", "absolute"),
        ("C:\\evil", "absolute"),
        ("readme.txt", "does not belong"),
        ("sub/bundle.json", "does not belong"),
        ("sub/", "does not belong"),
    ],
)
def test_entries_that_do_not_belong(folder: Path, name: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem) as told:
        read_bundle(zipped(folder, name))
    assert name in str(told.value)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_repeated_and_linked_entries(folder: Path) -> None:
    with pytest.raises(UserError, match="twice"):
        read_bundle(zipped(folder, "plans.json"))
    link = zipfile.ZipInfo("dataset.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(UserError, match="symbolic link"):
        read_bundle(zipped(folder, link))


def test_a_linked_file(folder: Path, tmp_path: Path) -> None:
    (folder / "plans.json").rename(tmp_path / "elsewhere.json")
    try:
        (folder / "plans.json").symlink_to(tmp_path / "elsewhere.json")
    except OSError:
        pytest.skip("no symbolic links here")
    with pytest.raises(UserError, match="symbolic link"):
        read_bundle(folder)


@pytest.mark.parametrize("name", archive.BUNDLE_FILES[1:])
def test_another_hash(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[-2] ^= 1
    (folder / name).write_bytes(bytes(content))
    for path in (folder, zipped(folder)):
        with pytest.raises(UserError, match=f"{name} is not the file"):
            read_bundle(path)


def test_oversize_files(folder: Path) -> None:
    forge(folder, "weights.safetensors", bytes(4 * 2**20))
    for path in (folder, zipped(folder)):
        with pytest.raises(UserError, match=r"weights.safetensors is too large"):
            read_bundle(path)


@pytest.mark.parametrize("name", archive.BUNDLE_FILES)
def test_a_missing_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing"):
        read_bundle(folder)


def test_what_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model here"):
        read_bundle(tmp_path / "nothing")
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(UserError, match="not a model bundle"):
        read_bundle(tmp_path / "text.zip")


def other_class(plans: dict[str, Any]) -> None:
    plans["configurations"]["3d_fullres"]["architecture"]["network_class_name"] = "os.system"


def other_normalisation(plans: dict[str, Any]) -> None:
    plans["configurations"]["3d_fullres"]["normalization_schemes"] = ["Evil", "Evil"]


def other_resampling(plans: dict[str, Any]) -> None:
    plans["configurations"]["3d_fullres"]["resampling_fn_data"] = "evil"


def no_configuration(plans: dict[str, Any]) -> None:
    plans["configurations"] = []


def another_configuration(plans: dict[str, Any]) -> None:
    plans["configurations"]["2d"] = {"inherits_from": "3d_fullres"}


@pytest.mark.parametrize(
    "change",
    [
        other_class,
        other_normalisation,
        other_resampling,
        no_configuration,
        another_configuration,
    ],
)
def test_foreign_plans(folder: Path, change: Change) -> None:
    plans = json.loads((folder / "plans.json").read_text())
    change(plans)
    forge(folder, "plans.json", json.dumps(plans).encode())
    with pytest.raises(UserError, match=r"plans\.json"):
        read_bundle(folder)


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("schema_version", 2, "schema version"),
        ("surprise", 1, "surprise"),
        ("space", "outer", "space"),
        ("organs", [{"id": "x", "name": "liver"}], "organs"),
        ("network", {"patch": [8, 16, 16], "convolutions": 10**9}, "larger than any"),
        ("network", {"patch": [8, 16, 2**40]}, "larger than any"),
        ("network", {"trainer": "os.system"}, "trainer"),
    ],
)
def test_a_forged_header(folder: Path, key: str, value: Any, problem: str) -> None:
    header = json.loads((folder / "bundle.json").read_text())
    header[key] = value
    forge(folder, "bundle.json", json.dumps(header).encode())
    with pytest.raises(UserError, match=problem):
        read_bundle(folder)


def test_broken_json(folder: Path) -> None:
    for content in (b"{", b"[" * 100_000, b"[]", b"\xff\xfe"):
        forge(folder, "bundle.json", content)
        with pytest.raises(UserError, match=r"bundle\.json"):
            read_bundle(folder)


def test_weights_of_another_network(folder: Path) -> None:
    from safetensors.torch import load_file, save

    weights = load_file(folder / "weights.safetensors")
    name = "decoder.seg_layers.0.weight"
    for changed, problem in (
        ({**weights, name: weights[name][:3].clone()}, "do not fit"),
        ({**weights, name: weights[name].double()}, "do not fit"),
        ({k: v for k, v in weights.items() if k != name}, "1 missing"),
        ({**weights, "more": torch.zeros(1)}, "1 unknown"),
    ):
        forge(folder, "weights.safetensors", save(changed))
        with pytest.raises(UserError, match=problem):
            read_bundle(folder)


def test_nothing_is_written_that_could_not_be_read(tmp_path: Path) -> None:
    other = NETWORK.model_copy(update={"channels": 4})
    with pytest.raises(UserError, match="do not fit"):
        write_bundle(tmp_path / "model", make(), state(other))
    with pytest.raises(UserError, match=r"plans\.json"):
        write_bundle(tmp_path / "model", replace(make(), plans=make(other).plans), state())
    assert list(tmp_path.iterdir()) == []


def test_the_prior_travels_with_the_model(tmp_path: Path) -> None:
    array = np.zeros((12, 10, 9), np.uint8)
    array[2:5, 3:6, 2:6], array[8:10, 4:6, 3:5] = 1, 3
    labels = Segmentation(array, Grid(array.shape, np.diag([5.0, 5.0, 5.0, 1.0])))
    prior = learn_prior([(labels, labels.held)], FLARE)
    write_bundle(tmp_path / "model", replace(make(), prior=prior), state())
    assert read_bundle(tmp_path / "model")[0].prior == prior
    pack_bundle(tmp_path / "model", tmp_path / "model.zip")
    assert read_bundle(tmp_path / "model.zip")[0].prior == prior


@pytest.mark.parametrize(
    "key, value",
    [("log_size_sd", 0), ("position_mm", [0, 0, math.nan]), ("id", 99), ("size", "width"),
     ("present_rate", "often"), ("side", None)],
)  # fmt: skip
def test_a_prior_that_is_none_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    array = np.zeros((12, 10, 9), np.uint8)
    array[2:5, 3:6, 2:6] = 1
    labels = Segmentation(array, Grid(array.shape, np.diag([5.0, 5.0, 5.0, 1.0])))
    prior = learn_prior([(labels, labels.held)], FLARE)
    write_bundle(tmp_path / "model", replace(make(), prior=prior), state())
    header = json.loads((tmp_path / "model/bundle.json").read_text())
    header["prior"]["organs"][0][key] = value
    (tmp_path / "model/bundle.json").write_text(json.dumps(header))
    with pytest.raises(UserError, match="prior"):
        read_bundle(tmp_path / "model")
