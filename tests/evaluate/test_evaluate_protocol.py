"""The rules of the protocol, each by hand."""

from __future__ import annotations

import numpy as np
import pytest

from labelferry.errors import UserError
from labelferry.evaluate.protocol import find_protocol, on_grid_of, strict
from labelferry.evaluate.results import (
    UNDEFINED,
    ZERO,
    CaseScores,
    Evaluation,
    Score,
    read_evaluation,
)
from labelferry.files import write_json
from labelferry.organs import FLARE, Organ, OrganSet
from labelferry.volume import Grid, Segmentation, canonical

GRID = Grid((6, 5, 4), np.diag([2.0, 1.0, 1.0, 1.0]))


def labels(grid=GRID, **organs):
    array = np.zeros(grid.shape, np.uint8)
    for name, where in organs.items():
        array[where] = FLARE.named(name).id
    return Segmentation(array, grid)


def values(scores):
    """DSC and NSD of each organ."""
    return {name: (score.dsc, score.nsd) for name, score in scores.items()}


def ids(*names):
    return frozenset(FLARE.named(name).id for name in names)


LIVER = np.s_[1:4, 1:4, 1:3]
SPLEEN = np.s_[4:5, 1:3, 1:3]


def test_two_overlapping_masks():
    truth = labels(liver=np.s_[0:4, 0:2, 0:2])
    prediction = labels(liver=np.s_[2:6, 0:2, 0:2])
    (score,) = strict(prediction, truth, ids("liver"), FLARE).values()
    assert score.dsc == 0.5
    assert score.nsd == 1.0  # two voxels of 2 mm apart: within the liver's 5 mm


def test_the_tolerance_is_the_organs_own():
    loose = OrganSet((Organ(1, "liver", tolerance_mm=5.0),))
    tight = OrganSet((Organ(1, "liver", tolerance_mm=1.0),))
    truth, prediction = labels(liver=np.s_[0:3]), labels(liver=np.s_[0:4])
    assert strict(prediction, truth, frozenset({1}), loose)["liver"].nsd == 1.0
    nsd = strict(prediction, truth, frozenset({1}), tight)["liver"].nsd
    assert nsd is not None and 0 < nsd < 1


def test_a_tolerance_of_whole_voxels_is_not_lost_by_rounding():
    spacing = float(np.float32(0.4))  # a little more than 0.4
    grid = Grid((20, 3, 3), np.diag([spacing, 1.0, 1.0, 1.0]))
    organs = OrganSet((Organ(1, "liver", tolerance_mm=2.0),))
    truth, prediction = labels(grid, liver=np.s_[0:10]), labels(grid, liver=np.s_[0:15])
    assert strict(prediction, truth, frozenset({1}), organs)["liver"].nsd == 1.0


def test_empty_in_both_is_undefined():
    scores = strict(labels(liver=LIVER), labels(liver=LIVER), ids("liver", "gallbladder"), FLARE)
    assert values(scores) == {"liver": (1.0, 1.0), "gallbladder": (None, None)}
    assert scores["gallbladder"] == Score(None, None, None, 0.0, 0.0)


def test_absent_but_predicted_is_zero():
    scores = strict(labels(spleen=SPLEEN), labels(), ids("spleen"), FLARE)
    assert scores == {"spleen": Score(0.0, 0.0, None, 0.008, 0.0)}


def test_present_but_not_predicted_is_zero():
    scores = strict(labels(), labels(spleen=SPLEEN), ids("spleen"), FLARE)
    assert scores == {"spleen": Score(0.0, 0.0, None, 0.0, 0.008)}


def test_an_organ_without_annotation_is_left_out():
    truth = labels(liver=LIVER, spleen=SPLEEN)
    prediction = labels(liver=LIVER, pancreas=SPLEEN)
    assert set(strict(prediction, truth, ids("liver"), FLARE)) == {"liver"}


def test_a_missing_prediction_is_zero_for_all_that_is_annotated():
    scores = strict(None, labels(liver=LIVER), ids("liver", "gallbladder"), FLARE)
    assert scores == {
        "liver": Score(0.0, 0.0, None, None, 0.036),  # 18 voxels of 2 mm³
        "gallbladder": Score(0.0, 0.0, None, None, 0.0),
    }


def test_an_organ_that_fills_the_image():
    everywhere = labels(liver=np.s_[:])
    scores = strict(everywhere, everywhere, ids("liver"), FLARE)
    assert scores == {"liver": Score(1.0, 1.0, 0.0, 0.24, 0.24)}


BAR = Grid((4, 4, 12), np.diag([1.0, 1.0, 2.0, 1.0]))
TUBE = np.s_[1:3, 1:3, 2:8]


def test_a_tube_is_scored_on_the_slices_of_the_truth():
    truth, everywhere = labels(BAR, aorta=TUBE), labels(BAR, aorta=np.s_[1:3, 1:3])
    (score,) = strict(everywhere, truth, ids("aorta"), FLARE).values()
    assert score == Score(1.0, 1.0, 0.0, 0.096, 0.048)  # volumes are those of the whole organs


