"""The hours that a run may take, divided among its trainings."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Self

from labelferry.pipeline.config import RunConfig

FOR_TRAINING = 0.8
"""Share of the time left that the trainings get; the rest is for labelling, matching, report."""


def trainings(config: RunConfig, until: str | None = None) -> tuple[tuple[str, int], ...]:
    """Name and configured steps of each training up to and with stage ``until``, in order."""
    refine = config.refine
    first = refine.later if config.from_teacher else refine.train
    stages: dict[str, list[tuple[str, int]]] = {
        "prepare": [],
        "translate": [("translator", config.translate.iterations * config.translate.enabled)],
        "teach": [] if config.teacher else [("teacher", config.teach.train.iterations)],
        "match": [],
        "refine": [
            (f"round {n}", (refine.later if n > 1 else first).iterations)
            for n in range(1, refine.select.rounds + 1)
        ],
        "distil": [("student", config.distil.train.iterations)],
    }
    names = list(stages)
    last = names.index(until) if until in stages else len(names) - 1
    return tuple(training for name in names[: last + 1] for training in stages[name])


@dataclass(frozen=True)
class Hours:
    """The end of a run, and the trainings that share the time until then."""

    end: float
    """An instant of ``time.monotonic()``, in seconds."""
    trainings: tuple[tuple[str, int], ...]
    """Name and configured steps of each, in order."""

    @classmethod
    def of(cls, config: RunConfig, until: str | None) -> Self | None:
        """From now on; None where the configuration sets no limit."""
        if not config.max_hours:
            return None
        return cls(time.monotonic() + 3600 * config.max_hours, trainings(config, until))

    def until(self, training: str, now: float, alike: int = 1) -> float:
        """When a training that begins ``now`` is to end.

        It gets the share of the time left that its configured steps are of all steps to come: what
        one training leaves, the next ones have. ``alike``: trainings of this name to come, this one
        among them (one pair of translators for each domain).
        """
        names = [name for name, _ in self.trainings]
        own, *later = [steps for _, steps in self.trainings[names.index(training) :]]
        return now + FOR_TRAINING * max(0.0, self.end - now) * own / (alike * own + sum(later))
