from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from labelferry.phantom.frame import Frame, PhantomGrid, draw_frame, smooth_field
from labelferry.phantom.shapes import ellipsoid, tube

GRID = PhantomGrid.of_spacing((6.4, 6.4, 10.0))


@pytest.fixture(scope="module")
def frame() -> Frame:
    return draw_frame(np.random.default_rng(3), GRID)


@pytest.fixture(scope="module")
def plain() -> Frame:
    """2 mm voxels without any deformation."""
    axis = np.arange(-60, 61, 2, dtype=np.float32)
    return Frame(*np.meshgrid(axis, axis, axis, indexing="ij"))


def without_boxes(frame: Frame) -> Frame:
    """The same frame, whose shapes are computed on every voxel."""

    class Whole(Frame):
        def box(self, low: object, high: object) -> tuple[slice, slice, slice]:
            return slice(None), slice(None), slice(None)

    return Whole(frame.x, frame.y, frame.z)


def test_boxes_leave_nothing_out(frame: Frame) -> None:
    whole = without_boxes(frame)
    for turn in ((0, 0, 0), (30, -20, 15), (-70, 45, 80)):
        arguments = ((20, -30, 10), (60, 20, 35), turn)
        np.testing.assert_array_equal(ellipsoid(frame, *arguments), ellipsoid(whole, *arguments))
    path = [(-60.0, 0.0, -40.0), (10.0, 40.0, 0.0), (70.0, -10.0, 60.0)]
    np.testing.assert_array_equal(tube(frame, path, [20, 8, 15]), tube(whole, path, [20, 8, 15]))


def test_ellipsoid_has_its_volume_and_direction(plain: Frame) -> None:
    mask = ellipsoid(plain, (5, -5, 0), (40, 20, 15))
    assert mask.sum() * 8 == pytest.approx(4 / 3 * np.pi * 40 * 20 * 15, rel=0.03)
    turned = ellipsoid(plain, (5, -5, 0), (40, 20, 15), (90, 0, 0))
    assert np.ptp(np.nonzero(turned)[1]) == np.ptp(np.nonzero(mask)[0])


def test_tube_has_its_volume_and_its_lumen(plain: Frame) -> None:
    path = [(-30.0, 0.0, 0.0), (30.0, 0.0, 0.0)]
    outer, inner = tube(plain, path, [14.5, 14.5]), tube(plain, path, [14.5, 14.5], inset=5)
    assert outer.sum() * 8 == pytest.approx(np.pi * 14.5**2 * (60 + 4 / 3 * 14.5), rel=0.05)
    assert not (inner & ~outer).any()
    assert inner.sum() < outer.sum() / 2
    assert not tube(plain, path, [4, 4], inset=5).any()


def test_shapes_beyond_the_grid_are_empty(plain: Frame) -> None:
    assert not ellipsoid(plain, (500, 0, 0), (10, 10, 10)).any()
    far = replace(plain, z=plain.z + 1000)
    assert not tube(far, [(0.0, 0.0, 0.0), (10.0, 0.0, 0.0)], [5, 5]).any()


def test_smooth_fields_do_not_depend_on_the_grid() -> None:
    fine = smooth_field(np.random.default_rng(1), (60, 45, 30), (5, 5, 4), 2.0)
    coarse = smooth_field(np.random.default_rng(1), (20, 15, 10), (5, 5, 4), 2.0)
    # of three fine voxels the middle one has the centre of the coarse one
    np.testing.assert_allclose(fine[1::3, 1::3, 1::3], coarse, atol=1e-4)
    assert 0.8 < fine.std() < 2.5
    assert fine.dtype == np.float32
