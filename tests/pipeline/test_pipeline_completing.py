"""Half-annotated sets complete each other before the teacher learns from them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.annotations import halved

import labelferry
from labelferry.files import read_json
from labelferry.io.nifti import read_labels
from labelferry.organs import FLARE
from labelferry.phantom.cohort import write_cohort
from labelferry.phantom.frame import PhantomGrid
from labelferry.pipeline import completing
from labelferry.pipeline.completing import _accepted, _teachable
from labelferry.pipeline.manifest import Manifest
from labelferry.pipeline.prepared import PreparedCase
from labelferry.pipeline.reporttables import loss_curves
from labelferry.prior.plausibility import CasePlausibility, OrganPlausibility


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """4 CT of which each annotates every second organ, and the cohort that they come from."""
    folder = tmp_path_factory.mktemp("halves")
    grid = PhantomGrid.of_spacing((9.6, 9.6, 15.0))
    write_cohort(folder / "cohort", ct=4, mri=2, test=1, seed=5, grid=grid)
    halved(folder / "cohort" / "source", folder / "half", "half")
    return folder


def _adapt(halves: Path, run: Path, tiny, *more: str, source: str = "half", until: str = "teach"):
    folder = halves / source if source == "half" else halves / "cohort" / "source"
    return labelferry.adapt(
        run,
        folder,
        halves / "cohort" / "target",
        size="demo",
        overrides=[*tiny, "teach.complete_least=2", "teach.complete_limit=10", *more],
        until=until,
    )


def test_what_is_annotated_stays_and_what_is_added_is_told(halves, tiny, tmp_path):
    result = _adapt(halves, tmp_path / "run", tiny, until="distil")
    complete = tmp_path / "run" / "teach" / "complete"
    added = read_json(complete / "cases.json", schema=1)["added"]
    prepared = tmp_path / "run" / "prepare"
    annotated = {
        row["id"]: frozenset(row["annotated"])
        for row in read_json(prepared / "cases.json", schema=1)["cases"]
        if row["role"] == "source"
    }
    assert set(added) == set(annotated), "each is silent on something that two others annotate"
    for case, known in annotated.items():
        before = read_labels(prepared / "source" / case / "label.nii.gz", FLARE).array
        after = read_labels(complete / "labels" / f"{case}.nii.gz", FLARE).array
        np.testing.assert_array_equal(after[before > 0], before[before > 0])
        assert not set(np.unique(after[before == 0])) & known
        assert not set(added[case]) & known
        assert set(added[case]) <= set(np.unique(after))
    text = Manifest.read(tmp_path / "run" / "teach").summary["text"]
    assert f"{sum(map(len, added.values()))} of " in text and "added to the labels of 4 CT" in text
    assert not result.refused
    assert {"complete/loss", "teach/loss"} <= set(loss_curves(tmp_path / "run"))


def test_complete_labels_need_no_completion(halves, tiny, tmp_path):
    _adapt(halves, tmp_path / "run", tiny, source="whole")
    assert not (tmp_path / "run" / "teach" / "complete").exists()
    assert "added to" not in Manifest.read(tmp_path / "run" / "teach").summary["text"]


def test_little_that_lacks_is_not_worth_a_training(halves, tiny, tmp_path):
    _adapt(halves, tmp_path / "run", tiny, "teach.complete_from=0.51")
    assert not (tmp_path / "run" / "teach" / "complete").exists()


def test_it_is_off_where_the_paper_is_followed(halves, tiny, tmp_path):
    _adapt(halves, tmp_path / "run", tiny, "teach.complete=false")
    assert not (tmp_path / "run" / "teach" / "complete").exists()


def test_a_kill_between_its_training_and_its_labels(halves, tiny, tmp_path, monkeypatch):
    _adapt(halves, tmp_path / "whole", tiny)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(completing, "predict_cases", killed)
    with pytest.raises(KeyboardInterrupt):
        _adapt(halves, tmp_path / "killed", tiny)
    monkeypatch.undo()
    _adapt(halves, tmp_path / "killed", tiny)
    for part in ("complete/cases.json", "model/weights.safetensors"):
        one, other = ((tmp_path / run / "teach" / part) for run in ("whole", "killed"))
        assert one.read_bytes() == other.read_bytes()


def _case(name: str, *organs: int) -> PreparedCase:
    return PreparedCase(name, "source", name, "CT", "CT", frozenset(organs), Path(name))


def test_an_organ_that_few_annotate_is_not_added():
    cases = [_case("a", 1, 2), _case("b", 1, 2), _case("c", 1, 3)]
    assert _teachable(cases, 2) == {1, 2}
    assert _teachable(cases, 1) == {1, 2, 3}
    assert _teachable(cases, 4) == frozenset()


def test_only_plausible_organs_of_the_right_side_are_added():
    good = OrganPlausibility(1.0, 0.5, 0.5, True, 1, 1.0, False, False)
    organs = {
        1: good,
        2: replace(good, wrong_side=True),
        3: replace(good, z=3.1),
        4: replace(good, present=False),
        6: good,
    }
    judged = CasePlausibility(1.0, organs, 0.0, frozenset(), frozenset())
    assert _accepted(judged, frozenset({1, 2, 3, 4, 5}), 3.0) == [1]
