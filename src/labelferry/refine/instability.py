"""How much a case's pseudo-label changes from round to round (eq. 7)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelferry.errors import UserError


@dataclass(frozen=True)
class Instability:
    """u of eq. 7 for one case. Infinite where a round from the second on has no such voxel: a
    label that came out empty is never called stable."""

    case: float
    organs: Mapping[int, float]
    """The same for each organ's mask alone."""

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form; infinity becomes null."""
        organs = {str(organ): _finite(u) for organ, u in sorted(self.organs.items())}
        return {"case": _finite(self.case), "organs": organs}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Instability:
        """Read :meth:`to_json`'s form."""
        organs = {int(k): math.inf if u is None else float(u) for k, u in value["organs"].items()}
        return cls(math.inf if value["case"] is None else float(value["case"]), organs)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def instability(rounds: Iterable[NDArray[np.integer[Any]]], organs: Iterable[int]) -> Instability:
    """u over a case's label maps y_1 … y_K, oldest first, per case as printed and per organ.

    u = mean over i = 2 … K of |{y_i ≠ y_{i-1}}| / |{y_i > 0}|, in voxels. The arrays share any
    shape; only two are held at a time. Raises ``UserError`` with fewer than two rounds.
    """
    wanted = sorted(set(organs))
    terms: list[list[float]] = []
    before: NDArray[np.integer[Any]] | None = None
    for now in rounds:
        if before is not None:
            if now.shape != before.shape:
                raise UserError(
                    "the rounds' label maps differ in shape", seen=now.shape, allowed=before.shape
                )
            terms.append(_change(before, now, wanted))
        before = now
    if not terms:
        raise UserError(
            "instability compares rounds", seen="fewer than 2 rounds", allowed="2 rounds or more"
        )
    means = [math.fsum(column) / len(terms) for column in zip(*terms, strict=True)]
    return Instability(means[0], dict(zip(wanted, means[1:], strict=True)))


def _change(
    before: NDArray[np.integer[Any]], now: NDArray[np.integer[Any]], organs: list[int]
) -> list[float]:
    """The term of eq. 7 for the case, then for each organ."""
    differs = before != now
    row = [_ratio(int(np.count_nonzero(differs)), int(np.count_nonzero(now > 0)))]
    was, became = before[differs], now[differs]
    for organ in organs:
        # a voxel changes for an organ when it enters or leaves its mask
        changed = int(np.count_nonzero(was == organ) + np.count_nonzero(became == organ))
        row.append(_ratio(changed, int(np.count_nonzero(now == organ))))
    return row


def _ratio(changed: int, size: int) -> float:
    return changed / size if size else math.inf
