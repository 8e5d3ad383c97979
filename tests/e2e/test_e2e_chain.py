"""The whole chain on a tiny phantom: same result twice, killed and resumed, truth apart."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest

import labelferry
from labelferry.errors import UserError
from labelferry.organs import FLARE
from labelferry.pipeline.chain import dry_run, find_input, status
from labelferry.pipeline.config import load_config
from labelferry.pipeline.events import Silent
from labelferry.segment.bundle import read_bundle

METHOD = ("prepare", "translate", "teach", "match", "refine", "distil")
BOOKKEEPING = {"manifest.json", "state.json"}


def digest(run: Path) -> dict[str, str]:
    """Hash of every file that a stage of the method made, its bookkeeping of times apart."""
    return {
        path.relative_to(run).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for stage in METHOD
        for path in sorted((run / stage).rglob("*"))
        if path.is_file() and path.name not in BOOKKEEPING
    }


@pytest.fixture(scope="session")
def undisturbed(cohort, tiny, tmp_path_factory):
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    result = labelferry.adapt(
        run, cohort / "source", cohort / "target", overrides=tiny, size="demo"
    )
    assert result.exit_code == 0
    return run


def test_leaves_a_report_and_a_model(undisturbed):
    page = (undisturbed / "report" / "report.html").read_text()
    assert "<html" in page and "T1" in page
    assert [state for _, state, _ in status(undisturbed)] == ["done"] * 7


def test_the_student_begins_with_a_part_of_the_network_before_it(undisturbed):
    bundle, _ = read_bundle(undisturbed / "distil" / "model")
    assert bundle.provenance["warm_start"] is True


def test_unchanged_run_does_nothing(undisturbed, cohort, tiny):
    before = digest(undisturbed)
    config = load_config("default", "demo", tiny)
    data, _ = find_input(cohort / "source", cohort / "target", FLARE, Silent())
    assert {row.state for row in dry_run(undisturbed, config, data)} == {"unchanged"}
    started = time.monotonic()
    labelferry.adapt(undisturbed, cohort / "source", cohort / "target", overrides=tiny, size="demo")
    assert digest(undisturbed) == before and time.monotonic() - started < 30


def command(run, cohort, tiny, *more):
    sets = [part for override in tiny for part in ("--set", override)]
    return [
        sys.executable,
        "-m",
        "labelferry",
        "adapt",
        str(run),
        "--source",
        str(cohort / "source"),
        "--target",
        str(cohort / "target"),
        "--size",
        "demo",
        *sets,
        *more,
    ]


def kill_when(run, cohort, tiny, ready):
    """Start a run and kill it hard as soon as ``ready()``; returns whether it was still alive."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command(run, cohort, tiny),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not ready():
        time.sleep(0.01)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    process.wait()
    return alive


def test_killed_three_times_and_resumed_is_bitwise_the_same(undisturbed, cohort, tiny, tmp_path):
    run = tmp_path / "run"
    moments = {
        "translate": lambda: (run / "translate" / "model" / "checkpoint.pt").exists(),
        "teach": lambda: (run / "teach" / "checkpoint.pt").exists(),
        "match": lambda: any((run / "match" / "provenance").glob("*.json")),
    }
    for stage, ready in moments.items():
        assert kill_when(run, cohort, tiny, ready), f"the run ended before it was killed in {stage}"
        assert not (run / stage / "manifest.json").exists(), f"{stage} was already done"
    done = subprocess.run(command(run, cohort, tiny), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert digest(run) == digest(undisturbed)


def test_no_stage_reads_a_target_label(undisturbed, cohort, tiny, tmp_path):
    """A target cohort with a labels folder full of noise gives the same bytes as one without."""
    target = tmp_path / "target"
    shutil.copytree(cohort / "target", target)
    (target / "labels").mkdir()
    rng = np.random.default_rng(0)
    for image in (target / "images").iterdir():
        like = nibabel.load(image)
        noise = rng.integers(0, 14, like.shape).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(noise, like.affine), target / "labels" / image.name)
    table = (target / "cohort.csv").read_text().splitlines()
    head = table[0].split(",")
    image, label, annotated = (head.index(k) for k in ("image", "label", "annotated"))
    rows = [table[0]]
    for line in table[1:]:
        cells = line.split(",")
        cells[label] = cells[image].replace("images/", "labels/")
        cells[annotated] = "1;2;3"
        rows.append(",".join(cells))
    (target / "cohort.csv").write_text("\n".join(rows) + "\n")
    run = tmp_path / "run"
    labelferry.adapt(run, cohort / "source", target, overrides=tiny, size="demo")
    assert digest(run) == digest(undisturbed)


def test_audit_hook_sees_no_opening_below_the_truth_folder(cohort, tiny, tmp_path):
    code = f"""
import sys
truth = {str(cohort / "truth")!r}
def hook(event, arguments):
    if event in ("open", "os.listdir", "os.scandir", "os.stat") and arguments:
        name = arguments[0]
        if isinstance(name, (str, bytes)) and truth in str(name):
            sys.stderr.write(f"opened {{name}}\\n"); sys.stderr.flush()
            import os; os._exit(77)
sys.addaudithook(hook)
import labelferry
if __name__ == "__main__":
    labelferry.adapt({str(tmp_path / "run")!r}, {str(cohort / "source")!r},
                     {str(cohort / "target")!r}, overrides={tiny!r}, size="demo")
    try:
        open(truth + "/probe")
    except OSError:
        pass
    sys.exit(3)
"""
    script = tmp_path / "script.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=False
    )
    # the probe at the end must trip the hook: it proves that the hook was alive all the time
    assert done.returncode == 77 and "opened" in done.stderr and done.stderr.count("opened") == 1
    assert done.stderr.strip().endswith("probe"), done.stderr


def test_prediction_lies_on_the_inputs_own_grid(undisturbed, cohort, tmp_path):
    model = labelferry.load_model(undisturbed)
    image = next((cohort / "test" / "images").iterdir())
    labels = model.predict(image)
    assert labels.array.shape == nibabel.load(image).shape
    np.testing.assert_allclose(labels.grid.affine, nibabel.load(image).affine)


def test_evaluate_is_callable_from_the_package(undisturbed, cohort, tmp_path):
    result = labelferry.evaluate(cohort / "truth" / "test", cohort / "truth" / "test")
    assert result.to_json()["mean"]["all"]["dsc"] == 1.0


def test_paper_preset_runs(cohort, tiny, tmp_path):
    result = labelferry.adapt(
        tmp_path / "run",
        cohort / "source",
        cohort / "target",
        preset="paper",
        size="demo",
        overrides=(*tiny, "refine.select.rounds=2", "refine.network.context=0"),
    )
    assert result.report.exists()


def test_missing_folder_is_told_with_the_next_step(cohort, tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        labelferry.adapt(tmp_path / "run", cohort / "source", tmp_path / "nowhere", size="demo")
    assert not (tmp_path / "run").exists(), "nothing half-written"
