"""Faults that a reading of the chain has found, each with what a person would have met."""

import json
import pickle
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from labelferry.anatomy.config import AnatomyConfig
from labelferry.cases import Case, Cohort
from labelferry.cli import run as command_line
from labelferry.errors import UserError
from labelferry.io.nifti import write_volume
from labelferry.organs import FLARE, Organ, OrganSet
from labelferry.pipeline import chain
from labelferry.pipeline.config import load_config
from labelferry.pipeline.events import Silent
from labelferry.pipeline.manifest import Manifest, renew
from labelferry.pipeline.runfile import write_run
from labelferry.pipeline.runner import Input, hash_cohort, plan, run_stages
from labelferry.pipeline.stage import Context, Stage, Summary, execute
from labelferry.pipeline.stages import prepare
from labelferry.pipeline.students import source_examples
from labelferry.segment.config import NetworkConfig, TrainConfig
from labelferry.segment.engine import Task, train_model
from labelferry.segment.examples import Example, PatchSampler, Stored, describe, load_examples
from labelferry.segment.plans import make_plans
from labelferry.segment.samples import PatchDataset
from labelferry.volume import Grid, Segmentation, Volume

ORGANS = OrganSet((Organ(1, "liver"), Organ(2, "spleen"), Organ(3, "gallbladder")))
NETWORK = NetworkConfig(dimensions=2, patch=(16, 16), channels=4, downsamplings=2)


def mri(name, domain):
    return Case(name, name, "MR", domain, domain, Path(f"/secret/{name}.nii.gz"))


def context(folder, config=None, source=(), target=()):
    return Context(
        "prepare",
        folder,
        config or load_config("default", "demo"),
        FLARE,
        Cohort(source),
        Cohort(target),
        0,
        "cpu",
        Silent(),
    )


@pytest.fixture
def stored(tmp_path):
    """Two examples, of which neither annotates organ 3."""
    grid = Grid((20, 18, 6), np.diag([3.0, 3.0, 5.0, 1.0]))
    examples = []
    for n in range(2):
        image = np.random.default_rng(n).random(grid.shape).astype(np.float32) + 0.1
        labels = np.zeros(grid.shape, np.uint8)
        labels[2:8, 2:8, 1:4] = 1
        write_volume(tmp_path / f"{n}.nii.gz", Volume(image, grid))
        write_volume(tmp_path / f"{n}_label.nii.gz", Segmentation(labels, grid))
        known = frozenset({1, 2}) if n else frozenset({1})
        path = tmp_path / f"{n}.nii.gz"
        examples.append(Example(f"q{n}.mri", (path,), tmp_path / f"{n}_label.nii.gz", known))
    plans = make_plans(NETWORK, (5, 3, 3), 1, batch=2)
    return load_examples(examples, ORGANS, plans, tmp_path / "cache")


def test_an_organ_that_no_example_annotates_is_nowhere(stored):
    """Merged with background, its score would be free: the network could call all background so."""
    sampler = PatchSampler(stored, (16, 16), 1.0, True)
    samples = PatchDataset(
        sampler,
        lambda image, segmentation: {"image": image, "segmentation": segmentation},
        TrainConfig(),
        classes=len(ORGANS) + 1,
        seed=0,
    )
    seen = {tuple(samples[n][2].tolist()) for n in range(20)}
    assert seen == {(True, True, False, True), (True, True, True, True)}, "organ 2 stays unknown"


def test_examples_go_to_workers_as_paths(stored):
    """Memory maps pickle as voxels: eight workers would each hold the whole data set."""
    sent = pickle.dumps(PatchSampler(stored, (16, 16), 1.0, True))
    assert len(sent) < 2000
    here, there = PatchSampler(stored, (16, 16), 1.0, True), pickle.loads(sent)
    draws = [sampler.draw(np.random.default_rng(3)).data for sampler in (here, there)]
    np.testing.assert_array_equal(*draws)


def test_few_examples_are_open_at_a_time(stored):
    """Thousands of open maps pass the system's limit of open files."""
    many = Stored(tuple(stored.examples) * 150, tuple(stored.folders) * 150)
    assert len(many) == 300 and len(many[10:20]) == 10
    unique = Stored(
        tuple(
            Example(f"q{n}", e.channels, e.label, e.annotated) for n, e in enumerate(many.examples)
        ),
        many.folders,
    )
    PatchSampler(unique, (16, 16), 1.0, True).draw(np.random.default_rng(0))
    opened = [f.path for f in psutil.Process().open_files()]
    assert sum(path.endswith(".npy") for path in opened) <= 2 * 64 + 4
    assert unique[0].range == (float(unique[0].data.min()), float(unique[0].data.max()))


