"""Surfaces: which side is which, what hides what, and what is not there."""

from __future__ import annotations

import numpy as np
import pytest

from labelferry.report.surfaces import View, draw_surfaces, frame_of, organ_surfaces
from labelferry.volume import Grid, Segmentation, reorient

GRID = Grid((40, 30, 20), np.diag([3.0, 3.0, 5.0, 1.0]))
COLOURS = ((255, 0, 0), (0, 0, 255), (0, 255, 0))


def ball(centre: tuple[float, float, float], radius: float) -> np.ndarray:
    """Voxels within ``radius`` mm of a place in the world."""
    index = np.stack(np.meshgrid(*map(np.arange, GRID.shape), indexing="ij"), -1)
    return np.asarray(np.linalg.norm(index * GRID.spacing - centre, axis=-1) <= radius)


def labels(**organs: tuple[tuple[float, float, float], float]) -> Segmentation:
    array = np.zeros(GRID.shape, np.uint8)
    for name, (centre, radius) in organs.items():
        array[ball(centre, radius)] = int(name[1:])
    return Segmentation(array, GRID)


def seen_as(picture: np.ndarray, channel: int) -> np.ndarray:
    """Row and column of each pixel in which one of the three colours is the strongest."""
    opaque = picture[..., 3] > 200
    strongest = picture[..., :3].argmax(-1) == channel
    vivid = picture[..., channel] > 60
    return np.argwhere(opaque & strongest & vivid & (picture[..., :3].min(-1) < 40))


@pytest.mark.parametrize("view", ["front", "back"])
def test_right_is_left_from_the_front_and_right_from_the_back(view: View) -> None:
    two = organ_surfaces(labels(o1=((90, 45, 50), 15), o2=((25, 45, 50), 15)), 3)  # 1 lies right
    frame = frame_of(two)
    assert frame is not None
    picture = draw_surfaces(two, COLOURS, frame, view, 120)
    first, second = (seen_as(picture, c)[:, 1].mean() for c in (0, 2))
    assert (first < second) == (view == "front")


@pytest.mark.parametrize(("view", "seen", "hidden"), [("front", 0, 2), ("back", 2, 0)])
def test_what_is_nearer_hides_what_is_behind(view: View, seen: int, hidden: int) -> None:
    two = organ_surfaces(labels(o1=((60, 62, 50), 15), o2=((60, 28, 50), 15)), 3)  # 1 in front
    frame = frame_of(two)
    assert frame is not None
    picture = draw_surfaces(two, COLOURS, frame, view, 120)
    # seen a little from above: what is behind looks over what is before it
    assert len(seen_as(picture, seen)) > 3 * len(seen_as(picture, hidden))


def test_surface_lies_where_the_organ_is() -> None:
    (one,) = organ_surfaces(labels(o2=((60, 45, 50), 20)), 3)
    assert one.organ == 2
    radius = np.linalg.norm(one.vertices - (60, 45, 50), axis=1)
    assert abs(radius.mean() - 20) < 1.5 and radius.std() < 1.0
    outward = (one.normals * (one.vertices - (60, 45, 50))).sum(axis=1) / radius
    assert abs(outward).mean() > 0.95


def test_another_orientation_gives_the_same_surface() -> None:
    straight = labels(o1=((90, 45, 50), 12))
    lps = np.diag([-3.0, -3.0, 5.0, 1.0])
    lps[:2, 3] = 3.0 * 39, 3.0 * 29
    turned = reorient(straight, Grid(GRID.shape, lps))
    (a,), (b,) = organ_surfaces(straight, 3), organ_surfaces(turned, 3)
    assert np.allclose(a.vertices.mean(0), b.vertices.mean(0), atol=0.05)


def test_organs_at_the_border_thin_or_beyond_the_list() -> None:
    array = np.zeros(GRID.shape, np.uint8)
    array[0:3, :, 0:4] = 1  # cut by the image's end: closed there
    array[20, 15, :] = 2  # one voxel thick
    array[30:34, 5:9, 5:9] = 9  # no such organ
    found = organ_surfaces(Segmentation(array, GRID), 3)
    assert [surface.organ for surface in found] == [1, 2]
    assert organ_surfaces(Segmentation(np.zeros(GRID.shape, np.uint8), GRID), 3) == []
    assert frame_of([]) is None


def test_sides_are_written_beside_and_the_rest_is_clear() -> None:
    one = organ_surfaces(labels(o1=((60, 45, 50), 20)), 3)
    frame = frame_of(one)
    assert frame is not None
    picture = draw_surfaces(one, COLOURS, frame, "front", 120)
    assert picture[0, 0, 3] == 0
    middle, margin = picture.shape[0] // 2, 14
    for side in (picture[:, :margin], picture[:, -margin:]):
        assert (side[middle - 8 : middle + 8, :, 3] > 0).any()
        assert not side[: middle - 12, :, 3].any()
    assert (picture == draw_surfaces(one, COLOURS, frame, "front", 120)).all()
