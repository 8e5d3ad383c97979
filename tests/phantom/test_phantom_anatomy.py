from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from labelferry.errors import UserError
from labelferry.organs import FLARE
from labelferry.phantom.anatomy import Subject, draw_subject
from labelferry.phantom.frame import EXTENT_MM, PhantomGrid
from labelferry.phantom.tissues import ORGANS, Tissue

COARSE = PhantomGrid.of_spacing((6.4, 6.4, 10.0))

# millilitres; wide enough for the random sizes, too narrow for another organ's shape
BOUNDS_ML = {
    "liver": (400, 1500),
    "right kidney": (40, 260),
    "left kidney": (40, 260),
    "spleen": (25, 240),
    "pancreas": (25, 150),
    "aorta": (25, 180),
    "inferior vena cava": (25, 180),
    "right adrenal gland": (0.3, 7),
    "left adrenal gland": (0.3, 7),
    "gallbladder": (3, 60),
    "esophagus": (3, 40),
    "stomach": (60, 600),
    "duodenum": (30, 220),
}


def draw(number: int, grid: PhantomGrid = COARSE) -> Subject:
    return draw_subject(np.random.default_rng((0, 0, number)), grid)


@pytest.fixture(scope="module")
def subjects() -> list[Subject]:
    return [draw(number, PhantomGrid()) for number in range(8)]


def centre(subject: Subject, organ: str) -> np.ndarray:
    """World coordinates of an organ's centre, relative to the middle of its vertebrae."""
    grid = subject.grid
    found = ndimage.center_of_mass(subject.labels.array == FLARE.named(organ).id)
    spine = ndimage.center_of_mass(subject.tissues == Tissue.MARROW)
    return np.asarray(grid.to_world(np.array(found)) - grid.to_world(np.array(spine)))


def has(subject: Subject, organ: str) -> bool:
    return FLARE.named(organ).id not in subject.absent


def test_tissues_hold_the_organs_under_their_ids() -> None:
    assert [int(organ) for organ in ORGANS] == sorted(FLARE.ids)
    assert Tissue(FLARE.named("left kidney").id) is Tissue.LEFT_KIDNEY
    assert Tissue(FLARE.named("inferior vena cava").id) is Tissue.VENA_CAVA
    assert Tissue(FLARE.named("duodenum").id) is Tissue.DUODENUM


def test_volumes_are_plausible(subjects: list[Subject]) -> None:
    for subject in subjects:
        counts = np.bincount(subject.labels.array.ravel(), minlength=len(FLARE) + 1)
        for organ in FLARE:
            volume = counts[organ.id] * subject.grid.voxel_mm3 / 1000
            if organ.id in subject.absent:
                assert volume == 0
            else:
                low, high = BOUNDS_ML[organ.name]
                assert low < volume < high, (organ.name, volume)


def test_sides_and_order_are_right(subjects: list[Subject]) -> None:
    for subject in subjects:
        assert subject.grid.axes == "RAS"
        assert centre(subject, "liver")[0] > 30
        for organ, side in (
            ("right kidney", 1),
            ("left kidney", -1),
            ("spleen", -1),
            ("gallbladder", 1),
            ("right adrenal gland", 1),
            ("left adrenal gland", -1),
            ("stomach", -1),
        ):
            if has(subject, organ):
                assert side * centre(subject, organ)[0] > 10, organ
        assert centre(subject, "inferior vena cava")[0] > centre(subject, "aorta")[0]
        if has(subject, "gallbladder"):
            assert centre(subject, "gallbladder")[1] > 60  # in front of the spine
        assert centre(subject, "esophagus")[2] > centre(subject, "duodenum")[2]


def test_every_organ_is_one_piece(subjects: list[Subject]) -> None:
    for subject in subjects:
        for organ in FLARE:
            _, count = ndimage.label(subject.labels.array == organ.id, np.ones((3, 3, 3)))
            assert count == (organ.id not in subject.absent), organ.name


def test_tissue_map_agrees_with_the_labels(subjects: list[Subject]) -> None:
    inside = {
        Tissue.RIGHT_KIDNEY: {Tissue.RENAL_SINUS},
        Tissue.LEFT_KIDNEY: {Tissue.RENAL_SINUS},
        Tissue.STOMACH: {Tissue.STOMACH_CONTENT, Tissue.STOMACH_GAS},
        Tissue.LIVER: {Tissue.VEIN},
        Tissue.PANCREAS: {Tissue.VEIN},
    }
    for subject in subjects:
        tissues, labels = subject.tissues, subject.labels.array
        for organ in ORGANS:
            seen = {Tissue(v) for v in np.unique(tissues[labels == organ])}
            assert seen <= {organ} | inside.get(organ, set())
        assert tissues[labels == 0].min(initial=99) >= 0
        assert not np.isin(tissues[labels == 0], ORGANS).any()


def test_every_tissue_occurs(subjects: list[Subject]) -> None:
    seen = set().union(*(np.unique(subject.tissues).tolist() for subject in subjects))
    assert seen == {int(tissue) for tissue in Tissue}


def test_absent_organs_occur_over_seeds() -> None:
    drawn = [draw(number) for number in range(120)]
    rate = {
        name: np.mean([not has(subject, name) for subject in drawn]) for name in FLARE.names
    }  # fmt: skip
    assert 0.04 < rate["gallbladder"] < 0.22
    assert 0 < rate["spleen"] < 0.12
    assert 0 < rate["right kidney"] + rate["left kidney"] < 0.14
    assert not any(len({2, 13} & subject.absent) == 2 for subject in drawn)
    assert rate["liver"] == 0
    # nothing else gets lost, even on coarse voxels
    may_lack = {FLARE.named(n).id for n in ("gallbladder", "spleen", "right kidney", "left kidney")}
    for subject in drawn:
        assert subject.absent <= may_lack
        assert subject.absent == FLARE.ids - set(np.unique(subject.labels.array).tolist())


def test_a_subject_is_the_same_at_every_spacing() -> None:
    coarse, fine = draw(4), draw(4, PhantomGrid())
    assert coarse.absent == fine.absent
    for subject in (coarse, fine):
        np.testing.assert_allclose(np.multiply(subject.grid.shape, subject.grid.spacing), EXTENT_MM)
    np.testing.assert_allclose(centre(coarse, "liver"), centre(fine, "liver"), atol=3)
    volumes = [
        np.count_nonzero(s.labels.array == Tissue.LIVER) * s.grid.voxel_mm3 for s in (coarse, fine)
    ]
    assert volumes[0] == pytest.approx(volumes[1], rel=0.05)


def test_subjects_differ() -> None:
    assert (draw(0).labels.array != draw(1).labels.array).any()


def test_a_grid_keeps_the_field_of_view() -> None:
    assert PhantomGrid.of_spacing((3.2, 3.2, 5.0)) == PhantomGrid()
    assert COARSE.shape == (56, 40, 20)
    with pytest.raises(UserError, match="field of view"):
        PhantomGrid((3.2, 3.2, 5.0), (10, 10, 10))
    with pytest.raises(UserError, match="positive"):
        PhantomGrid.of_spacing((0, 3.2, 5.0))
