from __future__ import annotations

import json
import math

import numpy as np
import pytest

from labelferry.errors import UserError
from labelferry.organs import Organ, OrganSet
from labelferry.prior.learn import learn_prior
from labelferry.prior.measure import measure_organs
from labelferry.prior.model import Prior
from labelferry.prior.plausibility import (
    MISSING,
    CasePlausibility,
    plausibility,
    rank_domains,
)
from labelferry.volume import Grid, Segmentation

ORGANS = OrganSet(
    (
        Organ(1, "liver"),
        Organ(2, "right kidney", pair=3),
        Organ(3, "left kidney", pair=2),
        Organ(4, "aorta"),
        Organ(5, "gallbladder"),
    )
)
ALL = ORGANS.ids
SPACING = (4.0, 4.0, 5.0)
BLOCKS = {
    1: ((24, 12, 10), (10, 10, 8)),
    2: ((26, 8, 6), (4, 4, 6)),
    3: ((8, 8, 6), (4, 4, 6)),
}


def block_map(
    blocks=BLOCKS, origin=(0.0, 0.0, 0.0), shape=(40, 30, 24), grow=None, aorta=False
) -> Segmentation:
    """Boxes of voxels: organ -> (first voxel, size)."""
    array = np.zeros(shape, np.uint8)
    for organ, (start, size) in blocks.items():
        if grow and organ in grow:
            size = tuple(int(n * grow[organ]) for n in size)
        part = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
        array[part] = organ
    if aorta:
        array[18:21, 4:7, :] = 4
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = origin
    return Segmentation(array, Grid(shape, affine))


def test_measures_are_physical():
    row = measure_organs(block_map(origin=(-50.0, 10.0, 900.0)))[2]
    assert row.volume_mm3 == pytest.approx(4 * 4 * 6 * 80)
    assert row.section_mm2 == pytest.approx(4 * 4 * 16)
    centre = (-50 + 4 * 27.5, 10 + 4 * 9.5, 900 + 5 * 8.5)
    assert row.centroid_mm == pytest.approx(centre)
    assert (row.components, row.largest_share, row.cut) == (1, 1.0, False)


def test_components_and_cut():
    labels = block_map(aorta=True)
    labels.array[0:2, 0:2, 3:5] = 2
    rows = measure_organs(labels)
    assert rows[2].components == 2
    assert rows[2].largest_share == pytest.approx(96 / 104)
    assert rows[4].cut


def test_one_case_is_its_own_ideal():
    labels = block_map()
    prior = learn_prior([(labels, ALL)], ORGANS)
    assert prior.cases == 1
    assert prior.get(1).log_size_sd == pytest.approx(0.4)
    assert prior.get(1).position_sd_mm == pytest.approx((15.0, 15.0, 15.0))
    row = plausibility(labels, prior)
    assert row.z == pytest.approx(0, abs=1e-9)
    assert row.missing == row.wrong_side == frozenset()
    # the frame goes with the case: the same body elsewhere is as plausible
    assert plausibility(block_map(origin=(900, -80, 33)), prior).z == pytest.approx(0, abs=1e-9)


def test_z_by_hand():
    prior = learn_prior([(block_map(), ALL)], ORGANS)
    labels = block_map(grow={1: 1})
    labels.array[labels.array == 1] = 0
    labels.array[24:34, 12:22, 10:14] = 1  # half the liver, its centre 2 voxels = 10 mm lower
    row = plausibility(labels, prior)
    assert row.organs[1].size_z == pytest.approx(math.log(0.5) / 0.4)
    # the two kidneys hold the frame: only the liver is out of place, by 10 of 15 mm along z
    assert row.organs[1].position_z == pytest.approx(math.sqrt((10 / 15) ** 2 / 3))
    liver = abs(math.log(0.5) / 0.4) + math.sqrt((10 / 15) ** 2 / 3)
    assert row.z == pytest.approx(liver / 3)


def test_spread_of_several_cases():
    cases = [(block_map(grow={1: g}), ALL) for g in (1.0, 1.0, 1.2)]
    prior = learn_prior(cases, ORGANS)
    logs = [math.log(measure_organs(c)[1].volume_mm3) for c, _ in cases]
    squares = sum((v - np.mean(logs)) ** 2 for v in logs)
    assert prior.get(1).log_size_sd == pytest.approx(math.sqrt((squares + 0.16) / 3))
    assert prior.get(2).position_sd_mm[0] >= 5.0


def test_positions_do_not_depend_on_which_organs_a_case_lacks():
    whole = block_map()
    part = block_map({k: BLOCKS[k] for k in (1, 2)}, origin=(300.0, 0.0, 0.0))
    prior = learn_prior([(whole, ALL), (part, ALL)], ORGANS)
    gap = np.subtract(prior.get(2).position_mm, prior.get(3).position_mm)
    assert gap == pytest.approx((18 * 4.0, 0.0, 0.0), abs=1e-3)
    assert prior.get(3).present_rate == 0.5
    assert plausibility(part, prior).organs[2].position_z < 0.1


