"""A student with voxels of its own: their search, and the stage that trains it."""

import hashlib
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelferry.errors import UserError
from labelferry.files import read_json, write_json
from labelferry.io.discover import discover
from labelferry.io.nifti import read_image, read_labels
from labelferry.organs import FLARE
from labelferry.pipeline.config import load_config
from labelferry.pipeline.events import Silent
from labelferry.pipeline.prepared import prepared_cases
from labelferry.pipeline.spacing import (
    Setting,
    candidate,
    candidates,
    choose_spacing,
    ladder,
    mean_lost,
    points,
    round_trip,
)
from labelferry.pipeline.stage import Context
from labelferry.pipeline.stages import distil
from labelferry.predict.predictor import load_model
from labelferry.segment.bundle import read_bundle
from labelferry.segment.config import NetworkConfig
from labelferry.segment.flop import window_flop
from labelferry.volume import Grid, Segmentation

relaxed = settings(deadline=None)
ISO = (1.0, 1.0, 1.0)
NETWORK = NetworkConfig(patch=(8, 16, 16), channels=2, downsamplings=1, convolutions=1)


def setting(working, extent, network=NETWORK):
    return Setting(network, working, [extent], images=1, classes=3, step=0.5)


def test_the_ladder_lifts_the_finest_axes_first():
    steps = ladder((1.0, 1.0, 2.0))
    assert steps[:3] == [(1.0, 1.0, 2.0), (1.19, 1.19, 2.0), (1.41, 1.41, 2.0)]
    assert steps[4:6] == [(2.0, 2.0, 2.0), (2.38, 2.38, 2.38)]
    assert steps[-1] == (4.0, 4.0, 4.0) and len(steps) == 9


def test_what_a_candidate_costs_by_hand():
    # 32x32x16 voxels: windows of 16 start at 0, 8, 16 in x and y, those of 8 at 0, 4, 8 in z
    one = candidate(setting(ISO, (32.0, 32.0, 16.0)), ISO, (8, 16, 16))
    assert one.windows == 27
    assert one.gflop == 27 * window_flop(NETWORK, (1, 1, 1), 1, 3) / 1e9
    flat = NetworkConfig(dimensions=2, patch=(16, 16), channels=2, downsamplings=1)
    assert candidate(setting(ISO, (32.0, 16.0, 5.0), flat), ISO, (16, 16)).windows == 15


def test_a_patch_keeps_its_millimetres_or_its_voxels_within_the_image():
    found = candidates(setting((2.0, 2.0, 2.0), (64.0, 48.0, 16.0)))
    assert found == sorted(found, key=lambda one: (one.gflop, one.spacing, one.patch))
    halved = {one.patch for one in found if one.spacing == (4.0, 4.0, 4.0)}
    assert halved == {(4, 8, 8), (4, 12, 16)}
    # 10x12x16 voxels: the plane needs 192 of the patch's 2048, so that it may be 10 high
    found = candidates(setting((2.0, 2.0, 2.0), (64.0, 48.0, 40.0)))
    halved = {one.patch for one in found if one.spacing == (4.0, 4.0, 4.0)}
    assert halved == {(4, 8, 8), (8, 12, 16), (10, 12, 16)}
    assert all(math.prod(one.patch) <= 8 * 16 * 16 for one in found)


@relaxed
@given(st.lists(st.floats(0, 0.2), min_size=9, max_size=9), st.floats(0, 10), st.booleans())
def test_the_choice_is_the_cheapest_that_may_be(lost, allowed, rises):
    steps = ladder((1.0, 1.0, 2.0))
    lost = sorted(lost) if rises else lost
    table = dict(zip(steps, [0.0, *lost[1:]], strict=True))
    asked = []

    def ask(spacing):
        asked.append(spacing)
        return {1: table[spacing]}

    choice = choose_spacing(setting(steps[0], (40.0, 30.0, 20.0)), ask, allowed=allowed)
    assert 100 * table[choice.chosen.spacing] <= allowed
    assert len(asked) == len(set(asked)) and steps[0] not in asked
    if rises:
        for one in choice.candidates[: choice.candidates.index(choice.chosen)]:
            assert 100 * table[one.spacing] > allowed
        assert len(asked) <= 4, "of eight steps"
    assert choice.gain >= 1
    rows = choice.to_json({1: "liver"})["candidates"]
    assert sum(row["chosen"] for row in rows) == 1
    assert [row["gflop"] for row in rows] == sorted(row["gflop"] for row in rows)


