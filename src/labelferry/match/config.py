"""How follower cases are matched with anchor cases, and how labels are carried (paper 2.2)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_SHRINK = 16


class MatchConfig(BaseModel):
    """Multi-domain matching (MDM), equations 5 and 6."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    enabled: bool = True
    """Off: every case keeps the network's own pseudo-label (Table 7, row ASIT)."""
    anchors: tuple[str, ...] = ()
    """Names of the anchor domains, D_t1. Paper: T1. Empty: the prior decides."""
    anchor_tolerance: float = Field(0.15, ge=0)
    """Where the prior decides: a domain whose plausibility z is at most this share above the best
    one's is an anchor too (ours)."""
    anchor_least_cases: int = Field(3, ge=1)
    """Where the prior decides: a domain of fewer cases is no anchor, unless every domain has fewer:
    one plausible case says little of its sequence, and would be the atlas of all others (ours)."""
    criterion: Literal["volume", "organs", "extent"] = "volume"
    """What eq. 5 compares, by the L1 norm: the body's volume in mm³ (paper), the logarithms of
    the pseudo-labels' organ volumes, or the body's size along its axes in mm."""
    same_patient_first: bool = True
    """Match with anchor images of the same patient where there are any (ours). Paper: off."""
    same_patient_by: Literal["ids", "images"] = "ids"
    """How the same patient is known: by the patients' ids, or, where a case has none, by its image
    too: its edges lie where those of an anchor lie (ours)."""
    least_likeness: float = Field(0.4, gt=0, le=1)
    """With ``images``: correlation of the edges from which on two images are of one patient."""
    candidates: int = Field(5, ge=1)
    """Nearest anchors that are registered, k (ours). Paper: 1."""
    metric: Literal["mean_squares", "mutual_information"] = "mutual_information"
    """Data term D of eq. 6. Paper: mean squares, which orders transforms as the L2 norm does."""
    space: Literal["plain", "anatomy", "masks"] = "plain"
    """What is registered: scaled images, anatomy space, or smoothed masks of body and organs.
    Paper: open; with mean squares take ``anatomy``: sequences differ in their grey values."""
    iterations: int = Field(35, ge=0)
    """Optimiser steps per level; 0 keeps the initial alignment of the bodies."""
    search_deg: float = Field(15.0, ge=0, le=45)
    """Before the optimiser: each start turned by this angle, in degrees, both ways about each
    axis, and the best of the 27 followed on coarse images. Afterwards a result that agrees hardly
    better than its own turns is looked for with the images exchanged, too, and if need be refused
    (ours). 0: neither, as for mean squares, which it does not help."""
    rigid_first: bool = False
    """Turn and shift each start before the affine may stretch it, on the coarsest images (ours)."""
    shrink: tuple[int, ...] = (4, 2, 1)
    """Shrink factor of each level, coarse to fine. A level is smoothed by half its factor, in
    voxels."""
    sampling: float = Field(0.2, gt=0, le=1)
    """Share of the voxels that the metric looks at, on a regular lattice."""
    seed: int = Field(1, ge=1)
    """Seed of the lattice's jitter."""
    threads: int = Field(1, ge=1)
    """Threads of one registration; 1 gives the same bits every time."""
    deform_iterations: int = Field(40, ge=0)
    """After the affine: steps per level of a free-form registration in anatomy space, by demons
    (ours; R of eq. 6). 0: the affine alone (paper)."""
    deform_smoothing_mm: float = Field(9.0, gt=0)
    """How stiff it is: the field is smoothed by a Gaussian of this standard deviation each step."""
    deform_least_gain: float = Field(0.05, ge=-2, le=2)
    """By how much it has to raise the correlation of the levelled edges; else the affine stands
    alone (ours). -2: it always stays."""
    fuse: Literal["best", "local"] = "local"
    """``best``: the labels of the candidate that agrees best in anatomy space. ``local``: those of
    all candidates, each weighted by how well its image agrees round the voxel (ours)."""
    keep_own: Literal["worse", "never"] = "worse"
    """``worse``: organ by organ, keep the network's own label where the carried one is less
    plausible (ours). Paper: ``never``."""
    own_limit: float = Field(3.0, ge=0)
    """With ``worse``, and a label from another patient: an own organ whose plausibility z is at
    most this stays. A carried organ has the shape of a real one wherever it lies, so that the
    prior alone would favour it (ours). 0: the more plausible one, whoever lends it."""

    @model_validator(mode="after")
    def _levels(self) -> Self:
        if not self.shrink or not all(1 <= factor <= MAX_SHRINK for factor in self.shrink):
            raise ValueError(f"shrink {self.shrink} needs levels with factors of 1…{MAX_SHRINK}")
        if list(self.shrink) != sorted(self.shrink, reverse=True):
            raise ValueError(f"shrink {self.shrink} must go from coarse to fine")
        return self
