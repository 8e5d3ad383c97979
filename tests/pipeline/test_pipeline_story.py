"""The story of a case, read from the files of a run that are written here by hand."""

import json

import pytest

from labelferry.cli import run as command
from labelferry.errors import UserError
from labelferry.organs import FLARE
from labelferry.pipeline.config import load_config
from labelferry.pipeline.runfile import write_run
from labelferry.pipeline.story import explain

OWN = {"source": "own", "reason": "the own label is more plausible"}
CARRIED = {"source": "carried", "reason": "the carried label is as plausible or more"}


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"schema_version": 1, **value}))


def manifest(run, stage, **more):
    base = {"stage": stage, "fingerprint": "0", "config": {}, "inputs": {}, "outputs": {}}
    base |= {"versions": {}, "seed": 0, "seconds": 1.0, "peak_memory_mb": 1.0}
    write(run / stage / "manifest.json", {**base, "summary": {}, "failed": {}, **more})


@pytest.fixture
def run(tmp_path):
    """Prepared, with two MRI; ``b_DWI`` failed."""
    folder = tmp_path / "run"
    write_run(folder, load_config("default", "demo", ()), FLARE, {})
    rows = [
        {"id": case, "role": "target", "patient": "a", "sequence": domain, "domain": domain}
        for case, domain in (("a_T1", "T1"), ("a_DWI", "DWI"))
    ]
    write(folder / "prepare" / "cases.json", {"cases": [{**r, "annotated": []} for r in rows]})
    notes = {"a_DWI": ["the sequence is a guess"]}
    manifest(folder, "prepare", summary={"notes": notes}, failed={"b_DWI": "the image is constant"})
    return folder


@pytest.fixture
def finished(run):
    """The same after match and refine."""
    transform = {"ok": False, "reason": "a worse metric than before"}
    write(
        run / "match" / "provenance" / "a_DWI.json",
        {
            "case": "a_DWI",
            "from": "a_T1",
            "how": "same patient",
            "transform": transform,
            "candidates": [{"id": "a_T1", "agreement": 0.25}],
            "plausibility": {"own": 3.0, "carried": None, "result": 2.0},
            "organs": {"1": OWN, "2": CARRIED, "3": CARRIED},
        },
    )
    organs = {"1": {"z": 1.25, "present": True}, "2": {"z": 9.0, "present": False}}
    write(run / "match" / "plausibility.json", {"cases": {"a_DWI": {"organs": organs}}})
    decision = {"case": "a_DWI", "organs": [1, 3], "reasons": {"2": "unstable: u 0.700 > 0.5"}}
    unstable = {"a_DWI": {"case": 0.1, "organs": {"1": 0.125, "2": 0.7, "3": None}}}
    write(run / "refine" / "selection.json", {"cases": [decision], "instability": unstable})
    return run


def test_tells_each_organ_its_origin_and_its_end(finished):
    story = explain(finished, "a_DWI")
    assert (story.patient, story.domain) == ("a", "DWI")
    liver, kidney, spleen, pancreas = story.organs[:4]
    assert (liver.organ, liver.origin, liver.z, liver.u) == ("liver", "own", 1.25, 0.125)
    assert liver.kept and not liver.dropped
    assert (kidney.origin, kidney.z, kidney.kept) == ("carried", None, False)
    assert kidney.dropped == "unstable: u 0.700 > 0.5"
    assert (spleen.origin, spleen.u, spleen.kept) == ("carried", None, True)
    assert (pancreas.origin, pancreas.reason) == ("own", "neither label holds it")


def test_tells_whose_labels_and_how_well_they_lay(finished):
    facts = " | ".join(explain(finished, "a_DWI").facts)
    assert "the sequence is a guess" in facts
    assert "matched with a_T1 (by same patient)" in facts and "a_T1 0.25" in facts
    assert "a worse metric than before; its start was kept" in facts
    assert "own 3.00, carried none, result 2.00" in facts


def test_tells_that_the_patient_was_known_by_the_image(finished):
    path = finished / "match" / "provenance" / "a_DWI.json"
    value = json.loads(path.read_text())
    value |= {"how": "same patient by image", "likeness": {"a_T1": 0.62}}
    path.write_text(json.dumps(value))
    facts = " | ".join(explain(finished, "a_DWI").facts)
    assert "matched with a_T1 (by same patient by image)" in facts
    assert "edges in the same places: a_T1 0.62" in facts


def test_a_dropped_case_says_so_of_every_organ(finished):
    value = json.loads((finished / "refine" / "selection.json").read_text())
    value["cases"] = [{"case": "a_DWI", "organs": [], "reasons": {"case": "unstable: u 0.9"}}]
    (finished / "refine" / "selection.json").write_text(json.dumps(value))
    organs = explain(finished, "a_DWI").organs
    assert {(o.kept, o.dropped) for o in organs} == {(False, "unstable: u 0.9")}


def test_as_far_as_the_run_has_come(run):
    organs = explain(run, "a_T1").organs
    assert {(o.origin, o.reason, o.kept) for o in organs} == {("-", "match has not run", None)}


def test_refuses_by_name(run, tmp_path):
    with pytest.raises(UserError, match="no such MRI") as unknown:
        explain(run, "a_DW")
    assert "a_DWI" in str(unknown.value)
    with pytest.raises(UserError, match="failed in prepare") as failed:
        explain(run, "b_DWI")
    assert "the image is constant" in str(failed.value)
    with pytest.raises(UserError, match="not a run folder"):
        explain(tmp_path, "a_T1")
    (run / "prepare" / "manifest.json").unlink()
    with pytest.raises(UserError, match="prepared no case yet"):
        explain(run, "a_T1")


def test_on_the_terminal(finished, capsys):
    assert command(["explain", str(finished), "a_DWI"]) == 0
    out = capsys.readouterr().out
    assert "a_DWI: patient a, domain DWI" in out
    (row,) = (line for line in out.splitlines() if "right kidney" in line)
    assert "carried" in row and "0.70" in row and "no" in row and "unstable: u 0.700 > 0.5" in row
    assert command(["explain", str(finished), "nobody"]) == 2
