from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hard_scene import mr, pair, save

from labelferry.cli import run as labelferry

CT_AND_MR = ("--set", "prepare.spacing=[10, 10, 10]", "--set", "match.anchors=[]")


@pytest.fixture
def call(capsys) -> Callable[..., tuple[int, str]]:
    """Run a command in this process: its exit code and everything that it printed."""

    def run(*words: object) -> tuple[int, str]:
        capsys.readouterr()
        code = labelferry([str(word) for word in words])
        said = capsys.readouterr()
        text = said.out + said.err
        assert "Traceback" not in text, text
        assert "fault of labelferry" not in text, text
        return code, text

    return run


@pytest.fixture(scope="session")
def settings(tiny) -> tuple[str, ...]:
    """Options that make any run of the chain take seconds on the scenes of this room."""
    return (*(word for value in tiny for word in ("--set", value)), *CT_AND_MR, "--size", "demo")


@pytest.fixture(scope="session")
def good(tmp_path_factory) -> Path:
    """Two labelled CT, two MRI."""
    folder = tmp_path_factory.mktemp("good")
    for name in ("good_a", "good_b"):
        pair(folder / "ct", name)
        save(folder / "mr" / "images" / f"{name}.nii.gz", mr())
    return folder


@pytest.fixture(scope="session")
def model(good, settings, tmp_path_factory) -> Path:
    """A run with a tiny model."""
    folder = tmp_path_factory.mktemp("model") / "run"
    words = ("adapt", folder, "--source", good / "ct", "--target", good / "mr", "--until", "teach")
    assert labelferry([str(word) for word in (*words, *settings)]) == 0
    return folder
