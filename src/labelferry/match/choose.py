"""What is taken: the anchor domains, the best candidate, and own or carried organ by organ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from labelferry.errors import UserError
from labelferry.match.config import MatchConfig
from labelferry.prior.plausibility import CasePlausibility, DomainRank, rank_domains
from labelferry.volume import Segmentation, Volume


@dataclass(frozen=True)
class AnchorChoice:
    """The domains that lend their labels, D_t1, and why."""

    anchors: tuple[str, ...]
    """In the order of the ranking."""
    ranking: tuple[DomainRank, ...]
    """All domains, the most plausible first."""
    note: str
    """How the anchors were chosen, in words for the report."""

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form."""
        ranking = [row.to_json() for row in self.ranking]
        return {"anchors": list(self.anchors), "ranking": ranking, "note": self.note}


@dataclass(frozen=True)
class OrganChoice:
    """Where the label of one organ comes from."""

    source: Literal["own", "carried"]
    reason: str
    own_z: float | None
    """Plausibility of the organ in the network's own label; None where it cannot be judged."""
    carried_z: float | None

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form."""
        return asdict(self)


def choose_anchors(
    plausibility: Mapping[str, CasePlausibility], domains: Mapping[str, str], config: MatchConfig
) -> AnchorChoice:
    """The anchor domains: those that the configuration names, else the most plausible.

    Among the domains of at least ``config.anchor_least_cases`` cases (all, where none has so many)
    the one with the smallest mean z is an anchor, and so is every one within
    ``config.anchor_tolerance`` of it (a share of that z). ``domains`` gives each case's domain.
    Raises ``UserError`` for a named domain that no case has, and where there is no case.
    """
    ranking = rank_domains(plausibility, domains)
    if not ranking:
        raise UserError("no target case to choose anchor domains from")
    known = [row.domain for row in ranking]
    for name in config.anchors:
        if name not in known:
            raise UserError("unknown anchor domain", seen=name, allowed=", ".join(sorted(known)))
    if config.anchors:
        anchors = tuple(name for name in known if name in config.anchors)
        note = "named by the configuration"
    else:
        able = [row for row in ranking if row.cases >= config.anchor_least_cases] or ranking
        limit = able[0].z * (1 + config.anchor_tolerance)
        anchors = tuple(row.domain for row in able if row is able[0] or row.z <= limit)
        note = "most plausible by the prior"
        if able[0] is not ranking[0]:
            note += f" of those with {config.anchor_least_cases} cases or more"
        if len(anchors) > 1:
            note += f", and those within {config.anchor_tolerance:.0%} of it"
    if len(known) == 1:
        note = f"{known[0]} is the only domain: nothing is carried"
    elif len(anchors) == len(known):
        note += "; every domain is an anchor: nothing is carried"
    return AnchorChoice(anchors, ranking, note)


def agreement(fixed: Volume, carried: Volume, body: Volume) -> float:
    """Normalised cross-correlation of two images on one grid within ``body``, in [-1, 1].

    0 where either is constant there. An empty body counts as the whole image.
    """
    mask = np.asarray(body.array, bool)
    if not mask.any():
        mask = np.ones_like(mask)
    a = fixed.array[mask].astype(np.float64)
    b = carried.array[mask].astype(np.float64)
    a -= a.mean()
    b -= b.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(np.clip(a @ b / scale, -1, 1)) if scale > 1e-12 else 0.0


def choose_organs(
    own: CasePlausibility,
    carried: CasePlausibility,
    organs: frozenset[int],
    config: MatchConfig,
    *,
    same_patient: bool = False,
) -> dict[int, OrganChoice]:
    """Own or carried for each of ``organs``, by the prior alone; equal means carried.

    From another patient, an own organ within ``config.own_limit`` stays.

    An organ that the prior cannot judge on both sides follows the whole case's plausibility.
    """
    limit = 0.0 if same_patient else config.own_limit
    return {organ: _choose(organ, own, carried, config, limit) for organ in sorted(organs)}


def _choose(
    organ: int,
    own: CasePlausibility,
    carried: CasePlausibility,
    config: MatchConfig,
    limit: float,
) -> OrganChoice:
    mine, theirs = own.organs.get(organ), carried.organs.get(organ)
    own_z = None if mine is None else mine.z
    carried_z = None if theirs is None else theirs.z
    if config.keep_own == "never":
        return OrganChoice("carried", "own labels are never kept", own_z, carried_z)
    if own_z is None or carried_z is None:
        better = own.z < carried.z
        whole = "the organ cannot be judged; the whole {} label is more plausible"
        name: Literal["own", "carried"] = "own" if better else "carried"
        return OrganChoice(name, whole.format(name), own_z, carried_z)
    if limit and mine is not None and mine.present and own_z <= limit:
        return OrganChoice(
            "own", f"the own label is plausible (z up to {limit:g})", own_z, carried_z
        )
    if own_z < carried_z:
        return OrganChoice("own", "the own label is more plausible", own_z, carried_z)
    reason = "the carried label is as plausible or more"
    return OrganChoice("carried", reason, own_z, carried_z)


def merge(
    own: Segmentation, carried: Segmentation, choices: Mapping[int, OrganChoice]
) -> Segmentation:
    """One label map of the chosen organs, uint8, on the grid that both share.

    Where an own organ and a carried one claim the same voxel, the more plausible organ has it
    (smaller z; then the carried one; then the smaller id).
    """
    out = np.zeros(own.grid.shape, np.uint8)

    def weakness(organ: int) -> tuple[float, bool, int]:
        choice = choices[organ]
        z = choice.own_z if choice.source == "own" else choice.carried_z
        return (math.inf if z is None else z, choice.source == "own", organ)

    for organ in sorted(choices, key=weakness, reverse=True):
        source = own if choices[organ].source == "own" else carried
        out[source.array == organ] = organ
    return Segmentation(out, own.grid)
