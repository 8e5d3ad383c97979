from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from labelferry.errors import UserError
from labelferry.io.nifti import read_image, write_volume
from labelferry.translate.slices import gather, pad_to, rounded_up
from labelferry.volume import Grid, Volume


def test_slices_are_axial_and_constant_ones_are_left_out(tmp_path: Path) -> None:
    array = np.zeros((5, 4, 3), np.float32)
    array[:, :, 1] = np.arange(20).reshape(5, 4) / 20
    path = tmp_path / "a.nii.gz"
    write_volume(path, Volume(array, Grid(array.shape, np.eye(4))))
    found = gather([path], "source", tmp_path)
    assert found.largest == (4, 5)
    assert len(found.cases[0]) == 1
    image = found.draw(np.random.default_rng(0), (4, 5))
    assert np.allclose(image, read_image(path).volume.array[:, :, 1].T, atol=1e-3)
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii.gz"]  # the store has no name


def test_crop_and_pad(tmp_path: Path, write: Callable[..., Path]) -> None:
    paths = [write("small", (6, 30, 2), True), write("large", (40, 9, 2), True)]
    found = gather(paths, "source", tmp_path)
    draws = [found.draw(np.random.default_rng((0, n)), (16, 16)) for n in range(20)]
    assert {d.shape for d in draws} == {(16, 16)}
    again = found.draw(np.random.default_rng((0, 3)), (16, 16))
    assert np.array_equal(again, draws[3])
    assert len({d.tobytes() for d in draws}) > 4


def test_memory_does_not_grow_with_the_number_of_slices(
    tmp_path: Path, write: Callable[..., Path]
) -> None:
    """Pixels stay on the disk: ten times the slices may cost a few bytes each, not their pixels."""
    paths = [write(f"c{n}", (64, 64, 16), True) for n in range(3)] * 10

    def peak(count: int) -> tuple[int, int]:
        tracemalloc.start()
        found = gather(paths[:count], "source", tmp_path)
        for n in range(100):
            found.draw(np.random.default_rng((0, n)), (48, 48))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most, found.values.nbytes

    peak(3)  # what is made once, such as imported modules, counts for neither
    (few, small), (many, large) = peak(3), peak(30)
    assert large == 10 * small == 30 * 64 * 64 * 16 * 2
    assert many - few < 0.06 * (large - small)


def test_no_image_and_no_usable_slice(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no target image"):
        gather([], "target", tmp_path)
    path = tmp_path / "flat.nii.gz"
    write_volume(path, Volume(np.full((4, 4, 4), 0.5, np.float32), Grid((4, 4, 4), np.eye(4))))
    with pytest.raises(UserError, match=r"target image has no usable slice .*flat\.nii\.gz"):
        gather([path], "target", tmp_path)


def test_padding_reflects_even_a_single_pixel() -> None:
    assert pad_to(np.array([[1, 2, 3]]), (1, 5)).tolist() == [[1, 2, 3, 2, 1]]
    assert pad_to(np.array([[4]]), (2, 2)).tolist() == [[4, 4], [4, 4]]
    assert rounded_up(9, 4, 8) == 12
    assert rounded_up(3, 4, 8) == 8
    assert rounded_up(12, 4, 8) == 12