def line(values):
    grid = Grid((len(values), 1, 1), np.eye(4))
    return Segmentation(np.array(values, np.uint8).reshape(-1, 1, 1), grid)


def test_a_round_trip_by_hand():
    # on voxels twice as long the shares of organ 1 are 0, 1, 1, 0; back they are 1/4 and 3/4 at
    # its ends. Those of organ 2, one voxel, are 0, 1/2, 0, 0: nowhere more than 3/8
    assert round_trip(line([0, 0, 1, 1, 1, 1, 0, 0]), (2, 1, 1), {1}) == {1: 0.0}
    assert round_trip(line([0, 0, 0, 2, 0, 0, 0, 0]), (2, 1, 1), {1, 2}) == {2: 1.0}
    assert round_trip(line([0, 0, 0, 2, 0, 0, 0, 0]), (2, 1, 1), {1}) == {}
    assert mean_lost([{1: 0.0, 2: 1.0}, {2: 0.5}]) == {1: 0.0, 2: 0.75}
    assert points({1: 0.0, 2: 0.75}) == 37.5 and points({}) == 0.0


@relaxed
@given(st.integers(0, 2**32 - 1), st.floats(1.0, 4.0))
def test_a_round_trip_loses_a_share_of_what_is_there(seed, factor):
    rng = np.random.default_rng(seed)
    array = np.repeat(rng.integers(0, 3, (3, 4, 3)), 2, axis=0).astype(np.uint8)
    labels = Segmentation(array, Grid(array.shape, np.diag([1.0, 2.0, 3.0, 1.0])))
    spacing = tuple(mm * factor for mm in labels.grid.spacing)
    lost = round_trip(labels, spacing, {1, 2})
    assert set(lost) == labels.held and all(0 <= value <= 1 for value in lost.values())
    assert not any(round_trip(labels, labels.grid.spacing, {1, 2}).values())


def test_work_is_a_mean_over_the_images_and_a_patch_may_fit_the_largest():
    small, large = (16.0, 16.0, 8.0), (24.0, 16.0, 8.0)
    both = replace(setting(ISO, small), extents=[small, small, large])
    one = candidate(both, ISO, (8, 16, 16))
    assert one.windows == pytest.approx(4 / 3)
    assert one.gflop == pytest.approx(4 / 3 * window_flop(NETWORK, ISO, 1, 3) / 1e9)
    patches = {one.patch for one in candidates(both) if one.spacing == (2.0, 2.0, 2.0)}
    assert patches == {(4, 8, 8), (4, 8, 12)}


def test_voxels_without_size_are_refused():
    with pytest.raises(UserError, match="must be positive"):
        load_config("default", "demo", ["distil.spacing=[2.0, 0.0, 2.0]"])
    assert load_config("paper", "full").distil.spacing is None
    assert load_config("default", "full", ["distil.spacing=auto"]).distil.spacing == "auto"