def test_unannotated_empty_and_unseen_organs():
    prior = learn_prior([(block_map(), ALL), (block_map(grow={1: 0.5}), frozenset({2, 3}))], ORGANS)
    assert prior.get(1).cases == 1  # the second case does not annotate the liver
    assert prior.get(1).present_rate == 1.0
    assert prior.get(5) is None  # nobody has a gallbladder
    labels = block_map()
    labels.array[2:4, 2:4, 2:4] = 5
    assert 5 not in plausibility(labels, prior).organs
    with pytest.raises(UserError, match="nothing to learn"):
        learn_prior([(block_map({}), ALL)], ORGANS)
    with pytest.raises(UserError, match="nothing to learn"):
        learn_prior([], ORGANS)


def test_cut_organs():
    prior = learn_prior([(block_map(aorta=True), ALL)], ORGANS)
    aorta = prior.get(4)
    assert aorta.size == "section"
    assert math.exp(aorta.log_size_mean) == pytest.approx(9 * 16)
    # a shorter scan with the same vessel is as plausible; a cut liver cannot be too small
    short = block_map(aorta=True)
    short = _low_part(short)
    row = plausibility(short, prior)
    assert row.organs[4].z == pytest.approx(0, abs=1e-6)
    assert row.organs[1].cut
    assert row.organs[1].size_z == 0


def _low_part(labels: Segmentation) -> Segmentation:
    array = labels.array[:, :, 5:14]
    affine = labels.grid.affine.copy()
    affine[2, 3] += 5 * SPACING[2]
    return Segmentation(array, Grid(array.shape, affine))


def test_a_cut_case_does_not_spoil_the_statistics():
    whole = block_map()
    prior = learn_prior([(whole, ALL), (_low_part(whole), ALL)], ORGANS)
    assert prior.get(1).cases == 1
    assert prior.get(1).present_rate == 1.0
    assert prior.get(2).cases == 2


def test_missing_fragmented_and_swapped():
    prior = learn_prior([(block_map(), ALL)], ORGANS)
    empty = plausibility(block_map({}), prior)
    assert empty.z == pytest.approx(MISSING)
    assert empty.missing == {1, 2, 3}
    swapped = block_map({1: BLOCKS[1], 2: BLOCKS[3], 3: BLOCKS[2]})
    assert plausibility(swapped, prior).wrong_side == {2, 3}
    others = {1: BLOCKS[1], 4: ((16, 20, 4), (3, 3, 3))}
    prior = learn_prior([(block_map(others | BLOCKS), ALL)], ORGANS)
    lone = plausibility(block_map({**others, 2: BLOCKS[3]}), prior)
    assert lone.wrong_side == {2} and lone.missing == {3}
    prior = learn_prior([(block_map(), ALL)], ORGANS)
    noisy = block_map()
    noisy.array[0, 0, 1:20:2] = 1
    assert plausibility(noisy, prior).fragmentation > 0
    assert plausibility(noisy, prior).organs[1].components == 11
    tiny = block_map({2: ((20, 20, 20), (1, 1, 1))})
    assert plausibility(tiny, prior, frozenset({2})).z <= 10


def test_nothing_to_judge_is_infinite():
    prior = learn_prior([(block_map(), ALL)], ORGANS)
    row = plausibility(block_map(), prior, frozenset({5}))
    assert row.z == math.inf
    text = json.dumps(row.to_json(), allow_nan=False)
    assert CasePlausibility.from_json(json.loads(text)) == row


def test_json_and_determinism():
    cases = [(block_map(aorta=True), ALL), (block_map(grow={1: 0.8}), ALL)]
    prior = learn_prior(cases, ORGANS)
    text = json.dumps(prior.to_json(), allow_nan=False)
    assert Prior.from_json(json.loads(text)) == prior
    assert json.dumps(learn_prior(cases, ORGANS).to_json()) == text
    row = plausibility(cases[1][0], prior)
    assert CasePlausibility.from_json(json.loads(json.dumps(row.to_json()))) == row
    with pytest.raises(UserError, match="schema version"):
        Prior.from_json({"schema_version": 0})
    with pytest.raises(UserError, match="not a prior"):
        Prior.from_json({"schema_version": 1, "cases": 1, "organs": [{"id": 1}]})


def test_rank_domains():
    prior = learn_prior([(block_map(), ALL)], ORGANS)
    good, bad = plausibility(block_map(), prior), plausibility(block_map({}), prior)
    ranks = rank_domains(
        {"a": bad, "b": good, "c": bad, "d": good},
        {"a": "T2", "b": "T2", "c": "DWI", "d": "T1"},
    )
    assert [r.domain for r in ranks] == ["T1", "T2", "DWI"]
    assert [r.cases for r in ranks] == [1, 2, 1]
    assert ranks[1].z == pytest.approx(MISSING / 2)
    with pytest.raises(UserError, match="no domain"):
        rank_domains({"a": good}, {})
