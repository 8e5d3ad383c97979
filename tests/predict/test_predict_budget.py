"""Memory: what a case is estimated to need, the leaner ways, and the refusal."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labelferry.errors import UserError
from labelferry.io.nifti import write_volume
from labelferry.predict import files
from labelferry.predict.budget import GB, Budget, Footprint, case_bytes
from labelferry.predict.config import PredictConfig
from labelferry.predict.files import predict_files
from labelferry.predict.predictor import Model
from labelferry.segment.bundle import Bundle, write_bundle
from labelferry.segment.network import build_network
from labelferry.volume import Grid, Volume

FOOTPRINT = Footprint(14, 1, 16, (32, 64, 64), (2.5, 2.0, 2.0), torch.device("cpu"))
GRID = Grid((256, 200, 80), np.diag([1.5, 1.5, 3.0, 1.0]))
Make = Callable[..., Model]


def limited(gb: float | None, **more: Any) -> Budget:
    return Budget(PredictConfig(max_ram_gb=gb, **more), FOOTPRINT, 300 * 2**20)


def need(**more: Any) -> float:
    """GB of the whole process."""
    return 300 / 1024 + case_bytes(GRID, FOOTPRINT, PredictConfig(**more)) / GB


def test_no_limit_changes_nothing() -> None:
    budget = limited(None)
    assert budget.within(GRID) is budget.config
    assert not budget.is_limited
    assert Budget.of(PredictConfig(), FOOTPRINT).loaded == 0, "nobody looks"


def test_no_limit_is_not_in_a_configurations_hash() -> None:
    """A limit that nobody set makes no finished stage of an older run be made again."""
    assert "max_ram_gb" not in PredictConfig().model_dump(mode="json")
    kept = PredictConfig(max_ram_gb=4)
    assert PredictConfig.model_validate(kept.model_dump(mode="json")) == kept
    with pytest.raises(ValueError):
        PredictConfig(max_ram_gb=0)


def test_the_least_lean_way_that_fits() -> None:
    whole, one, half = need(batch=4), need(batch=1), need(batch=1, accumulate="fp16")
    assert half < one < whole
    for gb, batch, sums in (
        (whole + 0.01, 4, "fp32"),
        (one + 0.01, 1, "fp32"),
        (half + 0.01, 1, "fp16"),
    ):
        way = limited(gb, batch=4).within(GRID)
        assert (way.batch, way.accumulate) == (batch, sums)


def test_what_cannot_fit_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"p1: .*more memory than --max-ram.*256 x 200 x 80"
    ) as told:
        limited(need(batch=1, accumulate="fp16") - 0.01).within(GRID, "p1")
    assert "0.3 GB of it for the loaded model" in str(told.value)


def test_what_the_estimate_grows_with() -> None:
    config = PredictConfig()
    base = case_bytes(GRID, FOOTPRINT, config)
    larger = Grid((512, 400, 160), np.diag([0.75, 0.75, 1.5, 1.0]))
    assert case_bytes(larger, FOOTPRINT, config) > 3 * base, "voxels of the file"
    for change in (
        {"classes": 60}, {"features": 64}, {"patch": (64, 128, 128)}, {"spacing": (1.0, 1.0, 1.0)},
        {"folds": 5}, {"channels": 60},
    ):  # fmt: skip
        assert case_bytes(GRID, replace(FOOTPRINT, **change), config) > base, change
    assert case_bytes(GRID, FOOTPRINT, PredictConfig(borders_mm=6.0)) > base
    # an image's own axes do not matter
    turned = Grid(
        (80, 256, 200), np.array([[0, 1.5, 0, 0], [0, 0, 1.5, 0], [3, 0, 0, 0], [0, 0, 0, 1]])
    )
    assert case_bytes(turned, FOOTPRINT, config) == base
    on_gpu = replace(FOOTPRINT, device=torch.device("cuda"))
    assert case_bytes(GRID, on_gpu, config) < base
    # the sums are those of a window's height: more slices need no more of them
    flat = replace(FOOTPRINT, features=1)
    tall = Grid((256, 200, 160), np.diag([1.5, 1.5, 3.0, 1.0]))
    per_voxel = (case_bytes(tall, flat, config) - case_bytes(GRID, flat, config)) / (256 * 200 * 80)
    assert per_voxel < 60


def test_a_case_that_is_too_large_stops_no_other(
    fake_model: Make, scan: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = Volume(np.tile(scan.array, (3, 3, 4)), Grid((144, 108, 56), scan.grid.affine))
    write_volume(tmp_path / "in" / "a.nii.gz", large)
    write_volume(tmp_path / "in" / "b.nii.gz", scan)
    model = fake_model()
    plain = tmp_path / "plain"
    paths = sorted((tmp_path / "in").glob("*"))
    assert predict_files(model, paths, plain) == []
    small, much = (
        case_bytes(volume.grid, model.budget.model, model.config) / GB for volume in (scan, large)
    )
    config = model.config.model_copy(update={"max_ram_gb": (small + much) / 2})
    model.budget = Budget(config, model.budget.model, 0)
    opened: list[str] = []
    read = files.read_image

    def reading(path: Path) -> Any:
        opened.append(path.name)
        return read(path)

    monkeypatch.setattr(files, "read_image", reading)
    failures = predict_files(model, paths, tmp_path / "out")
    assert [failure.case for failure in failures] == ["a"]
    assert opened == ["b.nii.gz"], "its voxels were never in memory"
    with (tmp_path / "out" / "failures.csv").open(encoding="utf-8") as stream:
        (row,) = csv.DictReader(stream)
    assert "more memory than --max-ram" in row["reason"]
    assert sorted(p.name for p in (tmp_path / "out").glob("*.nii.gz")) == ["b.nii.gz"]
    same = [(folder / "b.nii.gz").read_bytes() for folder in (plain, tmp_path / "out")]
    assert same[0] == same[1], "what fits is labelled as ever"


_MEASURE = """
import sys, re
from pathlib import Path
import torch
from labelferry.io.nifti import read_geometry
from labelferry.predict.budget import case_bytes
from labelferry.predict.files import predict_files
from labelferry.predict.predictor import load_model

