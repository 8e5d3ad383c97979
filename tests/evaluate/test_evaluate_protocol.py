"""The rules of the protocol, each by hand."""

from __future__ import annotations

import numpy as np
import pytest

from labelferry.errors import UserError
from labelferry.evaluate.protocol import find_protocol, on_grid_of, strict
from labelferry.evaluate.results import UNDEFINED, ZERO, CaseScores, Evaluation, Score
from labelferry.organs import FLARE, Organ, OrganSet
from labelferry.volume import Grid, Segmentation, canonical

GRID = Grid((6, 5, 4), np.diag([2.0, 1.0, 1.0, 1.0]))


def labels(grid=GRID, **organs):
    array = np.zeros(grid.shape, np.uint8)
    for name, where in organs.items():
        array[where] = FLARE.named(name).id
    return Segmentation(array, grid)


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
    assert scores == {"liver": Score(1.0, 1.0), "gallbladder": UNDEFINED}


def test_absent_but_predicted_is_zero():
    scores = strict(labels(spleen=SPLEEN), labels(), ids("spleen"), FLARE)
    assert scores == {"spleen": ZERO}


def test_present_but_not_predicted_is_zero():
    assert strict(labels(), labels(spleen=SPLEEN), ids("spleen"), FLARE) == {"spleen": ZERO}


def test_an_organ_without_annotation_is_left_out():
    truth = labels(liver=LIVER, spleen=SPLEEN)
    prediction = labels(liver=LIVER, pancreas=SPLEEN)
    assert set(strict(prediction, truth, ids("liver"), FLARE)) == {"liver"}


def test_a_missing_prediction_is_zero_for_all_that_is_annotated():
    scores = strict(None, labels(liver=LIVER), ids("liver", "gallbladder"), FLARE)
    assert scores == {"liver": ZERO, "gallbladder": ZERO}


def test_an_organ_that_fills_the_image():
    everywhere = labels(liver=np.s_[:])
    scores = strict(everywhere, everywhere, ids("liver"), FLARE)
    assert scores == {"liver": Score(1.0, 1.0)}


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
    with pytest.raises(UserError, match="unknown protocol; seen: kind; allowed: strict"):
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


def test_json_and_csv():
    value = evaluation().to_json()
    assert value["schema_version"] == 1
    assert (value["protocol"], value["n_cases"], value["missing"]) == ("strict", 3, ["c"])
    assert value["cases"][1] == {
        "case": "b",
        "sequence": "T2",
        "domain": "T2",
        "organs": {"liver": {"dsc": 0.6, "nsd": 0.2}, "gallbladder": {"dsc": None, "nsd": None}},
    }
    assert list(value["mean"]) == ["all", "liver", "spleen", "gallbladder"]
    assert value["domains"]["T1"] == {
        "dsc": pytest.approx(0.6),
        "nsd": pytest.approx(0.4),
        "n_cases": 1,
    }
    assert evaluation().to_csv().splitlines()[:5] == [
        "case,sequence,domain,organ,dsc,nsd",
        "a,T1,T1,liver,0.8,0.6",
        "a,T1,T1,spleen,0.4,0.2",
        "b,T2,T2,liver,0.6,0.2",
        "b,T2,T2,gallbladder,,",
    ]


def test_nothing_scored_is_null_not_nan():
    empty = Evaluation("strict", ("liver",), (CaseScores("a", {}),))
    assert empty.to_json()["mean"] == {"all": {"dsc": None, "nsd": None}}
    assert "domains" not in empty.to_json()