@pytest.fixture(scope="module")
def learn(taught, cohort, tiny, tmp_path_factory):
    """Run the stage on labels that ``refine`` would have left; T1 alone, for speed."""

    def learn(*overrides, keep=None):
        run = tmp_path_factory.mktemp("distilled") / "run"
        shutil.copytree(taught, run)
        shutil.copytree(run / "teach" / "labels", run / "refine" / "labels")
        cases = prepared_cases(run / "prepare", "target")
        organs = sorted(organ.id for organ in FLARE)
        rows = [{"case": c.id, "organs": organs} for c in cases if c.domain == "T1"]
        write_json(run / "refine" / "selection.json", {"schema_version": 1, "cases": rows})
        (run / "distil").mkdir()
        found = [discover(cohort / role, role, FLARE).cohort for role in ("source", "target")]
        anew = "distil.inherit=false"  # there is no refined network
        config = load_config("default", "demo", [*tiny, anew, *overrides])
        source, target = found[0], found[1].without_labels()
        return Context("distil", run, config, FLARE, source, target, 0, "cpu", Silent())

    return learn


def digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).digest() for p in files
    }


@pytest.fixture(scope="module")
def distilled(learn):
    there = learn("distil.spacing=[12.0, 12.0, 20.0]")
    return there, distil.run(there)


def test_a_student_has_voxels_of_its_own(distilled, cohort):
    there, summary = distilled
    assert not summary.failed and summary.facts["selected"] > 0
    bundle, _ = read_bundle(there.folder / "model")
    assert bundle.anatomy.spacing == (12.0, 12.0, 20.0)
    for case in prepared_cases(there.run / "prepare", "target"):
        labels = read_labels(there.folder / "labels" / f"{case.id}.nii.gz", FLARE)
        assert labels.grid.matches(read_image(case.file("image")).volume.grid)
    assert not (there.folder / "own").exists(), "it is needed no more"
    image = next((cohort / "target").rglob("*_T1.nii.gz"))
    found = load_model(there.folder, device="cpu").predict(image)
    assert found.grid.matches(read_image(image).volume.grid)


def test_a_student_inherits_from_a_network_of_other_voxels(distilled, learn):
    there = learn("distil.spacing=[16.0, 16.0, 20.0]", "distil.inherit=true")
    shutil.copytree(distilled[0].folder / "model", there.run / "refine" / "model")
    distil.run(there)
    bundle, _ = read_bundle(there.folder / "model")
    assert bundle.anatomy.spacing == (16.0, 16.0, 20.0)
    assert bundle.provenance["warm_start"] is True
    begun, _ = read_bundle(distilled[0].folder / "model")
    assert begun.provenance["warm_start"] is False


def test_stopped_and_resumed_a_student_is_the_same(distilled, learn):
    class StopError(Exception):
        pass

    class Stop(Silent):
        def progress(self, what, done, total):
            if what == wanted and done == 2:
                raise StopError

    for wanted in ("cases prepared", "student steps", "MRI labelled by the student"):
        there = learn("distil.spacing=[12.0, 12.0, 20.0]")
        with pytest.raises(StopError):
            distil.run(Context(**{**vars(there), "events": Stop()}))
        distil.run(there)
        assert digest(there.folder) == digest(distilled[0].folder), wanted


def test_auto_trains_what_the_table_says(learn):
    there = learn("distil.spacing=auto", "distil.auto_loss=60")
    summary = distil.run(there)
    table = read_json(there.folder / "spacing.json", schema=1)
    (chosen,) = (row for row in table["candidates"] if row["chosen"])
    assert chosen["lost_points"] <= 60 and summary.facts["gain"] > 1
    assert chosen["gflop"] < table["working"]["gflop"]
    bundle, _ = read_bundle(there.folder / "model")
    assert list(bundle.anatomy.spacing) == chosen["spacing_mm"]
    assert list(bundle.network.patch) == chosen["patch"]
    assert "times less work" in summary.text


def test_auto_keeps_the_voxels_where_nothing_may_be_lost(learn):
    there = learn("distil.spacing=auto", "distil.auto_loss=0")
    distil.run(there)
    bundle, _ = read_bundle(there.folder / "model")
    assert bundle.anatomy.spacing == there.config.prepare.spacing
    assert math.prod(bundle.network.patch) <= math.prod(there.config.distil.network.patch)
