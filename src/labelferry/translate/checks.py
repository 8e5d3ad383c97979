"""What a training step is drawn from, and whether its losses and weights are still numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from labelferry.errors import UserError
from labelferry.translate import state as states
from labelferry.translate.config import TranslateConfig
from labelferry.translate.slices import Slices
from labelferry.translate.state import State

Rngs = Sequence[np.random.Generator]


def draws_of(seed: int, step: int, config: TranslateConfig) -> Rngs:
    """The generators of a step's samples: sample n is drawn from (seed, n)."""
    samples = range(step * config.batch, (step + 1) * config.batch)
    return [np.random.default_rng((seed, sample)) for sample in samples]


def check_losses(
    found: Mapping[str, float],
    sides: tuple[Slices, Slices],
    size: tuple[int, int],
    config: TranslateConfig,
    seed: int,
    step: int,
) -> None:
    """Stop at a loss that is no number, and name the slices."""
    if not all(math.isfinite(value) for value in found.values()):
        raise UserError(
            f"a loss of the translation is not finite at iteration {step}",
            seen=f"{dict(found)}, on {told(sides, size, config, seed, step)}",
            fix="look at these slices; lower learning_rate, or set amp to fp32; the last good "
            "checkpoint is kept",
        )


def check_weights(
    state: State,
    sides: tuple[Slices, Slices],
    size: tuple[int, int],
    config: TranslateConfig,
    seed: int,
    step: int,
) -> None:
    """Stop before a broken network would take the place of the last good checkpoint."""
    if not states.is_finite(state):
        raise UserError(
            f"a weight of the translation is not finite after iteration {step}",
            seen=f"{told(sides, size, config, seed, step)}, the newest batch",
            fix="lower learning_rate, or set amp to fp32; the last good checkpoint is kept",
        )


def told(
    sides: tuple[Slices, Slices],
    size: tuple[int, int],
    config: TranslateConfig,
    seed: int,
    step: int,
) -> str:
    """The slices of one step's batch in words, drawn again as the step has drawn them."""
    rngs = draws_of(seed, step, config)
    parts = []
    for word, side in zip(("source", "target"), sides, strict=True):
        parts.append(f"{word} " + ", ".join(side.draw_named(rng, size)[1] for rng in rngs))
    return " and ".join(parts)