def test_the_last_slice_of_a_tube_counts():
    truth, short = labels(BAR, aorta=TUBE), labels(BAR, aorta=np.s_[1:3, 1:3, 2:7])
    (score,) = strict(short, truth, ids("aorta"), FLARE).values()
    assert score.dsc == pytest.approx(10 / 11)


def test_a_tube_of_one_slice():
    truth = labels(BAR, esophagus=np.s_[1:3, 1:3, 5:6])
    prediction = labels(BAR, esophagus=np.s_[1:3, 1:3])
    (score,) = strict(prediction, truth, ids("esophagus"), FLARE).values()
    assert (score.dsc, score.nsd) == (1.0, 1.0)


def test_a_tube_predicted_elsewhere_is_zero():
    truth = labels(BAR, aorta=TUBE)
    prediction = labels(BAR, aorta=np.s_[1:3, 1:3, 9:])
    (score,) = strict(prediction, truth, ids("aorta"), FLARE).values()
    assert (score.dsc, score.nsd, score.hd95_mm) == (0.0, 0.0, None)


def test_the_slices_of_a_tube_are_axial_whatever_the_order_of_the_axes():
    affine = np.array([[0, 0, 1.0, 0], [0, 1.0, 0, 0], [-2.0, 0, 0, 0], [0, 0, 0, 1]])
    grid = Grid((12, 4, 4), affine)
    truth, everywhere = (
        labels(grid, aorta=np.s_[2:8, 1:3, 1:3]),
        labels(grid, aorta=np.s_[:, 1:3, 1:3]),
    )
    (score,) = strict(everywhere, truth, ids("aorta"), FLARE).values()
    assert (score.dsc, score.nsd) == (1.0, 1.0)


def test_a_tube_of_a_users_own_list():
    truth, everywhere = labels(BAR, liver=TUBE), labels(BAR, liver=np.s_[1:3, 1:3])
    for name, tube, expected in (
        ("vein", None, 2 / 3),
        ("vein", True, 1.0),
        ("aorta", None, 1.0),
        ("aorta", False, 2 / 3),
    ):
        own = OrganSet.from_json([{"id": 1, "name": name, "tube": tube}])
        assert OrganSet.from_json(own.to_json()) == own
        (score,) = strict(everywhere, truth, frozenset({1}), own).values()
        assert score.dsc == pytest.approx(expected)


def test_hd95_and_volumes_by_hand():
    grid = Grid((14, 12, 11), np.diag([2.0, 1.0, 1.0, 1.0]))
    truth = labels(grid, liver=np.s_[1:11, 1:11, 1:10])
    prediction = labels(grid, liver=np.s_[4:14, 1:11, 1:10])
    (score,) = strict(prediction, truth, ids("liver"), FLARE).values()
    assert score.hd95_mm == 6.0  # three voxels of 2 mm
    assert score.volume_ml == score.truth_volume_ml == pytest.approx(1.8)


def test_organs_come_in_the_order_of_their_ids():
    scores = strict(None, labels(), FLARE.ids, FLARE)
    assert tuple(scores) == FLARE.names


def test_other_orientation_is_turned():
    flipped = np.array([[0, -2.0, 0, 10], [1, 0, 0, -3], [0, 0, 1, 5], [0, 0, 0, 1]])
    truth = labels(Grid((4, 3, 2), flipped), liver=np.s_[0:2, 0:1, 0:1])
    turned = on_grid_of(canonical(truth), truth.grid)
    assert turned.grid is truth.grid
    np.testing.assert_array_equal(turned.array, truth.array)