def test_the_bundle_names_no_case(stored):
    assert describe(stored.examples) == [
        {"cases": 1, "annotated": [1], "weight": 1.0, "randomise": "none"},
        {"cases": 1, "annotated": [1, 2], "weight": 1.0, "randomise": "none"},
    ]


def test_a_kill_after_the_bundle_leaves_no_cache_in_the_outputs(tmp_path):
    for name in ("model/bundle.json", "cache/a/data.npy", "checkpoint.pt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    task = Task("teacher", ORGANS, "plain", AnatomyConfig(), NETWORK)
    train_model([], task, TrainConfig(), tmp_path, seed=0, device="cpu")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_an_image_of_zeros_is_told(tmp_path):
    grid = Grid((8, 8, 4), np.diag([3.0, 3.0, 5.0, 1.0]))
    write_volume(tmp_path / "i.nii.gz", Volume(np.zeros(grid.shape, np.float32), grid))
    write_volume(tmp_path / "l.nii.gz", Segmentation(np.ones(grid.shape, np.uint8), grid))
    example = Example("q", (tmp_path / "i.nii.gz",), tmp_path / "l.nii.gz", frozenset({1}))
    with pytest.raises(UserError, match="zero everywhere"):
        load_examples([example], ORGANS, make_plans(NETWORK, (5, 3, 3), 1, batch=2), tmp_path / "c")


def test_a_refused_case_is_named_without_its_path(tmp_path):
    def work(job):
        raise UserError(
            "bad", case="q1", path="/secret/q1.nii.gz", seen="[Errno 13] /secret/q1.nii.gz"
        )

    failed = context(tmp_path).each("x", work, [1], name=str, made=lambda job: tmp_path / "no")
    assert failed == {"1": "q1: bad; seen: [Errno 13] q1.nii.gz"}


def test_a_ct_and_an_mri_may_share_an_id(tmp_path):
    """The refused MRI 001 must not take the CT 001 with it."""
    grid = Grid((24, 24, 12), np.diag([5.0, 5.0, 5.0, 1.0]))
    x, y, z = np.indices(grid.shape)
    body = (x - 12) ** 2 + (y - 12) ** 2 < 100
    hounsfield = np.where(body, 40.0 + 3 * z, -1000.0).astype(np.float32)
    labels = np.where(body & (x < 10), 1, 0).astype(np.uint8)
    write_volume(tmp_path / "ct.nii.gz", Volume(hounsfield, grid))
    write_volume(tmp_path / "label.nii.gz", Segmentation(labels, grid))
    write_volume(tmp_path / "mr.nii.gz", Volume(np.where(body, 100 + 9.0 * z, 0), grid))
    (tmp_path / "bad.nii.gz").write_bytes(b"")
    ct = Case("001", "a", "CT", "CT", "CT", tmp_path / "ct.nii.gz", tmp_path / "label.nii.gz")
    bad = Case("001", "b", "MR", "T1", "T1", tmp_path / "bad.nii.gz")
    good = Case("002", "c", "MR", "T1", "T1", tmp_path / "mr.nii.gz")
    config = load_config("default", "demo", ["workers=1"])
    there = context(tmp_path / "run", config, (ct,), (bad, good))
    there.folder.mkdir(parents=True)
    summary = prepare.run(there)
    assert summary.facts["source"] == 1 and summary.facts["target"] == {"T1": 1}
    assert set(summary.failed) == {"001"} and str(tmp_path) not in summary.failed["001"]


def test_students_without_mri_are_not_trained_on_weights_of_zero(tmp_path):
    config = load_config("default", "demo")
    assert config.distil.source_share and source_examples(context(tmp_path), config.distil, 0) == []


def test_a_file_that_may_not_be_read_does_not_end_the_run(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    image = tmp_path / "q.nii.gz"
    image.write_bytes(b"voxels")
    monkeypatch.setattr("labelferry.pipeline.runner.hash_file", refuse)
    cohort = Cohort((Case("q", "q", "MR", "T1", "T1", image),))
    assert hash_cohort(cohort, tmp_path / "hashes.json")


def test_target_labels_reach_no_stage(tmp_path):
    seen = []

    def look(there):
        seen.extend(there.target)
        return Summary("done")

    label = tmp_path / "label.nii.gz"
    label.write_bytes(b"truth")
    target = Cohort((Case("q", "q", "MR", "T1", "T1", label, label, frozenset({1})),))
    stages = (Stage("one", lambda config: {}, (), look),)
    data = Input(Cohort(()), target, FLARE)
    config = load_config("default", "demo")
    run_stages(tmp_path / "run", stages, config, data, Silent(), device="cpu")
    assert seen[0].label is None and seen[0].annotated is None
    assert plan(tmp_path / "run", stages, config, data)[0].state == "unchanged"


def test_a_page_made_anew_is_no_damage(tmp_path):
    def write(there):
        (there.folder / "report.html").write_text("page")
        return Summary("done")

    execute(Stage("prepare", lambda config: {}, (), write), context(tmp_path), {})
    folder = tmp_path / "prepare"
    (folder / "report.html").write_text("page with scores")
    assert not Manifest.read(folder).holds(folder)
    renew(folder)
    assert Manifest.read(folder).holds(folder)
    renew(tmp_path / "nothing")


def test_status_tells_what_an_earlier_stage_has_outdated(tmp_path):
    config = load_config("default", "demo")
    write_run(tmp_path, config, FLARE, {})
    manifest = {
        "schema_version": 1,
        "stage": "",
        "fingerprint": "",
        "config": {},
        "outputs": [],
        "seed": 0,
        "versions": {},
        "seconds": 0.0,
        "peak_memory_mb": 0.0,
        "summary": {"text": "fine"},
        "failed": {},
    }
    for name, inputs in (("prepare", {}), ("translate", {"prepare": "another"})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(json.dumps(manifest | {"inputs": inputs}))
    states = {name: state for name, state, _ in chain.status(tmp_path)}
    assert (states["prepare"], states["translate"]) == ("done", "stale")


def test_an_anchor_that_no_case_has_is_told_before_the_teacher(tmp_path):
    data = Input(Cohort(()), Cohort((mri("q", "T2"),)), FLARE)
    config = load_config("paper", "demo")
    with pytest.raises(UserError, match=r"unknown anchor domain; seen: T1; allowed: T2"):
        chain.run_config(tmp_path / "run", config, data, {})
    assert not (tmp_path / "run").exists()
    chain.dry_run(tmp_path / "run", config, data, until="teach")


@pytest.mark.parametrize(
    "override", ["teach.train.learning_rate=inf", "prepare.spacing=[nan, 1.0, 1.0]"]
)
def test_values_that_are_not_finite_are_told(override):
    with pytest.raises(UserError, match=r"(learning_rate|spacing): not a finite number"):
        load_config("default", "demo", [override])


def test_repainted_images_need_their_own_normalisation():
    with pytest.raises(UserError, match="mean and SD"):
        load_config("paper", "demo", ["distil.source_share=0.3"])


@pytest.mark.parametrize("stage", ["teach", "refine", "distil"])
def test_a_share_of_curves_that_would_see_none_is_told(stage):
    with pytest.raises(UserError, match="curves_p = 0"):
        load_config("default", "demo", [f"{stage}.train.curves_p=0"])
    without = ["teach.mix.curves=0", "refine.source_share=0", "distil.source_kind='paint'"]
    off = [f"{name}.train.curves_p=0" for name in ("teach", "refine", "distil")]
    load_config("default", "demo", [*without, *off])


def test_preset_of_an_editor_that_writes_a_mark(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("seed = 3\n", encoding="utf-8-sig")
    assert load_config(str(path), "demo").seed == 3
    path.write_bytes(b"# \xff\n")
    with pytest.raises(UserError, match="cannot be read"):
        load_config(str(path), "demo")


def test_a_device_that_is_not_there_is_told():
    count = torch.cuda.device_count()
    config = load_config("default", "demo", [f"device=cuda:{count}"])
    with pytest.raises(UserError, match="CUDA device"):
        chain.set_up_torch(config)


def test_report_with_half_of_the_labels_is_told(tmp_path, capsys):
    assert command_line(["report", str(tmp_path), "--predictions", str(tmp_path)]) == 2
    assert "--truth" in capsys.readouterr().err
