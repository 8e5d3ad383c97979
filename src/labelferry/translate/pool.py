"""Earlier translations, so that a discriminator does not forget them (Shrivastava et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def draw(
    pool: list[Tensor], fakes: Tensor, size: int, rngs: Sequence[np.random.Generator]
) -> Tensor:
    """What a discriminator is shown in place of ``fakes`` (batch, 1, y, x): the same shape.

    While ``pool`` holds fewer than ``size`` slices, each slice enters it and is shown. Then each
    is shown itself or, with probability a half, changes places with one of the pool. Slice k is
    decided by ``rngs[k]``. ``pool`` is changed in place.
    """
    shown = []
    for fake, rng in zip(fakes.detach(), rngs, strict=True):
        if len(pool) < size:
            pool.append(fake.clone())
            shown.append(fake)
        elif size > 0 and rng.random() < 0.5:
            place = int(rng.integers(size))
            shown.append(pool[place])
            pool[place] = fake.clone()
        else:
            shown.append(fake)
    return torch.stack(shown)
