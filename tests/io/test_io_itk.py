from __future__ import annotations

import numpy as np
import pytest
import SimpleITK

from labelferry.errors import UserError
from labelferry.io.itk import read_itk

ARRAY = np.random.default_rng(0).integers(0, 500, (8, 10, 12)).astype(np.int16)


def written(path, packed, array=ARRAY):
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(array), str(path), packed)
    return path


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr", "a.mha", "a.mhd"])
def test_a_whole_file_is_read(tmp_path, name, packed):
    volume, replaced = read_itk(written(tmp_path / name, packed))
    np.testing.assert_array_equal(volume.array, ARRAY.T)
    np.testing.assert_array_equal(volume.grid.affine, np.diag([-1, -1, 1, 1]))
    assert replaced == 0


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_a_truncated_file_is_refused(tmp_path, name, packed):
    path = written(tmp_path / name, packed)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"truncated or damaged \(.*a\.(nrrd|mha)\)"):
        read_itk(path)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "a.mhd"])
def test_damaged_compressed_voxels_are_refused(tmp_path, name):
    path = written(tmp_path / name, True)
    voxels = path.with_suffix(".zraw") if name == "a.mhd" else path
    content = bytearray(voxels.read_bytes())
    content[-60] ^= 0xFF
    voxels.write_bytes(bytes(content))
    with pytest.raises(UserError, match="truncated or damaged"):
        read_itk(path)


def test_a_header_that_claims_too_much_is_refused_before_memory_is_taken(tmp_path):
    path = written(tmp_path / "a.mha", False)
    path.write_bytes(path.read_bytes().replace(b"DimSize = 12 10 8", b"DimSize = 9000 9000 9000"))
    with pytest.raises(UserError, match="its header speaks of"):
        read_itk(path)


def test_what_is_not_finite_is_counted(tmp_path):
    array = ARRAY.astype(np.float32)
    array[0, 0, :3] = np.nan, np.inf, -np.inf
    volume, replaced = read_itk(written(tmp_path / "a.nrrd", False, array))
    assert replaced == 3
    assert np.isfinite(volume.array).all()
