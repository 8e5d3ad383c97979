"""The challenge's contract, without Docker: the script of the image, and what its recipe names."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from labelferry.anatomy.config import AnatomyConfig
from labelferry.io.nifti import write_volume
from labelferry.organs import Organ, OrganSet
from labelferry.segment.bundle import Bundle, write_bundle
from labelferry.segment.config import NetworkConfig
from labelferry.segment.network import build_network
from labelferry.segment.plans import make_dataset, make_plans
from labelferry.volume import Grid, Volume

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
needs_sh = pytest.mark.skipif(shutil.which("sh") is None, reason="no POSIX shell")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """What the image has in /workspace: predict.sh, a model, and the challenge's folders."""
    shutil.copy(DOCKER / "predict.sh", tmp_path)
    organs = OrganSet((Organ(1, "liver"), Organ(2, "spleen")))
    network = NetworkConfig(
        dimensions=2, patch=(16, 16), channels=2, downsamplings=1, convolutions=1, context=0
    )
    anatomy = AnatomyConfig(spacing=(4.0, 4.0, 5.0))
    spacing = anatomy.spacing[::-1]
    bundle = Bundle(
        name="student",
        organs=organs,
        space="plain",
        anatomy=anatomy,
        modality="MR",
        network=network,
        plans=make_plans(network, spacing, 1, batch=2),
        dataset=make_dataset(organs, ["image"]),
        provenance={},
    )
    built = build_network(network, 1, 3, spacing=spacing, deep_supervision=True)
    write_bundle(tmp_path / "model", bundle, built.state_dict())
    shape = (30, 24, 8)
    x, y, _ = np.ogrid[: shape[0], : shape[1], : shape[2]]
    body = ((x - 15) / 12) ** 2 + ((y - 12) / 9) ** 2 < 1
    noise = np.random.default_rng(0).normal(150, 20, shape)
    image = Volume((body * noise).astype(np.float32), Grid(shape, np.diag([4.0, 4.0, 5.0, 1.0])))
    for name in ("amos_7324_0000", "LLD_0001_C+A_0000"):
        write_volume(tmp_path / "inputs" / f"{name}.nii.gz", image)
    (tmp_path / "outputs").mkdir()
    return tmp_path


def predict_sh(workspace: Path, *arguments: str, **names: str) -> subprocess.CompletedProcess[str]:
    """Run it with nothing in the environment but the three folders and our ``labelferry``."""
    tools = workspace / "bin"
    tools.mkdir(exist_ok=True)
    # not the installed script: tests may run from a tree that is not installed
    shim = tools / "labelferry"
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m labelferry "$@"\n')
    shim.chmod(0o755)
    folders = {name.upper(): str(workspace / name) for name in ("inputs", "outputs", "model")}
    kept = {name: os.environ[name] for name in ("PYTHONPATH", "HOME") if name in os.environ}
    path = os.pathsep.join((str(tools), os.defpath))
    return subprocess.run(
        ["sh", "predict.sh", *arguments],
        cwd=workspace,
        env={**kept, "OMP_NUM_THREADS": "1", "PATH": path, **folders, **names},
        capture_output=True,
        text=True,
        check=False,
    )


@needs_sh
def test_each_input_becomes_an_output(workspace: Path) -> None:
    done = predict_sh(workspace, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    made = sorted(path.name for path in (workspace / "outputs").iterdir())
    assert made == ["LLD_0001_C+A.nii.gz", "amos_7324.nii.gz", "quality.csv", "volumes.csv"]
    image = nibabel.load(workspace / "inputs" / "amos_7324_0000.nii.gz")
    labels = nibabel.load(workspace / "outputs" / "amos_7324.nii.gz")
    assert labels.shape == image.shape
    np.testing.assert_allclose(labels.affine, image.affine)
    assert labels.get_data_dtype() == np.uint8


@needs_sh
def test_a_broken_input_stops_no_other_and_is_told(workspace: Path) -> None:
    (workspace / "inputs" / "amos_7324_0000.nii.gz").write_bytes(b"")
    done = predict_sh(workspace)
    assert done.returncode == 3
    made = sorted(path.name for path in (workspace / "outputs").iterdir())
    assert made == ["LLD_0001_C+A.nii.gz", "failures.csv", "quality.csv", "volumes.csv"]


@needs_sh
def test_folders_with_blanks_and_missing_ones(workspace: Path) -> None:
    (workspace / "inputs").rename(workspace / "my inputs")
    there = str(workspace / "my inputs")
    assert predict_sh(workspace, INPUTS=there, OUTPUTS=str(workspace / "my own")).returncode == 0
    assert len(list((workspace / "my own").glob("*.nii.gz"))) == 2
    done = predict_sh(workspace)
    assert done.returncode == 2
    assert "no such file or folder" in done.stderr


@needs_sh
def test_the_defaults_are_the_challenges() -> None:
    text = (DOCKER / "predict.sh").read_text()
    for name in ("inputs", "outputs", "model"):
        assert f"{name}=${{{name.upper()}:-/workspace/{name}}}" in text
    assert text.startswith("#!/bin/sh\n") and b"\r" not in (DOCKER / "predict.sh").read_bytes()


def test_the_recipe_names_files_that_exist_and_are_sent() -> None:
    recipe = (DOCKER / "Dockerfile").read_text()
    sent = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", recipe, re.MULTILINE)
    names = {name for copy in copies for name in copy.split() if "$" not in name}
    assert names >= {"pyproject.toml", "src", "constraints.txt", "docker/predict.sh"}
    for name in names:
        assert (ROOT / name).exists(), name
        assert f"!{name}" in sent, name
    from labelferry.segment.archive import BUNDLE_FILES

    assert all(f"!**/{name}" in sent for name in BUNDLE_FILES)
    assert sent.index("*") < min(sent.index(f"!{name}") for name in names)


def test_the_recipe_is_safe() -> None:
    recipe = (DOCKER / "Dockerfile").read_text()
    users = re.findall(r"^USER (\S+)$", recipe, re.MULTILINE)
    assert users == ["labelferry"]
    assert 'CMD ["sh", "predict.sh"]' in recipe
    assert "ENTRYPOINT" not in recipe, "the challenge gives a command of its own"
    for path in DOCKER.iterdir():
        assert "://" not in path.read_text(), f"{path.name} names a host"
