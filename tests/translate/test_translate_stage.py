from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

import labelferry
from labelferry.files import read_json
from labelferry.io.nifti import read_image
from labelferry.pipeline.manifest import Manifest
from labelferry.pipeline.reporting import report_run
from labelferry.pipeline.runfile import read_run
from labelferry.pipeline.stages.teach import training_examples
from labelferry.translate.verdict import AUDIT_SCHEMA


class Notes:
    """Keeps what a run has to say."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def stage(self, name: str, state: str, text: str) -> None:
        pass

    def progress(self, what: str, done: int, total: int) -> None:
        pass

    def note(self, text: str, level: str) -> None:
        self.texts.append(text)


@pytest.fixture(scope="module")
def told() -> Notes:
    return Notes()


@pytest.fixture(scope="module")
def run(
    cohort: Path, tiny: tuple[str, ...], told: Notes, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run whose audit is so strict that every fake fails it."""
    folder = tmp_path_factory.mktemp("audited") / "run"
    labelferry.adapt(
        folder,
        cohort / "source",
        cohort / "target",
        preset="asit",
        size="demo",
        overrides=(
            *tiny,
            "translate.audit.least_agreement=0.9999",
            "translate.audit.most_left_out=0.5",
        ),
        until="translate",
        events=told,
    )
    return folder


def test_every_fake_is_judged_and_has_its_map(run: Path) -> None:
    rows = read_json(run / "translate" / "audit.json", schema=AUDIT_SCHEMA)["cases"]
    fakes = sorted((run / "translate" / "fake").glob("*.nii.gz"))
    assert list(rows) == [path.name.removesuffix(".nii.gz") for path in fakes]
    for path in fakes:
        shown = read_image(run / "translate" / "audit" / path.name).volume
        fake = read_image(path).volume
        # the tiny phantom's voxels are coarser than the audit's: they stay as they are
        assert shown.grid.matches(fake.grid)
    row = next(iter(rows.values()))
    assert row["severity"] > 1
    assert row["organs"]["1"]["ml"] > 100
    assert (run / "translate" / "samples" / "step_000012.png").exists()


def test_at_most_half_are_left_out_and_the_person_is_told(run: Path, told: Notes) -> None:
    manifest = Manifest.read(run / "translate")
    assert manifest is not None
    assert len(manifest.summary["left_out"]) == 1
    assert manifest.summary["iterations"] == 12
    assert "1 left out by the audit" in manifest.summary["text"]
    assert any("finds that 3 of 3 fake MRI do not keep" in text for text in told.texts)
    assert any("2 of these teach all the same" in text for text in told.texts)
    assert not manifest.failed


def test_a_fake_that_fails_does_not_teach(run: Path) -> None:
    config, _ = read_run(run)
    context = SimpleNamespace(config=config, of=lambda stage: run / stage)
    ids = {example.id for example in training_examples(context)}  # type: ignore[arg-type]
    manifest = Manifest.read(run / "translate")
    assert manifest is not None
    (left_out,) = manifest.summary["left_out"]
    assert f"{left_out}.fake" not in ids
    assert len([name for name in ids if name.endswith(".fake")]) == 2


def test_the_report_lists_it_with_the_reason(run: Path) -> None:
    page = report_run(run).read_text(encoding="utf-8")
    assert "fake MRI left out of teaching" in page
    assert "agreement with the CT" in page
    assert "finds that 3 of 3 fake MRI do not keep" in page
    assert "agreement with what the CT predicts" in page
