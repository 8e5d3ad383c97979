"""One follower: register the candidates, carry their labels, keep what was better."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from labelferry.errors import UserError
from labelferry.match.affine import Affine
from labelferry.match.case import TargetCase
from labelferry.match.choose import agreement, choose_organs, merge
from labelferry.match.config import MatchConfig
from labelferry.match.deform import Deformation, deform, worth_it
from labelferry.match.fusion import Part, fuse, local_agreement, weight
from labelferry.match.neighbours import SAME
from labelferry.match.registration import register
from labelferry.match.transfer import carried_shares, carry, carry_image, registered_volume
from labelferry.prior.model import Prior
from labelferry.prior.plausibility import plausibility
from labelferry.volume import Segmentation, Volume

SCHEMA_VERSION = 1


@dataclass(frozen=True, eq=False)
class CarriedResult:
    """A follower's new pseudo-label and where it comes from."""

    labels: Segmentation = field(repr=False)
    """uint8, on the follower's working grid."""
    provenance: dict[str, Any]
    """JSON-able: from whom, how, the transform, every candidate's scores, and for each organ id
    whether it is the follower's own or carried, with the reason."""


@dataclass(frozen=True, eq=False)
class _Trial:
    """One candidate laid on the follower; its images are not kept."""

    case_id: str
    affine: Affine
    deformation: Deformation
    labels: Segmentation = field(repr=False)
    """On its own grid."""
    laid: Volume = field(repr=False)
    """Its anatomy space on the follower's grid."""
    agreement: float

    def to_json(self) -> dict[str, Any]:
        deformation = self.deformation.to_json()
        scores = {"id": self.case_id, "agreement": self.agreement, **self.affine.to_json()}
        return {**scores, "deformation": deformation}


def carry_to(
    follower: TargetCase,
    candidates: Iterable[TargetCase],
    config: MatchConfig,
    prior: Prior,
    annotated: frozenset[int] | None = None,
    *,
    how: str,
) -> CarriedResult:
    """Give ``follower`` the labels of ``candidates`` (ranked, as eq. 5 left them).

    ``how`` they were found is that of their ``Match``.

    Each candidate is registered to the follower (eq. 6). As ``config.fuse`` says, the one that
    agrees best in anatomy space is taken (the earlier one when equal), or all are fused. Then, as
    ``config.keep_own`` says, each organ is the more plausible of own and carried. A registration
    that fails still carries by the alignment of the bodies. ``annotated`` are the organs that the
    labels can hold (all of the prior's and all found, by default). Raises ``UserError`` where there
    is no candidate.
    """
    trials = [_try(follower, candidate, config) for candidate in candidates]
    if not trials:
        raise UserError("no candidate to carry labels from", case=follower.id)
    best = max(trials, key=lambda trial: trial.agreement)
    if config.fuse == "local":
        used = trials
        carried = fuse(_votes(follower, trials), follower.image.grid)
    else:
        used = [best]
        carried = carry(best.labels, best.laid.grid, best.affine.matrix, best.deformation.shift)
    own = Segmentation(follower.labels.array, follower.labels.grid)
    own_score = plausibility(own, prior, annotated)
    carried_score = plausibility(carried, prior, annotated)
    choices = choose_organs(
        own_score,
        carried_score,
        _organs(own, carried, prior, annotated),
        config,
        same_patient=how in SAME,
    )
    labels = merge(own, carried, choices)
    provenance: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "case": follower.id,
        "from": best.case_id,
        "how": how,
        "agreement": best.agreement,
        "transform": best.affine.to_json(),
        "fused": [trial.case_id for trial in used],
        "candidates": [trial.to_json() for trial in trials],
        "plausibility": {
            "own": own_score.to_json()["z"],
            "carried": carried_score.to_json()["z"],
            "result": plausibility(labels, prior, annotated).to_json()["z"],
        },
        "organs": {str(organ): choice.to_json() for organ, choice in choices.items()},
    }
    return CarriedResult(labels, provenance)


def _try(follower: TargetCase, candidate: TargetCase, config: MatchConfig) -> _Trial:
    affine = register(
        registered_volume(follower, config.space),
        registered_volume(candidate, config.space),
        follower.body,
        candidate.body,
        config,
    )
    grid = follower.image.grid
    laid = carry_image(candidate.anatomy, grid, affine.matrix)
    deformation = deform(follower.anatomy, laid, follower.body, config)
    if deformation.shift is not None:
        bent = carry_image(candidate.anatomy, grid, affine.matrix, deformation.shift)
        deformation = worth_it(deformation, follower.anatomy, laid, bent, follower.body, config)
        laid = laid if deformation.shift is None else bent
    return _Trial(
        case_id=candidate.id,
        affine=affine,
        deformation=deformation,
        labels=candidate.labels,
        laid=laid,
        agreement=agreement(follower.anatomy, laid, follower.body),
    )


def _votes(follower: TargetCase, trials: Iterable[_Trial]) -> Iterator[Part]:
    for trial in trials:
        matrix, shift = trial.affine.matrix, trial.deformation.shift
        shares = carried_shares(trial.labels, trial.laid.grid, matrix, shift)
        yield weight(local_agreement(follower.anatomy, trial.laid)), shares


def _organs(
    own: Segmentation, carried: Segmentation, prior: Prior, annotated: frozenset[int] | None
) -> frozenset[int]:
    found = {int(v) for labels in (own, carried) for v in np.unique(labels.array)}
    return frozenset((found - {0}) | (annotated or {row.id for row in prior.organs}))
