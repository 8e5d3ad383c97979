"""How the patient lies turned: many rotations tried on coarse images before eq. 6 is solved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from labelferry.match.affine import is_sane
from labelferry.match.config import MatchConfig
from labelferry.match.pair import WORST, Matrix, Pair

_COARSE_MM = 16.0
_FOLLOWED = 2


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

    def better(self, start: Matrix) -> Matrix:
        """The best affine near ``start``: itself and the best of its turns are optimised.

        Raises ``RuntimeError`` where the optimiser gives up.
        """
        turns = sorted(self._turns(start), key=self._metric)
        found = [self.pair.optimised(at, self.config) for at in (start, *turns[:_FOLLOWED])]
        return min(found, key=lambda matrix: self._metric(matrix) if is_sane(matrix) else WORST)

    def doubts(self, matrix: Matrix) -> bool:
        """Whether the images agree as well when one is turned: then ``matrix`` is no optimum."""
        value = self._metric(matrix)
        return any(self._metric(other) <= value for other in self._turns(matrix))

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
