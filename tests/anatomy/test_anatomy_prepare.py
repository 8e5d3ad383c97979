from __future__ import annotations

import numpy as np
import pytest

from labelferry.anatomy.config import AnatomyConfig
from labelferry.anatomy.prepare import Prepared, prepare, prepare_labels
from labelferry.errors import UserError
from labelferry.volume import Grid, Segmentation, Volume, reorient

CONFIG = AnatomyConfig()


def scene(shape: tuple[int, int, int] = (64, 44, 28)) -> tuple[Volume, Segmentation]:
    """A CT of an elliptic body with one organ, 5 mm voxels with a step of 4 in z."""
    x, y, z = np.ogrid[: shape[0], : shape[1], : shape[2]]
    body = ((x - 30) / 22) ** 2 + ((y - 20) / 15) ** 2 < 1
    body = np.broadcast_to(body, shape)
    organ = ((x - 24) / 6) ** 2 + ((y - 20) / 5) ** 2 + ((z - shape[2] // 2) / 6) ** 2 < 1
    ct = np.where(body, 0.0, -1000.0) + np.where(organ, 150.0, 0.0)
    affine = np.diag([5.0, 5.0, 4.0, 1.0])
    affine[:3, 3] = (-150, -100, 30)
    grid = Grid(shape, affine)
    return Volume(ct.astype(np.float32), grid), Segmentation(organ.astype(np.uint8), grid)


def stored_as(volume: Volume, axes: str) -> Volume:
    """The same world in another voxel order: ``LPS`` flips, ``SAR`` permutes."""
    signs = {"L": (0, -1), "R": (0, 1), "P": (1, -1), "A": (1, 1), "I": (2, -1), "S": (2, 1)}
    old = volume.grid
    affine = np.eye(4)
    affine[:3, 3] = old.affine[:3, 3]
    shape = []
    for new, letter in enumerate(axes):
        axis, sign = signs[letter]
        affine[:3, new] = sign * old.affine[:3, axis]
        if sign < 0:
            affine[:3, 3] += old.affine[:3, axis] * (old.shape[axis] - 1)
        shape.append(old.shape[axis])
    return reorient(volume, Grid(tuple(shape), affine))


def check(prepared: Prepared, config: AnatomyConfig = CONFIG) -> None:
    grid = prepared.canonical.cropped(prepared.box).resampled(config.spacing)
    for volume in (prepared.image, prepared.anatomy, prepared.body):
        assert volume.grid.matches(grid, 1e-9)
        assert np.isfinite(volume.array).all()
        assert volume.array.min() >= 0
        assert volume.array.max() <= 1
    assert prepared.image.array.dtype == prepared.anatomy.array.dtype == np.float32
    assert prepared.body.array.dtype == bool


def test_crops_to_the_body_with_its_margin() -> None:
    ct, _ = scene()
    prepared = prepare(ct, "CT", CONFIG)
    check(prepared)
    # the body reaches from voxel 9 to 51 along x; 5 mm are one voxel
    assert prepared.box.start[0] == 8
    assert prepared.box.stop[0] == 53
    assert prepared.box.start[2] == 0
    assert prepared.box.stop[2] == 28
    assert prepared.image.array.std() > 0.1
    assert prepared.anatomy.array.std() > 0.1


@pytest.mark.parametrize("axes", ["LPS", "SAR", "IRP"])
def test_orientation_changes_nothing(axes: str) -> None:
    ct, organ = scene()
    straight = prepare(ct, "CT", CONFIG)
    turned = prepare(stored_as(ct, axes), "CT", CONFIG)
    assert turned.image.grid.matches(straight.image.grid, 1e-6)
    assert np.array_equal(turned.image.array, straight.image.array)
    assert np.array_equal(turned.anatomy.array, straight.anatomy.array)
    want = prepare_labels(organ, straight)
    found = prepare_labels(stored_as(organ, axes), straight)
    assert np.array_equal(found.array, want.array)
    assert found.grid.matches(straight.image.grid, 1e-9)
    assert found.array.dtype == np.uint8


def test_labels_keep_place_and_volume() -> None:
    ct, organ = scene()
    prepared = prepare(ct, "CT", CONFIG)
    found = prepare_labels(organ, prepared)
    ratio = found.array.sum() * found.grid.voxel_mm3 / (organ.array.sum() * 100.0)
    assert ratio == pytest.approx(1, abs=0.03)
    where = [v.grid.to_world(np.argwhere(v.array).mean(axis=0)) for v in (found, organ)]
    assert np.linalg.norm(where[0] - where[1]) < 0.5


def test_labels_of_another_image_are_refused() -> None:
    ct, organ = scene()
    prepared = prepare(ct, "CT", CONFIG)
    short = Segmentation(organ.array[:, :, :17], Grid((64, 44, 17), organ.grid.affine))
    with pytest.raises(UserError, match=r"short: .*\(64, 44, 17\).*\(64, 44, 28\)"):
        prepare_labels(short, prepared, case="short")
    affine = np.array(organ.grid.affine)
    affine[0, 3] += 345.6
    off = Segmentation(organ.array, Grid(organ.grid.shape, affine))
    with pytest.raises(UserError, match=r"off: .*345\.6 mm away"):
        prepare_labels(off, prepared, case="off")


@pytest.mark.parametrize("shape", [(64, 44, 1), (12, 10, 7), (1, 1, 2), (64, 2, 2)])
def test_thin_and_tiny_volumes(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    grid = Grid(shape, np.diag([2.0, 2.0, 1.0, 1.0]))
    mr = Volume(rng.random(shape).astype(np.float32), grid)
    if np.prod(shape) < 3:
        with pytest.raises(UserError, match="no contrast"):
            prepare(mr, "MR", CONFIG)
        return
    check(prepare(mr, "MR", CONFIG))


def test_scale_and_wild_voxel_do_not_matter() -> None:
    ct, organ = scene()
    rng = np.random.default_rng(0)
    mr = (np.where(ct.array > -500, 0.5, 0.0) + 0.3 * organ.array) * rng.uniform(
        0.9, 1, ct.array.shape
    )
    plain = prepare(ct.with_array(mr.astype(np.float32)), "MR", CONFIG)
    tiny = (mr * 1e-9).astype(np.float32)
    tiny[30, 20, 3] = 1e30
    wild = prepare(ct.with_array(tiny), "MR", CONFIG)
    check(wild)
    labels = prepare_labels(organ, wild).array > 0
    body = wild.body.array & ~labels

    def contrast(prepared: Prepared) -> float:
        return float(prepared.image.array[labels].mean() - prepared.image.array[body].mean())

    assert contrast(wild) == pytest.approx(contrast(plain), rel=0.1)


def test_errors_name_the_case() -> None:
    grid = Grid((5, 5, 5), np.eye(4))
    with pytest.raises(UserError, match="zero: constant image / no contrast"):
        prepare(Volume(np.zeros(grid.shape, np.float32), grid), "MR", CONFIG, case="zero")
    far = np.full(grid.shape, -900.0, np.float32)
    far[0, 0, 0] = -400.0
    with pytest.raises(UserError, match="far: constant image / no contrast"):
        prepare(Volume(far, grid), "CT", CONFIG, case="far")


def test_the_same_twice() -> None:
    ct, _ = scene()
    one, two = prepare(ct, "CT", CONFIG), prepare(ct, "CT", CONFIG)
    assert one.image.array.tobytes() == two.image.array.tobytes()
    assert one.anatomy.array.tobytes() == two.anatomy.array.tobytes()
