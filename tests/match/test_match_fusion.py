"""Several carried labels become one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from match_scene import ORGANS, case, dice, pose

from labelferry.match.carry import carry_to
from labelferry.match.config import MatchConfig
from labelferry.match.fusion import fuse, local_agreement, weight
from labelferry.match.transfer import carry
from labelferry.prior.learn import learn_prior
from labelferry.volume import Grid, Segmentation, Volume

LINE = Grid((4, 1, 1), np.eye(4))


def _line(*values):
    return np.array(values, np.float32).reshape(4, 1, 1)


def test_fusion_by_hand():
    """Weights 3 and 1: shares of organ 1 are (3·1 + 1·0)/4 and so on."""
    one = (_line(3, 3, 3, 1), [(1, _line(1, 0.5, 0.2, 0))])
    two = (_line(1, 1, 1, 3), [(1, _line(0, 0, 0, 0)), (2, _line(1, 1, 1, 0.8))])
    # organ 1: .75, .375, .15, 0, together 1.275: one voxel; organ 2: .25, .25, .25, .6: one voxel
    fused = fuse([one, two], LINE)
    assert fused.array.ravel().tolist() == [1, 0, 0, 2]
    assert fused.array.dtype == np.uint8
    assert fuse([two], LINE).array.ravel().tolist() == [2, 2, 2, 2]
    with pytest.raises(ValueError, match="nothing to fuse"):
        fuse([], LINE)


def test_an_organ_that_nowhere_has_most_votes_keeps_its_size():
    """Three labels of a thin organ, beside each other: no majority, but the middle is likely."""
    places = [(1, 1, 0, 0), (0, 1, 1, 0), (0, 0, 1, 1)]
    weights = (2, 3, 2)
    parts = [
        (_line(w, w, w, w), [(1, _line(*place))]) for w, place in zip(weights, places, strict=True)
    ]
    # shares 2/7, 5/7, 5/7, 2/7, together 2
    assert fuse(parts, LINE).array.ravel().tolist() == [0, 1, 1, 0]
    # one of nine labels holds it: less than a fifth of the votes is nothing
    parts = [(_line(8, 8, 8, 8), []), (_line(1, 1, 1, 1), [(1, _line(1, 1, 1, 1))])]
    assert not fuse(parts, LINE).array.any()


def test_local_agreement_is_local():
    rng = np.random.default_rng(1)
    on = Grid((40, 30, 20), np.diag([4.0, 4.0, 5.0, 1.0]))
    fixed = Volume(rng.random(on.shape, np.float32), on)
    other = fixed.array.copy()
    other[:20] = rng.random((20, 30, 20))
    found = local_agreement(fixed, Volume(other, on))
    assert found[30:].min() > 0.95 and abs(found[:10]).mean() < 0.2
    flat = Volume(np.ones(on.shape, np.float32), on)
    assert not local_agreement(fixed, flat).any()
    np.testing.assert_allclose(local_agreement(fixed, Volume(1 - fixed.array, on)), -1, atol=1e-2)
    assert weight(np.float32([-1, 0, 0.1])).tolist() == pytest.approx(
        weight(np.float32([0.01, 0.01, 0.1])).tolist()
    )
    assert (weight(np.float32([-1, 0.5])) > 0).all()


def test_a_wrong_candidate_is_outvoted_where_it_is_wrong():
    prior = learn_prior([(case("s").labels, ORGANS.ids)], ORGANS)
    follower = case("f", "T2")
    blank = Segmentation(np.zeros_like(follower.labels.array), follower.labels.grid)
    twins = [case(name, "T1", seed=seed) for seed, name in enumerate("abc")]
    wrong = replace(
        case("w", "T1"), anatomy=case("x", "T1", pose((0, 0, 40), (1.3, 0.7, 1.2))).anatomy
    )
    wrong = replace(
        wrong, labels=Segmentation(np.roll(wrong.labels.array, 9, axis=0), wrong.labels.grid)
    )
    result = carry_to(
        replace(follower, labels=blank), [wrong, *twins], MatchConfig(), prior, how="volume"
    )
    assert dice(result.labels.array, follower.labels.array) > 0.85
    assert result.provenance["fused"] == ["w", "a", "b", "c"]
    assert result.provenance["from"] != "w"
    best = carry_to(
        replace(follower, labels=blank),
        [wrong, *twins],
        MatchConfig(fuse="best"),
        prior,
        how="volume",
    )
    assert best.provenance["fused"] == [best.provenance["from"]]


def test_the_best_alone_is_carried_as_it_is():
    """Preset paper: the largest share wins, nothing is fused."""
    prior = learn_prior([(case("s").labels, ORGANS.ids)], ORGANS)
    follower, anchor = case("f", "T2", pose(shift=(7, 3, 0))), case("m", "T1")
    config = MatchConfig(fuse="best", keep_own="never", deform_iterations=0)
    result = carry_to(follower, [anchor], config, prior, how="volume")
    matrix = np.array(result.provenance["transform"]["fixed_to_moving_ras_mm"])
    expected = carry(anchor.labels, follower.labels.grid, matrix)
    np.testing.assert_array_equal(result.labels.array, expected.array)
