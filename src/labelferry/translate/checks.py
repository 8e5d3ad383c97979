"""What a training step is drawn from, and whether its losses and weights are still numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from labelferry.errors import UserError
from labelferry.translate import state as states
from labelferry.translate.config import TranslateConfig
from labelferry.translate.slices import Slices
from labelferry.translate.state import State

Rngs = Sequence[np.random.Generator]


@dataclass(frozen=True, eq=False)
class Draws:
    """What the batches of a training are drawn from."""

    sides: tuple[Slices, Slices]
    """Source, target."""
    size: tuple[int, int]
    """Of the training slices, (y, x)."""
    config: TranslateConfig
    seed: int

    def of(self, step: int) -> Rngs:
        """The generators of a step's samples: sample n is drawn from (seed, n)."""
        samples = range(step * self.config.batch, (step + 1) * self.config.batch)
        return [np.random.default_rng((self.seed, sample)) for sample in samples]

    def told(self, step: int) -> str:
        """The slices of a step's batch in words, drawn again as the step has drawn them."""
        rngs = self.of(step)
        parts = []
        for word, side in zip(("source", "target"), self.sides, strict=True):
            parts.append(f"{word} " + ", ".join(side.draw_named(r, self.size)[1] for r in rngs))
        return " and ".join(parts)


def check_losses(found: Mapping[str, float], draws: Draws, step: int) -> None:
    """Stop at a loss that is no number, and name the slices."""
    if not all(math.isfinite(value) for value in found.values()):
        raise UserError(
            f"a loss of the translation is not finite at iteration {step}",
            seen=f"{dict(found)}, on {draws.told(step)}",
            fix="look at these slices; lower learning_rate, or set amp to fp32; the last good "
            "checkpoint is kept",
        )


def check_weights(state: State, draws: Draws, step: int) -> None:
    """Stop before a broken network would take the place of the last good checkpoint."""
    if not states.is_finite(state):
        raise UserError(
            f"a weight of the translation is not finite after iteration {step}",
            seen=f"{draws.told(step)}, the newest batch",
            fix="lower learning_rate, or set amp to fp32; the last good checkpoint is kept",
        )
