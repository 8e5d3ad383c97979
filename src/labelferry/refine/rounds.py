"""The rounds of self-training: what each learns from and where it leaves its own labels (2.3)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Round:
    """Round ``number`` of K, counted from 1."""

    number: int
    folder: Path
    """Holds ``model`` and ``labels``."""
    labels_in: Path
    """Labels to learn from: those of matching in round 1, then those of the round before."""
    warm_start: Path | None
    """Weights to begin with. Later rounds go on from the last one: rounds from scratch collapse
    when they are short."""

    @property
    def labels(self) -> Path:
        """The pseudo-labels y_i that this round makes."""
        return self.folder / "labels"

    @property
    def model(self) -> Path:
        """The bundle that this round trains."""
        return self.folder / "model"


def plan_rounds(
    folder: Path, first_labels: Path, count: int, teacher: Path | None = None
) -> tuple[Round, ...]:
    """The K rounds below ``folder``; round 1 begins with the weights of ``teacher`` if given."""
    rounds: list[Round] = []
    for number in range(1, count + 1):
        last = rounds[-1] if rounds else None
        rounds.append(
            Round(
                number,
                folder / f"round{number}",
                last.labels if last else first_labels,
                last.model if last else teacher,
            )
        )
    return tuple(rounds)
