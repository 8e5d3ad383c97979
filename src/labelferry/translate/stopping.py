"""When a translation has learnt what it will: the cycle loss of eq. 2 has stopped falling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from labelferry.translate.config import TranslateConfig


def is_over(cycles: Sequence[float], config: TranslateConfig) -> bool:
    """Whether training ends after these steps (their cycle losses, in order).

    It ends after a whole number of windows of ``stop_window`` steps, when for ``stop_patience``
    windows in a row none has had a mean lower by ``stop_gain`` than the least mean before it. A
    function of the losses alone: a resumed training ends where an unbroken one does. No label and
    no image is used.
    """
    window = config.stop_window
    if not window or not cycles or len(cycles) % window:
        return False
    means = np.reshape(np.asarray(cycles, np.float64), (-1, window)).mean(1)
    least, idle = float("inf"), 0
    for mean in means:
        idle = 0 if mean < least * (1 - config.stop_gain) else idle + 1
        least = min(least, float(mean))
    return idle >= config.stop_patience
