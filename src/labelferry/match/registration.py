"""Affine registration of two images: eq. 6 with R = 0."""

from __future__ import annotations

import logging
from typing import Literal

import numpy as np

from labelferry.match.affine import Affine, is_sane
from labelferry.match.bodies import align_bodies, overlap
from labelferry.match.config import MatchConfig
from labelferry.match.pair import WORST, Pair, threads
from labelferry.match.search import Search
from labelferry.volume import Volume

log = logging.getLogger(__name__)

_LEAST_OVERLAP = 0.5


def register(
    fixed: Volume, moving: Volume, fixed_body: Volume, moving_body: Volume, config: MatchConfig
) -> Affine:
    """Find the affine that lays ``moving`` (q_S) on ``fixed`` (q_T), from the bodies' alignment.

    Image and body of a side share a grid of any affine. The start is the better, by the metric, of
    the bodies' centres laid on each other with their in-plane sizes matched, and of the two worlds
    as they are where the bodies overlap there (two sequences of one session). A search turns it
    (``config.search_deg``). Then level by level, coarse to fine. What the search or a level finds
    is taken when it mirrors nothing, stretches within ``SCALE_LIMITS``, keeps the bodies over each
    other and has no worse metric, at full resolution, than the one before. Where nothing is taken,
    or the optimiser fails, or the images agree at the end as badly as turned ones do, the start
    comes back with ``ok`` false and the reason: nothing is raised. Deterministic when
    ``config.threads`` is 1.
    """
    with threads(config.threads):
        return _register(Pair.of(fixed, moving, fixed_body), fixed_body, moving_body, config)


def _register(pair: Pair, fixed_body: Volume, moving_body: Volume, config: MatchConfig) -> Affine:
    starts = [align_bodies(fixed_body, moving_body)]
    if overlap(np.eye(4), fixed_body, moving_body) >= _LEAST_OVERLAP:
        starts.append(np.eye(4))
    values = [pair.metric(matrix, config) for matrix in starts]
    first = int(np.argmin(values))
    start, before = starts[first], values[first]
    if config.iterations == 0:
        return Affine(start, before, before, False, "no optimisation asked for")
    needed = _LEAST_OVERLAP * overlap(start, fixed_body, moving_body)
    search, best, after, reasons = None, start, before, list[str]()
    for step in _steps(config):
        try:
            if step == "search":
                search = Search.of(pair, config)
                matrix = min(
                    search.answers(starts),
                    key=lambda m: pair.metric(m, config) if is_sane(m) else WORST,
                )
            elif step == "rigid":
                matrix = pair.turned(best, config, config.shrink[0])
            else:
                matrix = pair.optimised(best, config, step)
        except RuntimeError as error:
            reasons.append("the optimiser failed: " + str(error).strip().splitlines()[-1].strip())
            continue
        value = pair.metric(matrix, config)
        if not is_sane(matrix):
            reasons.append("the optimised affine mirrors or stretches too much")
        elif overlap(matrix, fixed_body, moving_body) < needed:
            reasons.append("the optimised affine moves the bodies apart")
        elif value == WORST or value > after:
            reasons.append("the optimised affine has a worse metric than the one before")
        else:
            best, after = matrix, value
    if best is not start and search and search.doubts(best):
        best = start
        reasons.append("the images agree hardly better than when one of them is turned")
    if best is not start:
        return Affine(best, before, after, True, "optimised")
    log.info("registration keeps its start: %s", reasons[-1])
    return Affine(start, before, before, False, reasons[-1])


def _steps(config: MatchConfig) -> tuple[Literal["search", "rigid"] | int, ...]:
    """What finds the affine, one after the other; a number is a level's shrink factor."""
    if config.search_deg:  # whatever the search follows is turned first there
        return ("search", *config.shrink)
    return ("rigid", *config.shrink) if config.rigid_first else config.shrink
