"""How pseudo-labels are refined by self-training (paper 2.3)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Scope = Literal["case", "organ"]
Fusion = Literal["union", "mean_probability", "majority", "last"]


class RefineConfig(BaseModel):
    """Rounds, filter and fusion (PLF)."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    rounds: int = Field(3, ge=1)
    """Rounds of self-training, K; the paper gives no number. Eq. 7 needs at least 2: with one
    round nothing is dropped by instability."""
    fraction: float = Field(0.25, ge=0, lt=1)
    """Share that is dropped as the most unstable (the paper gives no number): of the cases, or of
    each organ's cases. Rounded down."""
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
