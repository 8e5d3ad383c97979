"""How numbers scatter: mean, standard deviation and quartiles, as tables print them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """One quantity over cases (not over patients); None where it is undefined."""

    mean: float | None
    sd: float | None
    """Standard deviation of the sample (n - 1); None with fewer than two cases."""
    p25: float | None
    p50: float | None
    p75: float | None
    n: int


def spread_of(values: Iterable[float]) -> Spread:
    """Mean, standard deviation and quartiles, interpolated linearly."""
    found = np.array(list(values), np.float64)
    if not len(found):
        return Spread(None, None, None, None, None, 0)
    low, middle, high = (float(v) for v in np.percentile(found, (25, 50, 75)))
    sd = float(found.std(ddof=1)) if len(found) > 1 else None
    return Spread(float(found.mean()), sd, low, middle, high, len(found))
