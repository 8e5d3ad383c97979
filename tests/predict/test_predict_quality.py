"""How far labels are to be trusted: the rules of the verdicts, one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from labelferry.organs import FLARE, Organ, OrganSet
from labelferry.predict.quality import CaseQuality, OrganQuality, assess
from labelferry.prior.learn import learn_prior
from labelferry.prior.model import Prior
from labelferry.volume import Grid, Segmentation

ORGANS = OrganSet((Organ(1, "liver"), Organ(2, "spleen"), Organ(3, "aorta", tube=True)))
SHAPE = (40, 30, 20)
BLOCKS: dict[int, tuple[slice, slice, slice]] = {
    1: np.s_[24:34, 8:18, 6:14],
    2: np.s_[6:12, 6:12, 6:14],
    3: np.s_[18:21, 5:8, 2:18],
}


def label_map(blocks: dict[int, Any] = BLOCKS, axes: tuple[float, ...] = (4, 4, 5)) -> Segmentation:
    array = np.zeros(SHAPE, np.uint8)
    for organ, block in blocks.items():
        array[block] = organ
    return Segmentation(array, Grid(SHAPE, np.diag([*axes, 1.0])))


@pytest.fixture(scope="module")
def prior() -> Prior:
    return learn_prior([(label_map(), ORGANS.ids)] * 4, ORGANS)


def row(quality: CaseQuality, organ: str) -> OrganQuality:
    return next(row for row in quality.organs if row.organ == organ)


def liver(blocks: dict[int, Any], prior: Prior | None = None, **entropy: float) -> OrganQuality:
    sure = {1: entropy["entropy"]} if entropy else None
    return row(assess("a", label_map({**BLOCKS, **blocks}), ORGANS, prior, sure), "liver")


def test_all_is_well(prior: Prior) -> None:
    quality = assess("a", label_map(), ORGANS, prior, {1: 0.1, 2: 0.0, 3: 0.15})
    assert [r.verdict for r in quality.organs] == ["ok"] * 3
    assert [r.why for r in quality.organs] == [""] * 3
    assert quality.warning() is None
    assert quality.z == pytest.approx(0, abs=1e-6)
    found = row(quality, "liver")
    assert found.volume_ml == pytest.approx(10 * 10 * 8 * 80 / 1000)
    assert (found.components, found.largest_share, found.touches_border) == (1, 1.0, False)


def test_the_stored_axes_do_not_matter(prior: Prior) -> None:
    stored = Segmentation(
        np.ascontiguousarray(label_map().array[::-1].transpose(2, 0, 1)),
        Grid(
            (20, 40, 30),
            np.array([[0, -4, 0, 156], [0, 0, 4, 0], [5, 0, 0, 0], [0, 0, 0, 1.0]]),
        ),
    )
    assert assess("a", stored, ORGANS, prior) == assess("a", label_map(), ORGANS, prior)


@pytest.mark.parametrize(
    "entropy, verdict", [(0.0, "ok"), (0.15, "ok"), (0.16, "look"), (0.30, "look"), (0.31, "doubt")]
)
def test_an_unsure_network(entropy: float, verdict: str) -> None:
    assert liver({}, entropy=entropy).verdict == verdict


def test_pieces() -> None:
    for side, verdict in ((3, "ok"), (6, "look")):  # 27 and 216 voxels beside 800
        odd = label_map()
        odd.array[30 : 30 + side, 22 : 22 + side, 10 : 10 + side] = 1
        found = row(assess("a", odd, ORGANS), "liver")
        assert (found.components, found.verdict) == (2, verdict), side
    shreds = label_map()
    shreds.array[shreds.array == 1] = 0
    shreds.array[24:34:2, 8:18, 6:14] = 1
    found = row(assess("a", shreds, ORGANS), "liver")
    assert (found.components, found.largest_share, found.verdict) == (5, 0.2, "doubt")
    assert found.why == "in 5 pieces"


@pytest.mark.parametrize("axis, end", [(a, e) for a in range(3) for e in (0, 1)])
def test_the_edge_of_the_picture(axis: int, end: int) -> None:
    part = [slice(24, 34), slice(8, 18), slice(6, 14)]
    part[axis] = slice(SHAPE[axis] - 8, SHAPE[axis]) if end else slice(0, 8)
    found = liver({1: tuple(part)})
    assert (found.touches_border, found.verdict) == (True, "look")
    assert found.why == "cut by the edge of the picture"


def test_a_tube_may_touch_it() -> None:
    found = assess("a", label_map({**BLOCKS, 3: np.s_[18:21, 5:8, :]}), ORGANS)
    assert (row(found, "aorta").touches_border, row(found, "aorta").verdict) == (True, "ok")


def test_size_and_place(prior: Prior) -> None:
    # one case's spread is 0.4 of the logarithm, four alike have half of it: 0.2
    small = liver({1: np.s_[27:31, 11:15, 8:12]}, prior)
    assert small.z is not None and small.z >= 5
    assert (small.verdict, small.why) == ("doubt", "too small")
    # ln(16/8)/0.2 = 3.47, and a centroid that moves a little
    half = liver({1: np.s_[24:34, 8:18, 6:10]}, prior)
    assert half.z is not None and 3.5 < half.z < 5
    assert (half.verdict, half.why) == ("look", "too small")
    elsewhere = liver({1: np.s_[24:34, 18:28, 12:20]}, prior)
    assert elsewhere.why.startswith("at an odd place")
    assert liver({}).z is None


def test_a_missing_organ(prior: Prior) -> None:
    gone = {organ: block for organ, block in BLOCKS.items() if organ != 1}
    found = row(assess("a", label_map(gone), ORGANS, prior), "liver")
    assert (found.volume_ml, found.verdict) == (0, "look")
    assert found.why == "not found, though most source images have it"
    assert row(assess("a", label_map(gone), ORGANS), "liver").verdict == "ok", "nobody knows better"


def test_nothing_at_all(prior: Prior) -> None:
    for known in (prior, None):
        quality = assess("a", label_map({}), ORGANS, known)
        assert {r.verdict for r in quality.organs} == {"doubt"}
        assert quality.warning() == "no organ was found at all"


def test_doubts_are_one_line_and_no_warning(prior: Prior) -> None:
    odd = label_map({**BLOCKS, 1: np.s_[27:31, 11:15, 8:12]})
    quality = assess("a", odd, ORGANS, prior, {2: 0.5})
    assert quality.doubts() == "doubtful: liver (too small), spleen (the network is at a loss)"
    assert quality.warning() is None
    assert assess("a", label_map({}), ORGANS, prior).doubts() is None, "the warning says it"


def test_many_doubtful_organs_are_counted(prior: Prior, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labelferry.predict.quality._NAMED", 2)
    quality = assess("a", label_map(BLOCKS), ORGANS, prior, dict.fromkeys(ORGANS.ids, 0.9))
    n = sum(r.verdict == "doubt" for r in quality.organs)
    assert n > 2
    text = quality.doubts()
    assert text is not None and text.startswith(f"doubtful: {n} of {len(ORGANS)} organs, liver (")
    assert text.endswith(") and others") and text.count("(") == 2


def test_an_anatomy_against_its_header() -> None:
    places = {  # liver, kidneys, spleen, stomach, pancreas
        1: (28, 14, 12), 2: (30, 6, 6), 13: (8, 6, 6), 3: (6, 8, 14), 11: (11, 20, 13),
        4: (18, 16, 9),
    }  # fmt: skip
    array = np.zeros(SHAPE, np.uint8)
    for organ, (x, y, z) in places.items():
        array[x - 2 : x + 2, y - 2 : y + 2, z - 2 : z + 2] = organ
    grid = Grid(SHAPE, np.diag([8.0, 8.0, 10.0, 1.0]))
    good = Segmentation(array, grid)
    mirrored = Segmentation(np.ascontiguousarray(array[::-1]), grid)
    prior = learn_prior([(good, good.held)] * 3, FLARE)
    for known in (prior, None):
        assert assess("a", good, FLARE, known).warning() is None
        quality = assess("a", mirrored, FLARE, known)
        assert quality.flips == (True, False, False)
        assert {r.verdict for r in quality.organs} == {"doubt"}
        text = quality.warning()
        assert text is not None and "left and right are swapped" in text
        assert all("left and right are swapped" in r.why for r in quality.organs)
    fixed = assess("a", good, FLARE, prior, fixed=(True, False, False))
    assert {r.verdict for r in fixed.organs} == {"look"}
    assert fixed.warning() == "labelled as if left and right are swapped (--fix-orientation)"
