"""The stage ``match`` on labels that stand in for a teacher's: no network is trained."""

import hashlib
import json
import shutil

import numpy as np

from labelferry.cases import Cohort
from labelferry.io.nifti import read_labels
from labelferry.organs import FLARE
from labelferry.pipeline import executor
from labelferry.pipeline.config import load_config
from labelferry.pipeline.events import Silent
from labelferry.pipeline.plausible import judge, read_plausibility
from labelferry.pipeline.prepared import prepared_cases, read_prior
from labelferry.pipeline.stage import Context
from labelferry.pipeline.stages import match
from labelferry.predict.tidy import drop_dark


def _match(taught, tiny, folder, *overrides):
    run = folder / "run"
    if not run.exists():
        shutil.copytree(taught, run)
    config = load_config("default", "demo", [*tiny, *overrides])
    empty = Cohort(())
    context = Context("match", run, config, FLARE, empty, empty, 0, "cpu", Silent())
    summary = match.run(context)
    files = {
        path.relative_to(run / "match").as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((run / "match").rglob("*"))
        if path.is_file()
    }
    return summary, files


def test_two_processes_give_what_one_gives(taught, tiny, tmp_path, monkeypatch):
    summary, one = _match(taught, tiny, tmp_path / "one")
    assert summary.facts["carried"] > 0 and not summary.failed
    cases = prepared_cases(taught / "prepare", "target")
    assert {f"descriptors/{case.id}.json" for case in cases} <= set(one)
    monkeypatch.setattr(executor, "_FEW", 2)  # few cases, too, go to the processes
    assert _match(taught, tiny, tmp_path / "two", "workers=2") == (summary, one)


def test_a_carried_organ_ends_where_the_signal_does(taught, tiny, tmp_path):
    wanted = ("predict.largest_component=false", "predict.neck=0", "predict.borders_mm=0")
    summary, _ = _match(taught, tiny, tmp_path / "as it is", *wanted, "predict.solid_signal=0")
    _match(taught, tiny, tmp_path / "tidied", *wanted, "predict.solid_signal=0.8")
    assert summary.facts["carried"] > 0
    dropped = 0
    for case in prepared_cases(taught / "prepare", "target"):
        as_it_is, tidied = (
            read_labels(tmp_path / way / "run" / "match" / "labels" / f"{case.id}.nii.gz", FLARE)
            for way in ("as it is", "tidied")
        )
        seen = json.loads(
            (tmp_path / "tidied" / "run" / "match" / "provenance" / f"{case.id}.json").read_text()
        )
        expected = as_it_is.array
        if seen["from"] is not None:
            expected = drop_dark(expected, case.read().image, FLARE, 0.8)
        assert np.array_equal(tidied.array, expected)
        dropped += int((expected != as_it_is.array).sum())
    assert dropped > 0


def test_a_patient_without_an_id_is_known_by_the_image(taught, tiny, tmp_path):
    """Every case a patient of its own; the phantom's sequences lie in one world."""
    run = tmp_path / "run"
    shutil.copytree(taught, run)
    rows = json.loads((run / "prepare" / "cases.json").read_text())
    patients = {row["id"]: row["patient"] for row in rows["cases"]}
    for row in rows["cases"]:
        row["patient"] = row["id"]
    (run / "prepare" / "cases.json").write_text(json.dumps(rows))
    summary, _ = _match(taught, tiny, tmp_path, 'match.same_patient_by="images"')
    assert not summary.failed
    found = [json.loads(p.read_text()) for p in (run / "match" / "provenance").glob("*.json")]
    known = [row for row in found if row.get("how") == "same patient by image"]
    assert known
    for row in known:
        assert set(row["likeness"]) == set(row["fused"])
        assert all(patients[name] == patients[row["case"]] for name in row["fused"])


def test_a_run_that_goes_on_describes_nothing_again(taught, tiny, tmp_path, monkeypatch):
    _, whole = _match(taught, tiny, tmp_path)
    victim = sorted((tmp_path / "run" / "match" / "provenance").glob("*T2.json"))[0]
    victim.unlink()
    monkeypatch.setattr(match, "describe", None)
    assert _match(taught, tiny, tmp_path)[1] == whole


def test_plausibility_comes_back_from_its_file(taught):
    path = taught / "teach" / "plausibility.json"
    cases = prepared_cases(taught / "prepare", "target")
    fresh = judge(cases, taught / "teach" / "labels", read_prior(taught / "prepare"), FLARE)
    assert read_plausibility(path) == fresh
