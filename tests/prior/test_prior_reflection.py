"""Which way round organs lie, by the prior."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelferry.organs import Organ, OrganSet
from labelferry.prior.learn import learn_prior
from labelferry.prior.measure import measure_organs
from labelferry.prior.model import Prior
from labelferry.prior.reflection import EVERY_FLIP, UNTURNED, likely_flips, position_z, reflected
from labelferry.volume import Grid, Segmentation

ORGANS = OrganSet(tuple(Organ(n, f"organ {n}") for n in range(1, 6)))
PLACES = {1: (30, 16, 16), 2: (6, 12, 18), 3: (25, 5, 8), 4: (10, 6, 6), 5: (14, 18, 4)}


def label_map(places=PLACES, flips=UNTURNED) -> Segmentation:
    array = np.zeros((40, 26, 24), np.uint8)
    for organ, (x, y, z) in places.items():
        array[x - 3 : x + 3, y - 3 : y + 3, z - 3 : z + 3] = organ
    axes = tuple(axis for axis in range(3) if flips[axis])
    affine = np.diag([6.0, 6.0, 6.0, 1.0])
    affine[:3, 3] = (-100, 20, 900)
    return Segmentation(np.flip(array, axes), Grid(array.shape, affine))


@pytest.fixture(scope="module")
def prior() -> Prior:
    return learn_prior([(label_map(), ORGANS.ids)] * 4, ORGANS)


@pytest.mark.parametrize("flips", EVERY_FLIP)
def test_every_reflection_is_found(prior: Prior, flips: tuple[bool, bool, bool]) -> None:
    measures = measure_organs(label_map(flips=flips))
    assert likely_flips(measures, prior) == flips
    assert position_z(reflected(measures, flips), prior) == pytest.approx(0, abs=1e-6)


def test_few_organs_say_nothing(prior: Prior) -> None:
    few = {organ: PLACES[organ] for organ in (1, 2, 3)}
    mirrored = measure_organs(label_map(few, (True, False, False)))
    assert likely_flips(mirrored, prior) == UNTURNED


def test_nonsense_is_no_reflection(prior: Prior) -> None:
    odd = {1: (4, 4, 20), 2: (4, 21, 4), 3: (36, 21, 20), 4: (36, 4, 20), 5: (20, 12, 20)}
    assert likely_flips(measure_organs(label_map(odd)), prior) == UNTURNED


@settings(deadline=None)
@given(st.sampled_from(EVERY_FLIP))
def test_twice_is_as_it_was(flips: tuple[bool, bool, bool]) -> None:
    measures = measure_organs(label_map())
    assert reflected(reflected(measures, flips), flips) == measures
