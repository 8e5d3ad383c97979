"""Which way round the pictures are, and which slices are chosen."""

from __future__ import annotations

import numpy as np
import pytest

from labelferry.report.planes import (
    MARKERS,
    centre,
    on_grid,
    picture_plane,
    plane_mm,
    slice_indices,
    to_grey,
)
from labelferry.volume import Grid, Segmentation, Volume, reorient

GRID = Grid((6, 7, 8), np.diag([2.0, 3.0, 5.0, 1.0]))


def spot(world: tuple[float, float, float]) -> np.ndarray:
    """A canonical array that is 1 at one place of the world."""
    array = np.zeros(GRID.shape, np.uint8)
    array[tuple(GRID.to_index(np.array(world, float)).round().astype(int))] = 1
    return array


def place(array: np.ndarray, plane: str, index: int) -> tuple[int, int]:
    picture = picture_plane(array, plane, index)  # type: ignore[arg-type]
    ((row, column),) = np.argwhere(picture)
    return int(row), int(column)


# the corner of the grid that lies most to the patient's right, front and head
FAR_RIGHT, FAR_FRONT, TOP = 10.0, 18.0, 35.0


def test_patients_right_is_left_in_axial_and_coronal_pictures() -> None:
    right = spot((FAR_RIGHT, 0, 0))
    left = spot((0, 0, 0))
    for plane, index in (("axial", 0), ("coronal", 0)):
        assert place(right, plane, index)[1] == 0
        assert place(left, plane, index)[1] == GRID.shape[0] - 1
        assert (MARKERS[plane].left, MARKERS[plane].right) == ("R", "L")


def test_front_is_on_top_of_axial_and_on_the_left_of_sagittal_pictures() -> None:
    front = spot((0, FAR_FRONT, 0))
    assert place(front, "axial", 0)[0] == 0
    assert place(front, "sagittal", 0)[1] == 0
    assert MARKERS["axial"].top == "A"
    assert MARKERS["sagittal"].left == "A"


def test_head_is_on_top_of_coronal_and_sagittal_pictures() -> None:
    head = spot((0, 0, TOP))
    for plane in ("coronal", "sagittal"):
        assert place(head, plane, 0)[0] == 0
        assert MARKERS[plane].top == "S"


def test_an_image_in_another_orientation_is_turned_before_it_is_shown() -> None:
    lps = np.diag([-2.0, -3.0, 5.0, 1.0])
    lps[:2, 3] = FAR_RIGHT, FAR_FRONT
    stored = reorient(Segmentation(spot((FAR_RIGHT, 0, 0)), GRID), Grid(GRID.shape, lps))
    shown = on_grid(stored, None, labels=True)
    assert place(shown.array, "axial", 0)[1] == 0


def test_layers_on_other_grids_come_to_the_first_ones() -> None:
    fine = GRID.resampled((1.0, 1.5, 2.5))
    labels = on_grid(Volume(np.full(fine.shape, 3, np.uint8), fine), GRID, labels=True)
    image = on_grid(Volume(np.full(fine.shape, 0.5, np.float32), fine), GRID, labels=False)
    assert labels.grid.matches(GRID) and set(np.unique(labels.array)) == {3}
    assert image.grid.matches(GRID) and np.allclose(image.array, 0.5)


def test_plane_extent_in_mm() -> None:
    assert plane_mm(GRID, "axial") == (12.0, 21.0)
    assert plane_mm(GRID, "coronal") == (12.0, 40.0)
    assert plane_mm(GRID, "sagittal") == (21.0, 40.0)


def test_grey_survives_nan_infinity_and_flat_images() -> None:
    wild = np.array([[[np.nan, np.inf, -np.inf, 0.0, 1.0]]], np.float32)
    assert to_grey(wild).tolist() == [[[0, 255, 0, 0, 255]]]
    assert to_grey(np.full((2, 2, 2), 7.0)).max() == 0
    assert to_grey(np.full((2, 2, 2), np.nan)).max() == 0


def test_centre_is_the_organs_or_else_the_middle() -> None:
    labels = np.zeros((9, 9, 9), np.uint8)
    assert centre(labels, labels.shape) == centre(None, labels.shape) == (4, 4, 4)
    labels[1:4, 2, 5:8] = 2
    assert centre(labels, labels.shape) == (2, 2, 6)


@pytest.mark.parametrize(("depth", "count"), [(40, 20), (5, 20), (1, 20), (40, 1)])
def test_slices_rise_stay_inside_and_hold_the_middle(depth: int, count: int) -> None:
    labels = np.zeros((4, 4, depth), np.uint8)
    labels[1, 1, depth // 4 : depth // 2 + 1] = 1
    middle = centre(labels, labels.shape)[2]
    chosen = slice_indices(labels, depth, count, middle)
    assert middle in chosen
    assert list(chosen) == sorted(set(chosen))
    assert 1 <= len(chosen) <= count
    assert chosen[0] >= 0 and chosen[-1] < depth
