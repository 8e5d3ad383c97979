"""How many steps of a training fit the time there is: measured once, decided, written, kept.

Without a time limit nothing here looks at the clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from labelferry.errors import UserError
from labelferry.files import read_json, write_json

SCHEMA = 1
FILE_NAME = "steps.json"
_WARM_UP = 5  # steps that are not timed: libraries and worker processes start
_TIMED = 20


@dataclass(frozen=True)
class Decision:
    """How long one training goes on. A resumed training keeps the decision of the first one."""

    steps: int
    """Optimiser steps in all."""
    configured: int
    """What the configuration asks for."""
    at: int
    """Steps that were made when it was decided; these knew the configured number alone."""
    seconds_per_step: float
    """As measured."""
    too_short: bool
    """Not even one epoch fitted; one is trained all the same."""

    def told(self, training: str) -> str:
        """One line for a person."""
        if self.too_short:
            return (
                f"{training}: the time left is too short for one epoch at "
                f"{self.seconds_per_step:.3g} s a step; {self.steps} of {self.configured} steps "
                "are made all the same"
            )
        return (
            f"{training}: {self.steps} of {self.configured} steps fit the time, at "
            f"{self.seconds_per_step:.3g} s a step"
        )


@dataclass(frozen=True)
class Limit:
    """When a training is to end, and who is told what was decided."""

    until: float
    """An instant of ``time.monotonic()``, in seconds."""
    told: Callable[[Decision], None] = lambda _: None


def steps_that_fit(
    seconds: float, seconds_per_step: float, *, done: int, epoch: int, configured: int
) -> int:
    """Steps in all of a training that has made ``done`` of them and has ``seconds`` left.

    Whole epochs of ``epoch`` steps, at least one epoch, and never more than ``configured``.
    """
    fitting = done + max(0.0, seconds) / seconds_per_step
    return min(max(1, int(fitting / epoch)) * epoch, configured)


class Pace:
    """The number of steps of the training in ``folder``, which has made ``start`` steps so far."""

    def __init__(
        self, folder: Path, configured: int, epoch: int, start: int, limit: Limit | None
    ) -> None:
        self.configured, self.epoch, self.limit = configured, epoch, limit
        decided = read_decision(folder)
        self.decision = decided if decided and decided.configured == configured else None
        self._path = folder / FILE_NAME
        # within the first epoch, so that one epoch is the least that can be decided
        steps = max(1, min(_WARM_UP + _TIMED, epoch - start, configured - start))
        self._begins = start + min(_WARM_UP, steps // 2)
        self._decides = start + steps
        self._since = 0.0
        self.made(start)

    def total(self, step: int) -> int:
        """Steps in all, as step ``step`` (from 0) knows it."""
        if self.decision is None or step < self.decision.at:
            return self.configured
        return self.decision.steps

    def made(self, done: int) -> None:
        """Take note that ``done`` steps have been made; decide where it is time to."""
        if self.decision is not None or self.limit is None:
            return
        if done == self._begins:
            self._since = time.monotonic()
        elif done == self._decides:
            self.decision = self._decide(done, self.limit)
            write_json(self._path, {"schema_version": SCHEMA, **asdict(self.decision)})
            self.limit.told(self.decision)

    def _decide(self, done: int, limit: Limit) -> Decision:
        now = time.monotonic()
        per_step = max(now - self._since, 1e-6) / (done - self._begins)
        left = limit.until - now
        steps = steps_that_fit(
            left, per_step, done=done, epoch=self.epoch, configured=self.configured
        )
        late = (steps - done) * per_step > left
        return Decision(steps, self.configured, done, round(per_step, 6), late)


def cut_short(*folders: Path) -> str:
    """``; 40 of 100 steps`` of the trainings in ``folders``; empty where none was shortened."""
    decided = [decision for folder in folders if (decision := read_decision(folder))]
    steps, configured = (sum(getattr(d, key) for d in decided) for key in ("steps", "configured"))
    return f"; {steps} of {configured} steps in the time" if steps < configured else ""


def read_decision(folder: Path) -> Decision | None:
    """What was decided for the training in ``folder``; None where its time is not limited."""
    path = folder / FILE_NAME
    if not path.exists():
        return None
    value = read_json(path, schema=SCHEMA)
    value.pop("schema_version")
    try:
        return Decision(**value)
    except TypeError as error:
        raise UserError("steps.json is damaged", path=path, seen=str(error)) from error
