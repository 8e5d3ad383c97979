"""How much two masks share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def dice(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float | None:
    """Dice similarity coefficient 2|P ∩ T| / (|P| + |T|) of two masks of one shape.

    Between 0 and 1; None where both masks are empty, since 0 / 0 says nothing.
    """
    total = int(np.count_nonzero(prediction)) + int(np.count_nonzero(truth))
    if total == 0:
        return None
    return 2 * int(np.count_nonzero(prediction & truth)) / total
