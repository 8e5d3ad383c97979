"""Affine registration of two images: eq. 6 with R = 0."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from labelferry.match.affine import Affine, is_sane
from labelferry.match.bodies import align_bodies, body_index, overlap
from labelferry.match.config import MatchConfig
from labelferry.match.pair import WORST, Matrix, Pair, threads
from labelferry.match.search import Search, stands_out
from labelferry.volume import Volume

log = logging.getLogger(__name__)

_LEAST_OVERLAP = 0.5
_CLEAR = 2.5
"""Times what an affine has to stand out by at least: from there on no wrong one was seen."""
_DISPUTED = 5 / 3
"""The same where the images exchanged led elsewhere (docs/explanation/matching.md has the
measurements of both)."""
_SAME_MM = 5.0


def register(
    fixed: Volume, moving: Volume, fixed_body: Volume, moving_body: Volume, config: MatchConfig
) -> Affine:
    """Find the affine that lays ``moving`` (q_S) on ``fixed`` (q_T), from the bodies' alignment.

    Image and body of a side share a grid of any affine. The start is the better, by the metric, of
    the bodies' centres laid on each other with their in-plane sizes matched, and of the two worlds
    as they are where the bodies overlap there (two sequences of one session). A search turns it
    (``config.search_deg``). Then level by level, coarse to fine. What the search or a level finds
    is taken when it mirrors nothing, stretches within ``SCALE_LIMITS``, keeps the bodies over each
    other and has no worse metric, at full resolution, than the one before. Where the images then
    do not agree much better than turned ones do, the two are exchanged and it is all done again,
    and the better of both by the metric is taken. Where nothing is taken, or the optimiser fails,
    or the images still agree as badly as turned ones do, the start comes back with ``ok`` false and
    the reason: nothing is raised. Deterministic when ``config.threads`` is 1.
    """
    with threads(config.threads):
        there = _Way.of(fixed, moving, fixed_body, moving_body, config)
        found = there.find()
        if config.search_deg and config.iterations:
            # few need it
            exchanged = partial(_Way.of, moving, fixed, moving_body, fixed_body, config)
            found = _judged(found, there, exchanged)
    if found.moved:
        return Affine(found.best, found.before, found.after, True, "optimised")
    log.info("registration keeps its start: %s", found.reasons[-1])
    return Affine(found.start, found.before, found.before, False, found.reasons[-1])


_Step = Literal["search", "rigid"] | int
"""A number is a level's shrink factor."""


@dataclass(frozen=True, eq=False)
class _Found:
    """The best affine so far."""

    start: Matrix
    before: float
    """The metric of ``start``."""
    needed: float
    """Overlap of the bodies that any other affine has to keep."""
    best: Matrix
    after: float
    """The metric of ``best``."""
    reasons: tuple[str, ...] = ()
    """Why other affines were not taken."""

    @property
    def moved(self) -> bool:
        return self.best is not self.start

    def without(self, reason: str) -> _Found:
        return replace(self, reasons=(*self.reasons, reason))


@dataclass(frozen=True, eq=False)
class _Way:
    """Two images, the one fixed and the other moving."""

    pair: Pair
    fixed_body: Volume
    moving_body: Volume
    config: MatchConfig

    @classmethod
    def of(
        cls,
        fixed: Volume,
        moving: Volume,
        fixed_body: Volume,
        moving_body: Volume,
        config: MatchConfig,
    ) -> _Way:
        return cls(Pair.of(fixed, moving, fixed_body), fixed_body, moving_body, config)

    def find(self) -> _Found:
        """What the steps lead to."""
        starts = [align_bodies(self.fixed_body, self.moving_body)]
        if self._overlap(np.eye(4)) >= _LEAST_OVERLAP:
            starts.append(np.eye(4))
        values = [self.pair.metric(matrix, self.config) for matrix in starts]
        first = int(np.argmin(values))
        start, before = starts[first], values[first]
        found = _Found(start, before, _LEAST_OVERLAP * self._overlap(start), start, before)
        if self.config.iterations == 0:
            return found.without("no optimisation asked for")
        return self.follow(found, _steps(self.config), starts)

    def follow(
        self, found: _Found, steps: Sequence[_Step], starts: Sequence[Matrix] = ()
    ) -> _Found:
        """One step after the other; a search begins at ``starts``."""
        for step in steps:
            try:
                matrix = self._step(step, starts, found.best)
            except RuntimeError as error:
                told = str(error).strip().splitlines()[-1].strip()
                found = found.without("the optimiser failed: " + told)
            else:
                found = self.better(found, matrix)
        return found

    def better(self, found: _Found, matrix: Matrix) -> _Found:
        """With ``matrix`` in place of the best one, where it may be believed and is better."""
        if not is_sane(matrix):
            return found.without("the optimised affine mirrors or stretches too much")
        if self._overlap(matrix) < found.needed:
            return found.without("the optimised affine moves the bodies apart")
        value = self.pair.metric(matrix, self.config)
        if value == WORST or value > found.after:
            return found.without("the optimised affine has a worse metric than the one before")
        return replace(found, best=matrix, after=value)

    def _step(self, step: _Step, starts: Sequence[Matrix], best: Matrix) -> Matrix:
        if step == "search":
            return min(
                Search.of(self.pair, self.config).answers(starts),
                key=lambda m: self.pair.metric(m, self.config) if is_sane(m) else WORST,
            )
        if step == "rigid":
            return self.pair.turned(best, self.config, self.config.shrink[0])
        return self.pair.optimised(best, self.config, step)

    def _overlap(self, matrix: Matrix) -> float:
        return overlap(matrix, self.fixed_body, self.moving_body)


def _judged(found: _Found, there: _Way, exchanged: Callable[[], _Way]) -> _Found:
    """Found again from the other side where it stands out little, and given up where it does not
    stand out then; the more is asked where the two sides have led to different places."""
    least = 1.0
    try:
        clear = stands_out(found.best, there.pair, there.config)
        if clear < _CLEAR:
            other = exchanged().find()
            inverse = np.asarray(np.linalg.inv(other.best), float)
            if _apart_mm(found.best, inverse, there.fixed_body) > _SAME_MM:
                least = _DISPUTED
            found = there.follow(there.better(found, inverse), there.config.shrink)
            clear = stands_out(found.best, there.pair, there.config)
    except RuntimeError:  # images of few slices
        return found
    if found.moved and clear <= least:
        found = replace(found, best=found.start, after=found.before)
        return found.without("the images agree hardly better than when one of them is turned")
    return found


def _apart_mm(one: Matrix, other: Matrix, body: Volume) -> float:
    """Mean distance between the places to which two affines send the body."""
    places = body.grid.to_world(body_index(body).astype(float))
    gap = (one - other)[:3]
    return float(np.linalg.norm(places @ gap[:, :3].T + gap[:, 3], axis=1).mean())


def _steps(config: MatchConfig) -> tuple[_Step, ...]:
    """What finds the affine, one after the other."""
    if config.search_deg:  # whatever the search follows is turned first there
        return ("search", *config.shrink)
    return ("rigid", *config.shrink) if config.rigid_first else config.shrink
