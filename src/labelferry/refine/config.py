"""How pseudo-labels are refined by self-training (paper 2.3)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Scope = Literal["case", "organ"]
Keep = Literal["last", "best"]
Fusion = Literal["union", "mean_probability", "majority", "last"]


class RefineConfig(BaseModel):
    """Rounds, filter and fusion (PLF)."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    rounds: int = Field(3, ge=1)
    """Rounds of self-training, K; the paper gives no number. Eq. 7 needs at least 2: with one
    round nothing is dropped by instability."""
    stop: bool = False
    """Make no further round when one no longer helps (ours): when the median plausibility z of its
    labels has not fallen by ``stop_gain`` since the round before. At least 2 rounds are made."""
    stop_gain: float = Field(0.05, ge=0)
    """With ``stop``: by how much z must fall for another round to be worth its time."""
    keep: Keep = "last"
    """Which network is handed on, and with it the rounds up to it: the last round's (paper), or
    the ``best`` among the teacher and the rounds, by the median plausibility z of their labels
    (ours), so that a round that collapsed is not handed on."""
    fraction: float = Field(0.25, ge=0, lt=1)
    """Share that is dropped as the most unstable (the paper gives no number): of the cases, or of
    each organ's cases. Rounded down."""
    stable: float = Field(0.0, ge=0)
    """With ``fraction``: what is no more unstable than this u is kept, however stable the others
    are (ours); 0: the fraction alone decides (paper)."""
    threshold: float | None = Field(None, gt=0)
    """Drop whatever is more unstable than this u (eq. 7) instead of a fraction."""
    scope: Scope = "organ"
    """Drop whole cases (paper), or single organs of a case; a case loses its place with its last
    organ."""
    fusion: Fusion = "mean_probability"
    """How the rounds' labels become one. Paper: ``union``."""
    prior_filter: bool = True
    """Also drop what the prior finds implausible (ours). Paper: off."""
    prior_limit: float = Field(5.0, gt=0)
    """Largest plausibility z that the prior's filter keeps; true labels lie about 1.5."""
