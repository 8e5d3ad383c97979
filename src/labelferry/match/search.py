"""How the patient lies turned: many rotations tried on coarse images before eq. 6 is solved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from labelferry.match.config import MatchConfig
from labelferry.match.pair import Matrix, Pair

_COARSE_MM = 12.0
_FOLLOWED = 2
"""Turns of each start that are optimised, besides the start."""
_JUDGED_MM = 6.0
"""Voxels on which a result is judged. On the coarse ones of the search a wrong one that has been
optimised stands out from its turns, which have not, nearly as a true one does."""
_JUDGED_SHARE = 0.25
_STANDS_OUT = {"mutual_information": 3.0, "mean_squares": 2.0}
"""Standard deviations of the turns' metric that a result must lie below their mean (measured:
docs/explanation/matching.md)."""


@dataclass(frozen=True, eq=False)
class Search:
    """Two images that are coarse enough to be compared in many poses."""

    pair: Pair
    config: MatchConfig

    @classmethod
    def of(cls, pair: Pair, config: MatchConfig) -> Search:
        """Raises ``RuntimeError`` for images too thin to be smoothed."""
        # there are few coarse voxels: every one counts
        every = config.model_copy(update={"sampling": 1.0})
        return cls(pair.coarse(_COARSE_MM), every)

    def answers(self, starts: Sequence[Matrix]) -> list[Matrix]:
        """Affines worth a look at full resolution: where ``starts`` and the best of their turns
        lead. Raises ``RuntimeError`` where the optimiser gives up."""
        found = []
        for start in starts:
            turns = _turns(start, self.pair, self.config)
            turns.sort(key=lambda at: self.pair.metric(at, self.config))
            found += [self._followed(at) for at in (start, *turns[:_FOLLOWED])]
        return found

    def _followed(self, start: Matrix) -> Matrix:
        if self.config.rigid_first:
            start = self.pair.turned(start, self.config)
        return self.pair.optimised(start, self.config)


def stands_out(matrix: Matrix, pair: Pair, config: MatchConfig) -> float:
    """By how much ``matrix`` lays the images on each other better than its turns do.

    In multiples of what it takes to be more than a place where the optimiser got stuck. Raises
    ``RuntimeError`` for images too thin to be smoothed.
    """
    some = config.model_copy(update={"sampling": _JUDGED_SHARE})
    judged = pair.coarse(_JUDGED_MM)
    turned = np.array([judged.metric(other, some) for other in _turns(matrix, pair, config)])
    turned = turned[np.isfinite(turned)]
    if not len(turned) or not turned.std():
        return 0.0
    gap = turned.mean() - judged.metric(matrix, some)
    return float(gap / turned.std()) / _STANDS_OUT[config.metric]


def _turns(matrix: Matrix, pair: Pair, config: MatchConfig) -> list[Matrix]:
    """``matrix`` after each turn by -``search_deg``, 0 or ``search_deg`` about the axes."""
    angles = (0.0, -config.search_deg, config.search_deg)
    return [
        matrix @ turn(degrees, pair.world_centre)
        for degrees in product(angles, repeat=3)
        if any(degrees)
    ]


def turn(degrees: Sequence[float], centre: NDArray[np.float64]) -> Matrix:
    """4×4, a rotation about the world's x, then y, then z axis through ``centre`` (RAS mm)."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre
    return matrix
