from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from labelferry.translate.pool import draw


def fakes(first: int, count: int = 2) -> Tensor:
    return torch.arange(first, first + count).float().reshape(count, 1, 1, 1).expand(-1, 1, 2, 2)


def rngs(step: int, count: int = 2) -> list[np.random.Generator]:
    return [np.random.default_rng((7, step * count + k)) for k in range(count)]


def run(steps: int, size: int) -> tuple[list[Tensor], list[float]]:
    pool: list[Tensor] = []
    shown: list[float] = []
    for step in range(steps):
        out = draw(pool, fakes(2 * step), size, rngs(step))
        assert out.shape == (2, 1, 2, 2)
        shown += out[:, 0, 0, 0].tolist()
    return pool, shown


def test_filling_shows_the_newest() -> None:
    pool, shown = run(2, 5)
    assert shown == [0, 1, 2, 3]
    assert [int(f[0, 0, 0]) for f in pool] == [0, 1, 2, 3]


def test_a_full_pool_shows_old_and_new_and_loses_none() -> None:
    pool, shown = run(200, 5)
    assert len(pool) == 5
    newest = sum(value == n for n, value in enumerate(shown[5:], start=5))
    assert 0.4 < newest / 395 < 0.6
    # every slice is shown once or still waits in the pool, but for the first ones, shown on entry
    seen = shown + [float(f[0, 0, 0]) for f in pool]
    assert set(seen) == set(range(400))


def test_no_pool() -> None:
    pool, shown = run(3, 0)
    assert pool == []
    assert shown == [0, 1, 2, 3, 4, 5]


def test_the_draw_is_a_function_of_the_generators() -> None:
    assert run(30, 4)[1] == run(30, 4)[1]


def test_the_pool_keeps_copies_without_gradient() -> None:
    pool: list[Tensor] = []
    image = fakes(0).clone().requires_grad_()
    out = draw(pool, image, 4, rngs(0))
    assert not out.requires_grad
    assert not pool[0].requires_grad
    with torch.no_grad():
        image.zero_()
    assert pool[1].max() == 1