torch.set_num_threads(1)
def kib(name):
    return int(re.search(name + r":\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
folder = Path(sys.argv[1])
model = load_model(folder / "model", device="cpu", engine="torch")
loaded = kib("VmRSS")
assert predict_files(model, [folder / "a.nii.gz"], folder / "out") == []
grid = read_geometry(folder / "a.nii.gz")
print(1024 * (kib("VmHWM") - loaded), case_bytes(grid, model.budget.model, model.config))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's own account")
@pytest.mark.parametrize("borders", [0.0, 6.0])
def test_the_estimate_holds(
    make_bundle: Callable[..., Bundle], scan: Volume, tmp_path: Path, borders: float
) -> None:
    """Measured in a process of its own: never more than estimated, and not far less."""
    bundle = make_bundle(patch=(24, 48, 48), channels=16, downsamplings=2)
    bundle = replace(bundle, inference={"borders_mm": borders})
    network = build_network(bundle.network, 1, 3, spacing=bundle.anatomy.spacing[::-1])
    write_bundle(tmp_path / "model", bundle, network.state_dict())
    # fine voxels: the image outweighs the network
    grid = Grid((384, 288, 84), scan.grid.affine @ np.diag([1 / 4, 1 / 4, 1 / 3, 1]))
    fine = scan.array.repeat(8, 0).repeat(8, 1).repeat(6, 2)
    write_volume(tmp_path / "a.nii.gz", Volume(fine, grid))
    run = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(tmp_path)], check=True, capture_output=True, text=True
    )
    measured, estimated = (int(word) for word in run.stdout.split())
    assert measured <= estimated <= 3 * measured
