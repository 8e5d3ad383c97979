"""Readers with and without colour vision can tell the organs apart."""

from __future__ import annotations

import itertools

from labelferry.organs import FLARE, Organ, OrganSet
from labelferry.report.colours import LEAST_DISTANCE, SAFE, least_distance, organ_colours


def test_flare_organs_differ_under_every_kind_of_vision() -> None:
    assert len(SAFE) == len(FLARE)
    assert least_distance(organ_colours(FLARE)) >= LEAST_DISTANCE


def test_red_and_green_of_one_lightness_are_found_out() -> None:
    assert least_distance(((200, 60, 60), (95, 125, 40))) < LEAST_DISTANCE
    assert least_distance(((255, 255, 255), (0, 0, 0))) > 90
    assert least_distance(((1, 2, 3),)) == float("inf")


def test_own_colours_are_kept_where_they_can_be_told_apart() -> None:
    own = OrganSet((Organ(1, "a", (240, 220, 40)), Organ(2, "b", (20, 60, 200))))
    assert organ_colours(own) == ((240, 220, 40), (20, 60, 200))
    grey = OrganSet((Organ(1, "a"), Organ(2, "b")))
    assert organ_colours(grey) == SAFE[:2]


def test_many_organs_all_have_a_colour() -> None:
    colours = organ_colours(OrganSet(tuple(Organ(i, f"o{i}") for i in range(1, 256))))
    assert len(colours) == 255
    assert all(0 <= value <= 255 for value in itertools.chain(*colours))
    assert len(set(colours[:39])) == 39
