from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from labelferry.phantom.anatomy import Subject, draw_subject
from labelferry.phantom.contrast import (
    CT_HU,
    CT_PHASES,
    MR_KINDS,
    MR_SEQUENCES,
    MR_SIGNAL,
    MrSequence,
    ct_table,
    mr_table,
)
from labelferry.phantom.frame import PhantomGrid
from labelferry.phantom.render import render_ct, render_mr
from labelferry.phantom.tissues import Tissue


@pytest.fixture(scope="module")
def subject() -> Subject:
    return draw_subject(np.random.default_rng((0, 0, 1)), PhantomGrid())


@pytest.fixture(scope="module")
def coarse() -> Subject:
    return draw_subject(np.random.default_rng((0, 0, 1)), PhantomGrid.of_spacing((6.4, 6.4, 10.0)))


def median(image: np.ndarray, subject: Subject, tissue: Tissue) -> float:
    return float(np.median(image[subject.tissues == tissue]))


def test_tables_cover_every_tissue() -> None:
    assert set(CT_HU) == set(Tissue)
    assert set(MR_SIGNAL) == set(Tissue)
    for phase in CT_PHASES:
        assert ct_table(phase).shape == (len(Tissue),)
    for kind in MR_KINDS:
        table = mr_table(kind)
        assert table.shape == (len(Tissue),)
        assert (table > 0).all() and table.max() <= 1
    assert ct_table("art")[Tissue.AORTA] == 300
    assert mr_table("DWI")[Tissue.SPLEEN] == np.float32(0.9)


def test_tables_are_fresh() -> None:
    ct_table("nc")[:] = 0
    assert ct_table("nc")[Tissue.LIVER] == 58


def test_ct_looks_like_ct(subject: Subject) -> None:
    rendering = render_ct(np.random.default_rng(2), subject)
    image = rendering.image.array
    assert image.dtype == np.int16 and image.min() == -1024
    assert (image[0, 0] == -1024).all()  # a corner of every slice is beyond the field of view
    assert not (image[56, 40] == -1024).any()
    assert median(image, subject, Tissue.FAT) == pytest.approx(-100, abs=25)
    assert median(image, subject, Tissue.MUSCLE) == pytest.approx(58, abs=25)
    assert median(image, subject, Tissue.LUNG) < -700
    assert median(image, subject, Tissue.MARROW) > 120
    assert rendering.labels is subject.labels


@pytest.mark.parametrize("sequence", MR_SEQUENCES)
def test_mri_looks_like_mri(subject: Subject, sequence: MrSequence) -> None:
    rendering = render_mr(np.random.default_rng(2), subject, sequence)
    image = rendering.image.array
    assert image.dtype == np.int16 and image.min() >= 0
    assert rendering.image.grid is subject.grid
    air, liver = (median(image, subject, t) for t in (Tissue.AIR, Tissue.LIVER))
    assert liver > 2 * air
    if sequence == "T2":
        assert median(image, subject, Tissue.FLUID) > 1.5 * liver
    if sequence == "DWI":
        assert median(image, subject, Tissue.SPLEEN) > 1.5 * liver


def test_labels_follow_the_distortion(subject: Subject) -> None:
    rendering = render_mr(np.random.default_rng(5), subject, "DWI")
    moved, still = rendering.labels.array, subject.labels.array
    assert set(np.unique(moved)) <= set(np.unique(still))
    spleen = rendering.image.array[moved == Tissue.SPLEEN]
    outside = rendering.image.array[(still == Tissue.SPLEEN) & (moved != Tissue.SPLEEN)]
    assert np.median(spleen) > np.median(outside)
    overlap = 2 * ((moved == 1) & (still == 1)).sum() / ((moved == 1).sum() + (still == 1).sum())
    assert 0.85 < overlap < 1
    for sequence in ("T1", "T2"):
        assert render_mr(np.random.default_rng(5), subject, sequence).labels is subject.labels


def test_phases_and_kinds_vary(coarse: Subject) -> None:
    phases = Counter(render_ct(np.random.default_rng(n), coarse).kind for n in range(40))
    kinds = Counter(render_mr(np.random.default_rng(n), coarse, "T1").kind for n in range(40))
    assert set(phases) == set(CT_PHASES)
    assert phases["pv"] > phases["nc"]
    assert set(kinds) == {"T1 fat-saturated", "T1 in-phase"}


def test_gains_vary_and_the_generator_decides(coarse: Subject) -> None:
    first, again, other = (
        render_mr(np.random.default_rng(n), coarse, "T1").image.array for n in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert abs(np.log(first.mean() / other.mean())) > 0.05
