"""What is seen of teachers without truth, worked by hand on label maps of a few voxels."""

import json

import numpy as np
import pytest

from labelferry.errors import UserError
from labelferry.experiments.choosing import CRITERION
from labelferry.experiments.criteria import (
    Teacher,
    consensus,
    criteria,
    found,
    mean_rank,
    plausible,
    read_criteria,
    sequences_agree,
    write_criteria,
)
from labelferry.io.nifti import write_volume
from labelferry.organs import FLARE
from labelferry.pipeline.manifest import Manifest, list_outputs
from labelferry.pipeline.prepared import PreparedCase
from labelferry.prior.plausibility import CasePlausibility, OrganPlausibility
from labelferry.volume import Grid, Segmentation

GRID = Grid((4, 1, 1), np.diag([2.0, 2.0, 5.0, 1.0]))


def case(name, patient="p"):
    return PreparedCase(name, "target", patient, "T1", "T1", frozenset(), None)


def judged(z, *, missing=(), present=()):
    organs = {
        organ: OrganPlausibility(z, 0.0, 0.0, organ in present, 1, 1.0, False, False)
        for organ in (*missing, *present)
    }
    return CasePlausibility(z, organs, 0.0, frozenset(missing), frozenset())


@pytest.fixture
def teacher(tmp_path):
    """Makes a teacher from label maps of four voxels: ``{case: values}``."""

    def make(row, maps, plausibility=None, patients=None, cases=None):
        folder = tmp_path / row
        for name, values in maps.items():
            array = np.array(values, np.uint8).reshape(4, 1, 1)
            write_volume(folder / f"{name}.nii.gz", Segmentation(array, GRID))
        names = tuple(case(name, (patients or {}).get(name, name)) for name in cases or maps)
        return Teacher(row, names, folder, plausibility or {})

    return make


def test_plausibility_is_minus_the_mean_z(teacher):
    maps = {"a": [1, 0, 0, 0], "b": [1, 0, 0, 0]}
    assert plausible(teacher("x", maps, {"a": judged(1.0), "b": judged(2.5)})) == -1.75


def test_what_cannot_be_judged_counts_as_the_worst_z(teacher):
    """z is at most twice the cap of 5: of size and of position."""
    one = teacher("x", {"a": [0] * 4}, {"a": judged(float("inf"))}, cases=["a", "failed"])
    assert plausible(one) == -10.0
    assert plausible(teacher("y", {})) is None


def test_found_is_the_share_of_the_organs_looked_for(teacher):
    plausibility = {"a": judged(1, missing=[1], present=[2, 3, 4]), "b": judged(1, present=[1])}
    one = teacher("x", {"a": [1] * 4, "b": [1] * 4}, plausibility, cases=["a", "b", "failed"])
    assert found(one) == pytest.approx((0.75 + 1 + 0) / 3)
    assert found(teacher("y", {"a": [0] * 4}, {"a": judged(float("inf"))})) is None


def test_sequences_of_one_patient_agree(teacher):
    maps = {"p_T1": [1, 1, 2, 0], "p_T2": [1, 0, 2, 0], "q_T1": [1, 1, 1, 1]}
    patients = {"p_T1": "p", "p_T2": "p", "q_T1": "q"}
    # liver 2·1 / (2 + 1), right kidney 1; q has one sequence
    assert sequences_agree(teacher("x", maps, patients=patients), FLARE) == pytest.approx(5 / 6)
    assert sequences_agree(teacher("y", {"q_T1": [1] * 4}), FLARE) is None
    empty = teacher("z", {"p_T1": [0] * 4, "p_T2": [0] * 4}, patients=patients)
    assert sequences_agree(empty, FLARE) == 0.0
    failed = teacher("w", {"p_T1": [1] * 4}, patients=patients, cases=["p_T1", "p_T2"])
    assert sequences_agree(failed, FLARE) == 0.0


def consensus_of(teachers):
    found = consensus(teachers, FLARE)
    return found["consensus"], found["teachers agree"]


def test_consensus_by_hand(teacher):
    three = [
        teacher("x", {"a": [1, 1, 2, 0]}),
        teacher("y", {"a": [1, 1, 0, 0]}),
        teacher("z", {"a": [1, 0, 2, 2]}),
    ]
    voted, paired = consensus_of(three)
    # x against the vote of y, z = 1 0 0 0 (of equals the smaller): liver 2/3, right kidney 0
    assert voted["x"] == pytest.approx((2 / 3 + 0) / 2)
    # y against the vote of x, z = 1 0 2 0: liver 2/3, right kidney 0
    assert voted["y"] == pytest.approx(1 / 3)
    # z against the vote of x, y = 1 1 0 0: liver 2·1 / (1 + 2), right kidney 0
    assert voted["z"] == pytest.approx(1 / 3)
    xy, xz, yz = (1 + 0) / 2, (2 / 3 + 2 / 3) / 2, (2 / 3 + 0) / 2
    assert paired == pytest.approx({"x": (xy + xz) / 2, "y": (xy + yz) / 2, "z": (xz + yz) / 2})


