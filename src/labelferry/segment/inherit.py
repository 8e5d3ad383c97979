"""Weights of a small network from those of a larger one.

Evenly chosen features of every layer are kept with what joins them (weight selection: Xu et al.
2024, "Initializing Models with Larger Ones"). The small network starts as a thinned copy of the
large one and not from random weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_UPWARD = re.compile(r"(decoder\.(?:stages|transpconvs|seg_layers)\.)(\d+)(.*)")
"""Layers of nnU-Net's decoder: they are counted from the deepest."""


def inherited(
    weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> dict[str, Tensor] | None:
    """A state shaped as ``wanted`` from the ``weights`` of a wider U-Net, or a deeper one.

    Of N features the n at floor(i N / n) are kept: two layers of one width keep the same, and so
    does each half of what a skip connection joins. A convolution that reads n of N features is
    scaled by N / n, so that its sums stay as large. Of a deeper network the levels that the other
    lacks are left out. None where the form is another: layers that ``weights`` lacks, other
    kernels, other inputs or classes, fewer features than ``wanted``.
    """
    lag = _levels(weights) - _levels(wanted)
    found = {}
    for name, like in wanted.items():
        given = weights.get(_renumbered(name, lag))
        if given is None or given.ndim != like.ndim or given.shape[2:] != like.shape[2:]:
            return None
        if any(have < need for have, need in zip(given.shape, like.shape, strict=True)):
            return None
        if _ends(name, given) != _ends(name, like):
            return None
        if like.ndim > 2:
            axis = 0 if ".transpconvs." in name else 1
            given = given * (given.shape[axis] / like.shape[axis])
        for axis in range(min(like.ndim, 2)):
            given = given.index_select(axis, _chosen(given.shape[axis], like.shape[axis]))
        found[name] = given.to(like.dtype).clone()
    return found


def _levels(weights: Mapping[str, Tensor]) -> int:
    pattern = re.compile(r"decoder\.transpconvs\.\d+\.weight")
    return sum(pattern.fullmatch(name) is not None for name in weights)


def _ends(name: str, weight: Tensor) -> int | None:
    """How many inputs or classes a layer at either end of a network has; None for others."""
    if ".seg_layers." in name:
        return weight.shape[0]
    first = "encoder.stages.0.0.convs.0." in name and weight.ndim > 2
    return weight.shape[1] if first else None


def _renumbered(name: str, lag: int) -> str:
    found = _UPWARD.fullmatch(name)
    return name if found is None else f"{found[1]}{int(found[2]) + lag}{found[3]}"


def _chosen(have: int, need: int) -> Tensor:
    return torch.arange(need) * have // need
