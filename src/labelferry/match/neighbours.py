"""Which anchor cases lend their labels to a follower: eq. 5 as a nearest-neighbour query."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from labelferry.errors import UserError
from labelferry.match.case import Descriptor
from labelferry.match.config import MatchConfig

SAME_PATIENT = "same patient"
SAME_BY_IMAGE = "same patient by image"
SAME = (SAME_PATIENT, SAME_BY_IMAGE)


@dataclass(frozen=True)
class Match:
    """The anchors that may lend to one follower, the nearest first."""

    follower: str
    candidates: tuple[str, ...]
    distances: tuple[float, ...]
    """The L1 distance of each candidate, in the criterion's unit (volume: mm³; extent: mm;
    organs: sum of absolute log ratios)."""
    how: str
    """``same patient``, ``same patient by image``, or the criterion's name."""


def match_cases(
    followers: Sequence[Descriptor],
    anchors: Sequence[Descriptor],
    config: MatchConfig,
    alike: Mapping[str, Collection[str]] | None = None,
) -> list[Match]:
    """Match each follower with at most ``config.candidates`` anchors (eq. 5).

    Equal distances are ordered by case id, and a case never lends to itself. ``alike`` names the
    anchors of a follower that show its patient by their images: they lend where no id finds one. A
    k-d tree answers all queries; it is built once. Raises ``UserError`` where there is no anchor to
    match with.
    """
    ordered = sorted(anchors, key=lambda anchor: anchor.id)
    if not ordered:
        raise UserError(
            "no anchor case to match with",
            seen="0 anchor cases",
            allowed="at least one",
            fix="name another anchor domain, or turn matching off",
        )
    points = np.array([criterion_vector(anchor, config) for anchor in ordered])
    # anchors alike in the criterion are one point of the tree: thousands of them cost no more
    places, place_of = np.unique(points, axis=0, return_inverse=True)
    members: list[list[int]] = [[] for _ in places]
    for index, place in enumerate(place_of.ravel()):
        members[place].append(index)
    tree = cKDTree(places)
    patients: dict[str, list[int]] = {}
    for index, anchor in enumerate(ordered):
        patients.setdefault(anchor.patient, []).append(index)
    matches = []
    for follower in followers:
        vector = np.array(criterion_vector(follower, config))
        own = [i for i in patients.get(follower.patient, []) if ordered[i].id != follower.id]
        seen = (alike or {}).get(follower.id, ())
        if config.same_patient_first and own:
            how, pool = SAME_PATIENT, own
        elif config.same_patient_first and seen:
            how, pool = SAME_BY_IMAGE, [i for i, a in enumerate(ordered) if a.id in seen]
        else:
            # one more than asked for, since the nearest may be the follower itself
            how, number = config.criterion, config.candidates + 1
            near = _nearest(tree, vector, number)
            pool = [i for place in near for i in members[place][:number]]
            pool = [i for i in pool if ordered[i].id != follower.id]
        matches.append(_ranked(follower, pool, ordered, points, vector, how, config.candidates))
    return matches


def criterion_vector(case: Descriptor, config: MatchConfig) -> tuple[float, ...]:
    """What eq. 5 compares of a case. Organ volumes enter as log(1 + mL), so that small organs
    count as large ones do."""
    if config.criterion == "volume":
        return (case.body_mm3,)
    if config.criterion == "extent":
        return case.extent_mm
    return tuple(float(np.log1p(mm3 / 1000)) for mm3 in case.organs_mm3)


def _nearest(tree: cKDTree, vector: NDArray[np.float64], number: int) -> list[int]:
    """The ``number`` nearest points and all that are as near as the last of them."""
    number = min(number, tree.n)
    distances = np.atleast_1d(tree.query(vector, k=number, p=1)[0])
    reach = float(distances[-1])
    found = tree.query_ball_point(vector, r=reach + 1e-9 * (1 + reach), p=1)
    return sorted(int(i) for i in found)


def _ranked(
    follower: Descriptor,
    pool: Sequence[int],
    anchors: Sequence[Descriptor],
    points: NDArray[np.float64],
    vector: NDArray[np.float64],
    how: str,
    number: int,
) -> Match:
    if not pool:
        raise UserError(
            "the only anchor case is this case itself",
            case=follower.id,
            fix="match cases of other domains with the anchors",
        )
    rows = sorted((float(np.abs(points[i] - vector).sum()), anchors[i].id) for i in pool)[:number]
    return Match(follower.id, tuple(row[1] for row in rows), tuple(row[0] for row in rows), how)
