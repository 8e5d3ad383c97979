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
_STANDS_OUT = 2.0
"""Standard deviations of the turns' metric that a result must lie below their mean. On the phantom
wrong results lay at most 1.5 below, true ones 6 and more; by mean squares true ones lay 2.5."""


@dataclass(frozen=True, eq=False)
class Search:
    """Two images that are coarse enough to be compared in many poses."""

    pair: Pair
    config: MatchConfig

    @classmethod
    def of(cls, pair: Pair, config: MatchConfig) -> Search:
        """Raises ``RuntimeError`` for images too thin to be smoothed."""
        # there are few coarse voxels: every one counts
        return cls(pair.coarse(_COARSE_MM), config.model_copy(update={"sampling": 1.0}))

    def answers(self, starts: Sequence[Matrix]) -> list[Matrix]:
        """Affines worth a look at full resolution: where ``starts`` and the best of their turns
        lead. Raises ``RuntimeError`` where the optimiser gives up."""
        found = []
        for start in starts:
            turns = sorted(self._turns(start), key=self._metric)
            found += [self.pair.optimised(at, self.config) for at in (start, *turns[:_FOLLOWED])]
        return found

    def doubts(self, matrix: Matrix) -> bool:
        """Whether ``matrix`` lays the images on each other hardly better than its turns do: then
        it is no more than a place where the optimiser got stuck."""
        turned = np.array([self._metric(other) for other in self._turns(matrix)])
        turned = turned[np.isfinite(turned)]
        gap = turned.mean() - self._metric(matrix) if len(turned) else 0.0
        return not gap > _STANDS_OUT * turned.std()

    def _metric(self, matrix: Matrix) -> float:
        return self.pair.metric(matrix, self.config)

    def _turns(self, matrix: Matrix) -> list[Matrix]:
        """``matrix`` after each turn by -``search_deg``, 0 or ``search_deg`` about the axes."""
        angles = (0.0, -self.config.search_deg, self.config.search_deg)
        return [
            matrix @ turn(degrees, self.pair.world_centre)
            for degrees in product(angles, repeat=3)
            if any(degrees)
        ]


def turn(degrees: Sequence[float], centre: NDArray[np.float64]) -> Matrix:
    """4×4, a rotation about the world's x, then y, then z axis through ``centre`` (RAS mm)."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre
    return matrix
