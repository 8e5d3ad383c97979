from __future__ import annotations

import numpy as np
import pytest

from labelferry.errors import UserError
from labelferry.refine.fusion import fuse


def _row(*values: int) -> np.ndarray:
    return np.array(values, np.uint8).reshape(1, 1, -1)


ROUNDS = [_row(1, 0, 0, 2, 1, 1), _row(0, 2, 0, 1, 2, 0), _row(0, 0, 0, 0, 3, 0)]


def test_union_and_its_tie():
    # voxel 3: round 2 saw organ 1 after round 1 saw organ 2; round 3's background does not count
    np.testing.assert_array_equal(fuse("union", ROUNDS), _row(1, 2, 0, 1, 3, 1))
    for organ in (1, 2, 3):
        claimed = np.any([y == organ for y in ROUNDS], axis=0)
        assert not np.any((fuse("union", ROUNDS) == organ) & ~claimed)


def test_majority_and_its_tie():
    np.testing.assert_array_equal(fuse("majority", ROUNDS), _row(0, 0, 0, 0, 3, 0))
    votes = [_row(1, 2), _row(1, 2), _row(0, 1)]
    np.testing.assert_array_equal(fuse("majority", votes), _row(1, 2))
    two = [_row(1), _row(2)]
    np.testing.assert_array_equal(fuse("majority", two), _row(2))


def test_last_and_single_round():
    np.testing.assert_array_equal(fuse("last", ROUNDS), ROUNDS[-1])
    for how in ("union", "majority", "last"):
        result = fuse(how, ROUNDS[:1])
        np.testing.assert_array_equal(result, ROUNDS[0])
        assert result.dtype == np.uint8


def test_mean_probability_from_arrays_and_files(tmp_path):
    first = np.array([[0.6, 0.2, 0.5], [0.4, 0.8, 0.5]], np.float16).reshape(2, 1, 1, 3)
    second = np.array([[0.1, 0.9, 0.5], [0.9, 0.1, 0.5]], np.float16).reshape(2, 1, 1, 3)
    expected = _row(1, 0, 0)  # means (.35 .65), (.55 .45), (.5 .5): of equals the smaller id
    np.testing.assert_array_equal(fuse("mean_probability", [], [first, second]), expected)
    np.save(tmp_path / "a.npy", first)
    np.savez(tmp_path / "b.npz", probabilities=second, other=first)
    paths = (tmp_path / name for name in ("a.npy", "b.npz"))
    np.testing.assert_array_equal(fuse("mean_probability", [], paths), expected)


def test_what_is_refused(tmp_path):
    with pytest.raises(UserError, match="needs the rounds' probabilities"):
        fuse("mean_probability", ROUNDS)
    with pytest.raises(UserError, match="no round"):
        fuse("mean_probability", [], [])
    with pytest.raises(UserError, match="no round"):
        fuse("union", [])
    with pytest.raises(UserError, match="differ in shape"):
        fuse("union", [_row(1), _row(1, 2)])
    with pytest.raises(UserError, match="differ in shape"):
        fuse("mean_probability", [], [np.zeros((2, 1)), np.zeros((3, 1))])
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(UserError, match="not a readable array"):
        fuse("mean_probability", [], [broken])
