"""When self-training stops and which round it hands on; no network is trained."""

import hashlib
import json
import math
import shutil

import numpy as np
import pytest

from labelferry.cases import Cohort
from labelferry.io.nifti import read_labels, write_volume
from labelferry.organs import FLARE
from labelferry.pipeline.config import load_config
from labelferry.pipeline.events import Silent
from labelferry.pipeline.prepared import prepared_cases
from labelferry.pipeline.stage import Context
from labelferry.pipeline.stages import refine
from labelferry.refine.config import RefineConfig
from labelferry.refine.stopping import choose_round, helps_no_more
from labelferry.volume import Segmentation


def test_a_round_helps_while_z_falls_by_the_gain():
    assert not helps_no_more([3.0], 0.1), "one round has none before it"
    assert not helps_no_more([3.0, 2.75], 0.25)
    assert helps_no_more([3.0, 2.75, 2.625], 0.25)
    assert helps_no_more([3.0, 3.5], 0.0)
    assert not helps_no_more([math.inf, 2.0], 0.1)
    assert helps_no_more([math.inf, math.inf], 0.1)


def test_the_best_of_teacher_and_rounds_by_hand():
    best = RefineConfig(keep="best", rounds=3)
    assert choose_round([2.0, 1.5, 1.8, 1.6], best).kept == 1
    assert choose_round([2.0, 1.5, 1.5], best).kept == 1, "the earliest of equals"
    assert choose_round([1.0, 1.5, 1.8], best).kept == 0
    last = choose_round([1.0, 1.5, math.inf], RefineConfig(rounds=3))
    assert (last.kept, last.made) == (2, 2)
    assert last.why == "2 of 3 rounds: round 2 no longer helped (z inf after 1.50)"
    assert last.to_json()["z"] == [1.0, 1.5, None]
    told = choose_round([2.0, 1.5, 1.8, 1.9], best).why
    assert told == "3 of 3 rounds; round 1 is handed on, the most plausible (z 1.50, last 1.90)"


class StopError(Exception):
    """Stands for a kill."""


def _play(monkeypatch, lost, killed_in=0):
    """Round n's labels are those of the teacher without the first ``lost[n]`` organs."""

    def train(context, this, target):
        if this.number == killed_in:
            raise StopError
        for case in target:
            labels = read_labels(context.of("teach") / "labels" / f"{case.id}.nii.gz", FLARE)
            left = labels.array * (labels.array > lost[this.number])
            write_volume(this.labels / f"{case.id}.nii.gz", Segmentation(left, labels.grid))
        this.model.mkdir(parents=True, exist_ok=True)
        (this.model / "which").write_text(str(this.number))
        return {}

    monkeypatch.setattr(refine, "_train_round", train)


@pytest.fixture
def matched(taught, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(taught, run)
    shutil.copytree(run / "teach" / "labels", run / "match" / "labels")
    (run / "teach" / "model").mkdir()
    (run / "teach" / "model" / "which").write_text("teacher")
    return run


def _refine(run, tiny, *overrides):
    overrides = [*tiny, "refine.select.rounds=4", "refine.select.fusion='union'", *overrides]
    config = load_config("default", "demo", overrides)
    empty = Cohort(())
    context = Context("refine", run, config, FLARE, empty, empty, 0, "cpu", Silent())
    (run / "refine").mkdir(exist_ok=True)
    summary = refine.run(context)
    files = {
        path.relative_to(run / "refine").as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((run / "refine").rglob("*"))
        if path.is_file()
    }
    return summary, files


STOP = (
    "refine.select.stop=true",
    "refine.select.keep='best'",
    "predict.largest_component=false",
    "predict.solid_signal=0",
    "predict.neck=0",
    "predict.borders_mm=0",
)
COLLAPSE = {1: 2, 2: 0, 3: 6, 4: 6}


def test_a_collapsed_round_is_not_handed_on(matched, tiny, monkeypatch):
    _play(monkeypatch, COLLAPSE)
    summary, files = _refine(matched, tiny, *STOP)
    row = json.loads((matched / "refine" / "rounds.json").read_text())
    assert (row["made"], row["kept"]) == (3, 0), "round 2 is the teacher again, and later"
    assert "round 3 no longer helped" in summary.text and "the teacher is handed on" in summary.text
    assert (matched / "refine" / "model" / "which").read_text() == "teacher"
    assert not any(name.startswith("round4") for name in files)
    for case in prepared_cases(matched / "prepare", "target"):
        name = f"{case.id}.nii.gz"
        start, fused = (
            read_labels(matched / stage / "labels" / name, FLARE).array
            for stage in ("match", "refine")
        )
        np.testing.assert_array_equal(start, fused)


def test_by_default_all_rounds_are_made_and_the_last_is_handed_on(matched, tiny, monkeypatch):
    _play(monkeypatch, COLLAPSE)
    summary, files = _refine(matched, tiny)
    assert summary.text.startswith("4 rounds; ") and "rounds.json" not in files
    assert (matched / "refine" / "model" / "which").read_text() == "4"


def test_killed_and_resumed_stops_at_the_same_round(matched, tiny, tmp_path, monkeypatch):
    shutil.copytree(matched, tmp_path / "other")
    _play(monkeypatch, COLLAPSE)
    whole = _refine(matched, tiny, STOP[0])
    assert "round 3 no longer helped" in whole[0].text
    assert (matched / "refine" / "model" / "which").read_text() == "3"
    assert json.loads((matched / "refine" / "selection.json").read_text())["instability"]
    _play(monkeypatch, COLLAPSE, killed_in=3)
    with pytest.raises(StopError):
        _refine(tmp_path / "other", tiny, STOP[0])
    _play(monkeypatch, COLLAPSE)
    assert _refine(tmp_path / "other", tiny, STOP[0]) == whole
