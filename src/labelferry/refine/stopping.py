"""How many rounds of self-training are made, and which of them is handed on, without any label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from labelferry.refine.config import RefineConfig


@dataclass(frozen=True)
class RoundChoice:
    """What became of the K rounds that were asked for."""

    z: tuple[float, ...]
    """Median plausibility of the labels of the teacher, then of every round made. Low is good."""
    kept: int
    """Number of the round whose network is handed on; 0 is the teacher."""
    why: str
    """In words, for the report."""

    @property
    def made(self) -> int:
        """Number of rounds made."""
        return len(self.z) - 1

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form; an infinite z becomes null."""
        z = [value if math.isfinite(value) else None for value in self.z]
        return {"made": self.made, "kept": self.kept, "z": z, "why": self.why}


def helps_no_more(z: Sequence[float], gain: float) -> bool:
    """Whether the last of the rounds' z has not fallen by ``gain`` since the one before.

    One round alone is never judged: instability (eq. 7) needs two.
    """
    return len(z) > 1 and not z[-2] - z[-1] >= gain  # true for two infinite ones, too


def choose_round(z: Sequence[float], config: RefineConfig) -> RoundChoice:
    """``z`` of the teacher and of the rounds made. Of equals the earliest is the best."""
    made = len(z) - 1
    kept = min(range(len(z)), key=lambda n: z[n]) if config.keep == "best" else made
    why = f"{made} of {config.rounds} rounds"
    if made < config.rounds:
        why += f": round {made} no longer helped (z {z[-1]:.2f} after {z[-2]:.2f})"
    if kept != made:
        name = f"round {kept}" if kept else "the teacher"
        why += f"; {name} is handed on, the most plausible (z {z[kept]:.2f}, last {z[-1]:.2f})"
    return RoundChoice(tuple(z), kept, why)
