"""From a run folder to the page: what is gathered, and that no file name gets onto it."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import numpy as np
import pytest

from labelferry.cli import run as command_line
from labelferry.errors import UserError
from labelferry.files import write_json
from labelferry.io.nifti import write_volume
from labelferry.organs import FLARE
from labelferry.pipeline.config import load_config
from labelferry.pipeline.manifest import Manifest
from labelferry.pipeline.reporting import Scored, collect, report_run
from labelferry.pipeline.reporttables import loss_curves
from labelferry.pipeline.runfile import write_run
from labelferry.volume import Grid, Segmentation, Volume

SHAPE = (16, 12, 6)
GRID = Grid(SHAPE, np.diag([8.0, 8.0, 12.0, 1.0]))
TARGET = {"Mueller_Hans_T1": "T1", "Mueller_Hans_T2": "T2", "Schmidt_Eva_T1": "T1"}
SOURCE = ("Weber_Karl_CT",)
HELD = ("Fischer_Ida_T1", "Mueller_Hans_T1")
SECRETS = ("Mueller", "Schmidt", "Weber", "Fischer", "Hans", "Bauer")


def image() -> Volume:
    rng = np.random.default_rng(5)
    return Volume(rng.normal(size=SHAPE).astype(np.float32), GRID)


def organs(shift: int = 0) -> Segmentation:
    array = np.zeros(SHAPE, np.uint8)
    array[8 + shift : 14, 3:9, 1:5] = 1
    array[2:5, 3:6, 1:4] = 3
    return Segmentation(array, GRID)


def done(folder: Path, summary: dict[str, object], failed: dict[str, str] | None = None) -> None:
    name = folder.name
    Manifest(name, "f", {}, {}, (), 1, {"python": "3"}, 5.0, 99.0, summary, failed or {}).write(
        folder
    )


def make_run(run: Path, **overrides: object) -> None:
    """A run folder with what the report reads, up to the stage refine."""
    config = load_config("default", "demo", [f"{k}={v}" for k, v in overrides.items()])
    write_run(run, config, FLARE, {})
    rows = []
    for role, cases in (("source", dict.fromkeys(SOURCE, "CT")), ("target", TARGET)):
        for case, domain in cases.items():
            folder = run / "prepare" / role / case
            for name in ("image", "anatomy"):
                write_volume(folder / f"{name}.nii.gz", image())
            if role == "source":
                write_volume(folder / "label.nii.gz", organs())
                write_volume(run / "translate" / "fake" / f"{case}.nii.gz", image())
            else:
                write_volume(run / "refine" / "labels" / f"{case}.nii.gz", organs(1))
            rows.append(
                {
                    "id": case,
                    "role": role,
                    "patient": case.rpartition("_")[0],
                    "sequence": domain,
                    "domain": domain,
                    "annotated": [1, 3] if role == "source" else [],
                }
            )
    write_json(run / "prepare" / "cases.json", {"schema_version": 1, "cases": rows})
    notes = {"Schmidt_Eva_T1": ["Schmidt_Eva_T1.nii.gz has NaN"]}
    done(
        run / "prepare",
        {"text": "1 CT, 3 MRI", "notes": notes, "missing_organs": ["gallbladder"]},
        {"Bauer_Rolf_T1": "Bauer_Rolf_T1.nii.gz cannot be read"},
    )
    done(run / "translate", {"text": "1 fake MRI", "space": "anatomy"})
    (run / "match" / "provenance").mkdir(parents=True)
    carried = {
        "1": {"source": "carried", "reason": "as plausible"},
        "3": {"source": "own", "reason": "more plausible than Mueller_Hans_T1"},
    }
    for case in TARGET:
        value = {"schema_version": 1, "case": case, "from": None, "reason": "anchor domain"}
        if case.endswith("T2"):
            value |= {"from": "Mueller_Hans_T1", "how": "same patient", "organs": carried}
        write_json(run / "match" / "provenance" / f"{case}.json", value)
    done(run / "match", {"text": "carried Mueller_Hans_T1"})
    decisions = [
        {"case": case, "organs": [1], "reasons": {"3": "unstable: u is infinite (empty)"}}
        for case in TARGET
    ]
    decisions[2] |= {"organs": [], "reasons": {"case": "unstable: u 0.400 > 0.3"}}
    unstable = {case: {"case": 0.25, "organs": {"1": 0.25, "3": None}} for case in TARGET}
    write_json(
        run / "refine" / "selection.json",
        {"schema_version": 1, "cases": decisions, "instability": unstable},
    )
    judged = {
        case: {"z": 1.5 if n else None, "organs": {"1": {"z": 2.0, "present": True}}}
        for n, case in enumerate(TARGET)
    }
    write_json(
        run / "refine" / "plausibility.json", {"schema_version": 1, "domains": {}, "cases": judged}
    )
    done(run / "refine", {"text": "2 rounds"})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reported") / "run"
    small = {"report.picture_px": 64, "report.slices_per_case": 2, "report.surface_px": 64}
    make_run(folder, **small)
    return folder


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    folder = tmp_path_factory.mktemp("scored")
    for case in (*HELD, "Huber_Uwe_T1"):
        write_volume(folder / "images" / f"{case}.nii.gz", image())
        write_volume(folder / "truth" / f"{case}.nii.gz", organs())
        if case in HELD:
            write_volume(folder / "predictions" / f"{case}.nii.gz", organs(1))
    return Scored(folder / "predictions", folder / "truth", folder / "images")


def test_no_file_name_reaches_the_page(run: Path, scored: Scored) -> None:
    path = report_run(run, scored)
    page = path.read_text(encoding="utf-8")
    for secret in (*SECRETS, "Huber", "Uwe"):
        assert secret not in page, secret
    assert "case 001" in page and "cases.csv" in page
    table = (path.parent / "cases.csv").read_text(encoding="utf-8")
    assert "case 001,Mueller_Hans_T1,target,T1" in table
    assert "case 001,Mueller_Hans_T1,test" in table  # one image, one name
    assert "Weber_Karl_CT,source,CT" in table and "Bauer_Rolf_T1,failed," in table
    if sys.platform != "win32":
        assert stat.S_IMODE((path.parent / "cases.csv").stat().st_mode) == 0o600


def test_own_names_on_wish(tmp_path: Path) -> None:
    make_run(tmp_path / "run", **{"report.case_names": "ids", "report.max_cases": 0})
    (tmp_path / "run" / "report").mkdir()
    (tmp_path / "run" / "report" / "cases.csv").write_text("old")
    path = report_run(tmp_path / "run")
    assert "Mueller_Hans_T1" in path.read_text(encoding="utf-8")
    assert not (path.parent / "cases.csv").exists()


def test_gathers_what_the_stages_left(run: Path) -> None:
    data = collect(run)
    assert [(c.case, c.role) for c in data.cases][-1] == ("case 004", "source")
    assert {r.name: r.value for r in data.outputs} == {"fake MRI": "1", "pseudo-labels": "3"}
    problems = {r.name: (r.value, r.detail) for r in data.problems}
    assert problems["failed cases"] == ("1", "prepare: 1")
    assert problems["organ labels left out"] == ("2", "and 1 whole case of 3")
    assert problems["organs without a label"] == ("1", "gallbladder")
    assert data.fake_space == "anatomy space" and data.scores is None
    assert data.instability[0].organs == {"liver": 0.25, "spleen": float("inf")}
    assert data.plausibility[0].overall == float("inf")
    told = [(r.case, r.organ, r.reason) for r in data.rejected]
    assert told[0] == ("case 005", None, "failed in prepare: case 005.nii.gz cannot be read")
    assert told[1] == ("case 001", "spleen", "empty: unstable: u is infinite (empty)")
    assert told[-1] == ("case 003", None, "unstable: u 0.400 > 0.3")
    origins = {(r.case, r.organ): (r.origin, r.detail) for r in data.provenance}
    assert origins["case 002", "liver"] == ("matched", "case 001 (same patient); as plausible")
    assert origins["case 002", "spleen"] == ("network", "more plausible than case 001")
    assert origins["case 001", "all"] == ("network", "anchor domain")
    assert data.warnings[0] == "case 003: case 003.nii.gz has NaN"
    match = next(row for row in data.stages if row.name == "match")
    assert match.summary == "carried case 001"


def test_scores_come_with_intervals_and_what_was_missing(run: Path, scored: Scored) -> None:
    from labelferry.evaluate import evaluate

    evaluation = evaluate(scored.predictions, scored.truth)
    data = collect(run, scored, evaluation)
    assert data.scores is not None and data.scores.overall is not None
    assert data.scores.overall.n == 3
    liver = next(row for row in data.scores.organs if row.name == "liver")
    assert liver.dsc.mean is not None and 0.5 < liver.dsc.mean < 1
    assert liver.dsc.low is not None and liver.dsc.low <= liver.dsc.mean
    tests = {case.case: case for case in data.cases if case.role == "test"}
    assert tests["case 001"].notes.startswith("its image, without label, was in the target")
    lost = next(case for case in tests.values() if "result" not in case.layers)
    assert lost.scores == {"DSC": 0, "NSD": 0} and f"{lost.case}: no prediction; it counts 0." in (
        data.warnings
    )
    problem = next(row for row in data.problems if row.name == "scored without a prediction")
    assert problem.value == "1"


def test_layers_are_read_only_when_drawn(run: Path) -> None:
    (case, *_) = collect(run).cases
    (run / "prepare/target/Mueller_Hans_T1/anatomy.nii.gz").rename(run / "away.nii.gz")
    try:
        assert "anatomy" in case.layers and len(case.layers) == 3
        with pytest.raises(UserError):
            case.layers["anatomy"]
    finally:
        (run / "away.nii.gz").rename(run / "prepare/target/Mueller_Hans_T1/anatomy.nii.gz")


def test_the_verb_writes_the_page(
    run: Path, scored: Scored, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--predictions", str(scored.predictions), "--truth", str(scored.truth)]
    assert command_line(["report", str(run), *given, "--images", str(scored.images)]) == 0
    said = capsys.readouterr().out.replace("\n", "")
    assert "report.html" in said and "cases.csv" in said
    assert command_line(["report", str(run), "--case-names", "ids"]) == 0
    assert "cases.csv" not in capsys.readouterr().out.replace("\n", "")
    assert "Mueller_Hans_T1" in (run / "report" / "report.html").read_text(encoding="utf-8")
    assert command_line(["report", str(run), "--truth", str(scored.truth)]) == 2


def test_a_page_before_any_stage(tmp_path: Path) -> None:
    write_run(tmp_path / "run", load_config("default", "demo"), FLARE, {})
    page = report_run(tmp_path / "run").read_text(encoding="utf-8")
    assert "No verdict" in page and "not run" in page
    json.dumps(collect(tmp_path / "run").config_toml)


def test_the_losses_of_a_translation_bear_the_papers_names(tmp_path: Path) -> None:
    model = tmp_path / "translate" / "model"
    model.mkdir(parents=True)
    names = ("gan_t", "gan_s", "cyc", "identity", "d_t", "d_s")
    rows = [{"step": n} | {name: n + k for k, name in enumerate(names)} for n in range(2)]
    (model / "losses.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert loss_curves(tmp_path) == {
        "translate/L_gan^t": ((0, 0), (1, 1)),
        "translate/L_gan^s": ((0, 1), (1, 2)),
        "translate/L_cyc": ((0, 2), (1, 3)),
        "translate/L_identity": ((0, 3), (1, 4)),
        "translate/L of D_t": ((0, 4), (1, 5)),
        "translate/L of D_s": ((0, 5), (1, 6)),
    }
