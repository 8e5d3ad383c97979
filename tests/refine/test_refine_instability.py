from __future__ import annotations

import json
import math

import numpy as np
import pytest

from labelferry.errors import UserError
from labelferry.refine.instability import Instability, instability


def _maps(*rows: list[int]) -> list[np.ndarray]:
    return [np.array(row, np.uint8).reshape(2, 2, 2) for row in rows]


def test_equation_7_by_hand():
    rounds = _maps(
        [1, 1, 0, 0, 2, 2, 0, 0],
        [1, 1, 1, 0, 2, 0, 0, 0],  # 2 voxels differ, 4 are foreground
        [1, 1, 1, 2, 1, 0, 0, 0],  # 2 differ, 5 are foreground
    )
    row = instability(rounds, (1, 2))
    assert row.case == pytest.approx((2 / 4 + 2 / 5) / 2)
    # organ 1: 1 of 3, then 1 of 4; organ 2: 1 of 1, then 2 of 1
    assert row.organs[1] == pytest.approx((1 / 3 + 1 / 4) / 2)
    assert row.organs[2] == pytest.approx((1 + 2) / 2)
    assert instability(iter(rounds), (1, 2)) == row


def test_unchanged_is_stable():
    row = instability(_maps([1] * 8, [1] * 8), (1,))
    assert row == Instability(0.0, {1: 0.0})


def test_empty_is_infinite_never_nan():
    row = instability(_maps([1] * 8, [0] * 8, [1] * 8), (1, 2))
    assert row.case == row.organs[1] == row.organs[2] == math.inf
    still = instability(_maps([0] * 8, [0] * 8), (1,))
    assert still.case == still.organs[1] == math.inf
    text = json.dumps(row.to_json(), allow_nan=False)
    assert json.loads(text) == {"case": None, "organs": {"1": None, "2": None}}
    assert Instability.from_json(json.loads(text)) == row


def test_an_empty_first_round_alone_is_finite():
    assert instability(_maps([0] * 8, [1] * 8), (1,)).case == 1.0


def test_one_round_is_refused_and_shapes_must_match():
    with pytest.raises(UserError, match="compares rounds"):
        instability(_maps([1] * 8), (1,))
    with pytest.raises(UserError, match="differ in shape"):
        instability([np.zeros((2, 2, 2), int), np.zeros((2, 2, 3), int)], (1,))
