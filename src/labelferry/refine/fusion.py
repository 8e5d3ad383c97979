"""One label map out of the rounds' (end of paper 2.3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from labelferry.errors import UserError
from labelferry.refine.config import Fusion

Labels = NDArray[np.uint8]
Probabilities = NDArray[np.floating[Any]]


def fuse(
    how: Fusion,
    labels: Sequence[Labels],
    probabilities: Iterable[Probabilities | Path] | None = None,
) -> Labels:
    """Fuse a case's rounds, oldest first. ``probabilities`` only for ``mean_probability``."""
    if how == "mean_probability":
        if probabilities is None:
            raise UserError(
                "fusion by mean probability needs the rounds' probabilities",
                fix="keep them, or choose union, majority or last",
            )
        return mean_probability(probabilities)
    if not labels:
        raise UserError("no round to fuse", seen="0 label maps", allowed="at least one")
    for array in labels:
        if array.shape != labels[0].shape:
            raise UserError(
                "the rounds' label maps differ in shape", seen=array.shape, allowed=labels[0].shape
            )
    if how == "union":
        return union(labels)
    if how == "majority":
        return majority(labels)
    return labels[-1].astype(np.uint8)


def union(labels: Sequence[Labels]) -> Labels:
    """An organ wherever any round saw one (paper). Where rounds saw different organs, the latest
    round that saw an organ there decides."""
    out = np.zeros(labels[0].shape, np.uint8)
    for array in labels:
        found = array > 0
        out[found] = array[found]
    return out


def majority(labels: Sequence[Labels]) -> Labels:
    """The id, background included, that most rounds saw; of equals the one seen latest.

    Poor labels of small organs rarely agree, and a vote deletes them.
    """
    votes_best = np.zeros(labels[0].shape, np.uint16)
    out = labels[-1].astype(np.uint8)
    for array in reversed(labels):
        # votes for this round's own answer; an answer seen later is met first and wins ties
        votes = np.zeros(labels[0].shape, np.uint16)
        for other in labels:
            votes += other == array
        better = votes > votes_best
        out[better] = array[better]
        votes_best[better] = votes[better]
    return out


def mean_probability(rounds: Iterable[Probabilities | Path]) -> Labels:
    """The class of the largest mean probability; of equals the smallest id.

    Each round is an array (classes, …) with background first, or the path of a .npy or .npz file
    (key ``probabilities``, or its only key). One round is held at a time, besides the sum.
    """
    total: NDArray[np.float32] | None = None
    for item in rounds:
        array = _load(item) if isinstance(item, Path) else item
        if total is None:
            total = array.astype(np.float32)
        elif array.shape != total.shape:
            raise UserError(
                "the rounds' probabilities differ in shape",
                path=item if isinstance(item, Path) else None,
                seen=array.shape,
                allowed=total.shape,
            )
        else:
            total += array
    if total is None:
        raise UserError("no round to fuse", seen="0 probability maps", allowed="at least one")
    return np.asarray(np.argmax(total, axis=0), np.uint8)


def _load(path: Path) -> Probabilities:
    try:
        # numpy leaves the file open when its content is damaged
        with path.open("rb") as stream:
            content = np.load(stream, allow_pickle=False)
            if not isinstance(content, np.lib.npyio.NpzFile):
                return np.asarray(content)
            names = content.files
            return np.asarray(content["probabilities" if "probabilities" in names else names[0]])
    except (OSError, ValueError, EOFError, IndexError, BadZipFile) as error:
        raise UserError(
            "not a readable array of probabilities",
            path=path,
            seen=f"{type(error).__name__}: {error}",
            allowed=".npy or .npz",
        ) from error