def test_a_teacher_that_finds_nothing_agrees_with_nobody(teacher):
    some = [1, 1, 2, 0]
    maps = {"x": some, "y": some, "z": some, "empty": [0] * 4}
    voted, paired = consensus_of([teacher(row, {"a": values}) for row, values in maps.items()])
    assert voted == {"x": 1.0, "y": 1.0, "z": 1.0, "empty": 0.0}
    assert paired["empty"] == 0.0 and paired["x"] == pytest.approx(2 / 3)


def test_a_failed_case_counts_as_nothing_found(teacher):
    maps = {"a": [1, 1, 0, 0], "b": [1, 1, 0, 0]}
    three = [teacher(row, maps) for row in "xy"]
    failed = teacher("z", {"a": [1, 1, 0, 0]}, cases=["a", "b"])
    voted, _ = consensus_of([*three, failed])
    assert voted["z"] == 0.5


def test_nobody_found_anything(teacher):
    three = [teacher(row, {"a": [0] * 4}) for row in "xyz"]
    voted, paired = consensus_of(three)
    assert set(voted.values()) == set(paired.values()) == {None}


def test_ranks_are_shared_and_averaged():
    first = {"x": 0.1, "y": 0.3, "z": 0.3}  # ranks 1, 2.5, 2.5
    second = {"x": 9.0, "y": 8.0, "z": 7.0}  # ranks 3, 2, 1
    assert mean_rank([first, second]) == pytest.approx(
        {"x": (1 + 3) / 6, "y": (2.5 + 2) / 6, "z": (2.5 + 1) / 6}
    )
    assert mean_rank([first, {**second, "x": None}])["x"] is None


@pytest.mark.parametrize("number", [1, 2])
def test_too_few_teachers_are_no_choice(teacher, number):
    few = [teacher(f"t{n}", {"a": [1, 0, 0, 0]}, {"a": judged(1.0)}) for n in range(number)]
    with pytest.raises(UserError, match=r"three teachers.*" + str(number)):
        criteria(few, FLARE)


def run_folder(folder, values):
    """A run whose teacher is done."""
    array = np.array(values, np.uint8).reshape(4, 1, 1)
    write_volume(folder / "teach" / "labels" / "a.nii.gz", Segmentation(array, GRID))
    plain = judged(1.0 + sum(values), present=[1]).to_json()
    text = json.dumps({"schema_version": 1, "domains": {}, "cases": {"a": plain}})
    (folder / "teach" / "plausibility.json").write_text(text)
    about = {"id": "a", "role": "target", "patient": "a", "sequence": "T1", "domain": "T1"}
    (folder / "prepare").mkdir()
    (folder / "prepare" / "cases.json").write_text(
        json.dumps({"schema_version": 1, "cases": [{**about, "annotated": []}]})
    )
    outputs = list_outputs(folder / "teach")
    Manifest("teach", "f", {}, {}, outputs, 0, {}, 1.0, 1.0, {}, {}).write(folder / "teach")
    return folder


def test_criteria_are_written_once_and_follow_the_teachers(tmp_path):
    path = tmp_path / "criteria.json"
    maps = {"x": [1, 1, 0, 0], "y": [1, 0, 0, 0], "z": [1, 1, 1, 0]}
    runs = {row: run_folder(tmp_path / row, values) for row, values in maps.items()}
    assert read_criteria(path) == {}
    write_criteria(path, runs, FLARE)
    first, time = read_criteria(path), path.stat().st_mtime_ns
    assert CRITERION in first  # what decides is computed
    assert first["plausibility"] == {"x": -3.0, "y": -2.0, "z": -4.0}
    write_criteria(path, runs, FLARE)
    assert path.stat().st_mtime_ns == time
    write_criteria(path, {**runs, "w": run_folder(tmp_path / "w", [0, 0, 0, 1])}, FLARE)
    assert read_criteria(path)["plausibility"].keys() == {"x", "y", "z", "w"}
    write_criteria(path, {row: runs[row] for row in "xy"}, FLARE)
    assert read_criteria(path) == {}