@pytest.mark.parametrize(
    "grid",
    [
        Grid((6, 5, 4), np.diag([2.1, 1.0, 1.0, 1.0])),
        Grid((6, 5, 5), np.diag([2.0, 1.0, 1.0, 1.0])),
        Grid((6, 5, 4), np.array([[2.0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])),
    ],
)
def test_another_grid_is_refused_with_both_geometries(grid):
    with pytest.raises(UserError) as caught:
        on_grid_of(labels(grid), GRID)
    message = str(caught.value)
    assert "6×5×4, spacing 2×1×1 mm, axes RAS" in message
    assert f"spacing {grid.spacing[0]:g}×1×1 mm" in message


def test_unknown_protocol():
    assert find_protocol("strict") is strict
    with pytest.raises(UserError, match="unknown protocol; seen: kind; allowed: strict, flare24"):
        find_protocol("kind")


def evaluation():
    return Evaluation(
        "strict",
        ("liver", "spleen", "gallbladder", "aorta"),
        (
            CaseScores("a", {"liver": Score(0.8, 0.6), "spleen": Score(0.4, 0.2)}, "T1", "T1"),
            CaseScores("b", {"liver": Score(0.6, 0.2), "gallbladder": UNDEFINED}, "T2", "T2"),
            CaseScores("c", {"liver": ZERO}, "T2", "T2"),
        ),
        missing=("c",),
    )


def test_means_by_hand():
    found = evaluation()
    liver = found.organs["liver"]
    assert (liver.dsc, liver.nsd) == (pytest.approx(1.4 / 3), pytest.approx(0.8 / 3))
    assert found.organs["gallbladder"] == UNDEFINED
    assert "aorta" not in found.organs
    assert found.counts == {"liver": 3, "spleen": 1, "gallbladder": 0}
    # over the organs' means, not over the case scores
    assert found.mean.dsc == pytest.approx((1.4 / 3 + 0.4) / 2)
    assert found.mean.nsd == pytest.approx((0.8 / 3 + 0.2) / 2)
    assert found.domains["T2"] == (Score(pytest.approx(0.3), pytest.approx(0.1)), 2)
    assert not found.is_complete


MORE = ("hd95_mm", "volume_ml", "truth_volume_ml")


def test_the_mean_of_hd95_leaves_out_what_is_undefined():
    scores = [Score(1.0, 1.0, 2.0), Score(0.5, 0.5, 4.0), Score(0.0, 0.0)]
    cases = tuple(CaseScores(str(n), {"liver": score}) for n, score in enumerate(scores))
    found = Evaluation("strict", ("liver",), cases)
    assert found.mean == Score(0.5, 0.5, 3.0)
    assert found.to_json()["mean"]["liver"] == {"dsc": 0.5, "nsd": 0.5, "hd95_mm": 3.0}


def test_intervals_stand_beside_the_means():
    value = evaluation().to_json()
    assert list(value["intervals"]) == list(value["mean"])
    liver = value["intervals"]["liver"]
    assert liver["dsc"]["mean"] == value["mean"]["liver"]["dsc"]
    assert liver["dsc"]["low"] < liver["dsc"]["mean"] < liver["dsc"]["high"]
    assert (liver["nsd"]["patients"], liver["nsd"]["cases"]) == (3, 3)
    assert value["intervals"]["gallbladder"]["dsc"]["mean"] is None


def test_an_evaluation_comes_back(tmp_path):
    cases = (
        *evaluation().cases,
        CaseScores("d", {"aorta": Score(0.1, 0.2, 3.0, 4.0, 5.0)}, None, None, "p"),
    )
    first = Evaluation("strict", FLARE.names, cases, ("c",), ("x",), {"c": "why"})
    first.write_json(tmp_path / "scores.json")
    back = read_evaluation(tmp_path / "scores.json")
    assert back.to_json() == first.to_json()
    assert back.cases == first.cases


def test_scores_of_before_hd95_are_read(tmp_path):
    value = evaluation().to_json()
    del value["intervals"]
    for case in value["cases"]:
        for score in case["organs"].values():
            for key in MORE:
                del score[key]
    write_json(tmp_path / "old.json", value)
    assert read_evaluation(tmp_path / "old.json").mean == evaluation().mean


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "another schema version"),
        ('{"schema_version": 2, "cases": []}', "another schema version; seen: 2|seen: 2"),
        ('{"schema_version": 1, "rows": []}', "not a file of scores"),
        ('{"schema_version": 1, "cases": 3}', "not a file of scores"),
        ('{"schema_version": 1, "cases": [{"case": "a", "organs": {"liver": 1}}]}', "not a file"),
        ("", "not a JSON file"),
    ],
)
def test_other_files_are_refused(tmp_path, text, message):
    (tmp_path / "x.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read_evaluation(tmp_path / "x.json")


def test_json_and_csv():
    value = evaluation().to_json()
    assert value["schema_version"] == 1
    assert (value["protocol"], value["n_cases"], value["missing"]) == ("strict", 3, ["c"])
    assert value["cases"][1] == {
        "case": "b",
        "sequence": "T2",
        "domain": "T2",
        "organs": {
            "liver": {"dsc": 0.6, "nsd": 0.2, **dict.fromkeys(MORE)},
            "gallbladder": {"dsc": None, "nsd": None, **dict.fromkeys(MORE)},
        },
    }
    assert list(value["mean"]) == ["all", "liver", "spleen", "gallbladder"]
    assert value["domains"]["T1"] == {
        "dsc": pytest.approx(0.6),
        "nsd": pytest.approx(0.4),
        "n_cases": 1,
    }
    assert evaluation().to_csv().splitlines()[:5] == [
        "case,sequence,domain,organ,dsc,nsd,hd95_mm,volume_ml,truth_volume_ml",
        "a,T1,T1,liver,0.8,0.6,,,",
        "a,T1,T1,spleen,0.4,0.2,,,",
        "b,T2,T2,liver,0.6,0.2,,,",
        "b,T2,T2,gallbladder,,,,,",
    ]


def test_nothing_scored_is_null_not_nan():
    empty = Evaluation("strict", ("liver",), (CaseScores("a", {}),))
    assert empty.to_json()["mean"] == {"all": {"dsc": None, "nsd": None, "hd95_mm": None}}
    assert "domains" not in empty.to_json()
