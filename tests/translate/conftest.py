from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from labelferry.io.nifti import write_volume
from labelferry.volume import Grid, Volume

Write = Callable[[str, tuple[int, int, int], bool], Path]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write blobs: bright on dark (source), or dark on bright (target)."""

    def one(name: str, shape: tuple[int, int, int], bright: bool) -> Path:
        seed = np.random.default_rng(sum(map(ord, name)))
        blobs = ndimage.gaussian_filter(seed.random(shape), 2) > 0.5
        image = np.where(blobs, 0.9, 0.2) if bright else np.where(blobs, 0.1, 0.8)
        path = tmp_path / f"{name}.nii.gz"
        grid = Grid(shape, np.diag([3.2, 3.2, 5.0, 1.0]))
        write_volume(path, Volume(image.astype(np.float32), grid))
        return path

    return one
