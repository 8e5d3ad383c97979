"""Scores against truth: DSC and NSD per organ, in mm, organs without truth left out.

The room and its main verb share a name: ``labelferry.evaluate(…)`` is the function, whichever of
the two was imported first, since the module itself can be called.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from labelferry.evaluate.folder import evaluate
from labelferry.evaluate.results import CaseScores, Evaluation, Score

__all__ = ["CaseScores", "Evaluation", "Score", "evaluate"]


class _Room(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Evaluation:
        return evaluate(*args, **kwargs)


sys.modules[__name__].__class__ = _Room
