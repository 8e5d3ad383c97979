"""The contract that every stage of the method keeps."""

import hashlib
import shutil

import pytest

import labelferry
from labelferry.errors import UserError
from labelferry.pipeline.manifest import Manifest, list_outputs

METHOD = ("prepare", "translate", "teach", "match", "refine", "distil")


def digest(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("manifest.json", "state.json")
    }


class StopError(Exception):
    """Stands for a kill."""


class StopIn:
    """Events that end the run at the n-th step of one stage."""

    def __init__(self, stage, after):
        self.wanted, self.after = stage, after
        self.now, self.steps = "", 0

    def stage(self, name, state, text):
        self.now = name if state == "start" else ""

    def progress(self, what, done, total):
        if self.now == self.wanted and done:
            self.steps += 1
            if self.steps > self.after:
                raise StopError

    def note(self, text, level):
        pass


@pytest.fixture(scope="module")
def reference(cohort, tiny, tmp_path_factory):
    run = tmp_path_factory.mktemp("contract") / "run"
    labelferry.adapt(
        run, cohort / "source", cohort / "target", size="demo", overrides=tiny, until="distil"
    )
    return run


@pytest.mark.parametrize("after", [1, 3])
@pytest.mark.parametrize("stage", METHOD)
def test_stopped_and_resumed_gives_the_same_bytes(stage, after, reference, cohort, tiny, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(reference, run)
    for later in METHOD[METHOD.index(stage) :]:
        shutil.rmtree(run / later)
    go = {"size": "demo", "overrides": tiny, "until": stage}
    with pytest.raises(StopError):
        labelferry.adapt(
            run, cohort / "source", cohort / "target", events=StopIn(stage, after), **go
        )
    assert Manifest.read(run / stage) is None, "a stage that was stopped is not done"
    labelferry.adapt(run, cohort / "source", cohort / "target", **go)
    assert digest(run / stage) == digest(reference / stage)
    assert not list(run.rglob(".part-*")), "nothing half-written is left"


@pytest.mark.parametrize("stage", METHOD)
def test_manifest_says_what_was_made(stage, reference):
    manifest = Manifest.read(reference / stage)
    assert manifest.stage == stage and manifest.holds(reference / stage)
    assert manifest.outputs == list_outputs(reference / stage)
    assert manifest.seconds >= 0 and manifest.peak_memory_mb > 0 and manifest.summary["text"]


@pytest.mark.parametrize("stage", METHOD[1:])
def test_a_damaged_input_is_noticed(stage, reference, cohort, tiny, tmp_path):
    """An output of the stage before that was cut is made again before the stage may read it."""
    run = tmp_path / "run"
    shutil.copytree(reference, run)
    before = METHOD[METHOD.index(stage) - 1]
    victim = max((p for p in (run / before).rglob("*.nii.gz")), key=lambda p: p.stat().st_size)
    victim.write_bytes(victim.read_bytes()[:-20])
    labelferry.adapt(
        run, cohort / "source", cohort / "target", size="demo", overrides=tiny, until=stage
    )
    assert digest(run / before) == digest(reference / before)


def test_no_path_and_no_name_of_the_input_is_kept(reference, cohort):
    """Original paths may name a patient: they reach no manifest, log or run file."""
    secret = str(cohort)
    for path in reference.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".jsonl", ".html", ".csv"):
            assert secret not in path.read_text(encoding="utf-8"), path


def test_run_without_usable_cases_is_refused(cohort, tiny, tmp_path):
    target = tmp_path / "target" / "images"
    target.mkdir(parents=True)
    (target / "q01_T1.nii.gz").write_bytes(b"")
    with pytest.raises(UserError, match="no usable target case") as caught:
        labelferry.adapt(
            tmp_path / "run", cohort / "source", tmp_path / "target", size="demo", overrides=tiny
        )
    assert "q01_T1" in str(caught.value)
