"""How an image is brought to the working grid and into anatomy space (paper 2.1)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class AnatomyConfig(BaseModel):
    """Working grid, intensity scaling and anatomy space."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    spacing: tuple[float, float, float] = (3.2, 3.2, 5.0)
    """Voxel size of the working grid in mm, (x, y, z). Paper 2.5: (0.81, 0.81, 2.5)."""
    percentiles: tuple[float, float] = (1.0, 99.0)
    """MR: the percentiles within the body that become 0 and 1 (ours; the paper does not say)."""
    ct_window: tuple[float, float] = (-180.0, 260.0)
    """CT: the values in HU that become 0 and 1 (ours; the paper does not say)."""
    margin_mm: float = Field(5.0, ge=0)
    """Air kept round the body when the image is cropped, in mm."""
    sobel: Literal["3d", "2d", "none"] = "3d"
    """Sobel filter along three axes or in the axial plane; ``none`` makes anatomy space the scaled
    image itself (Table 7 compares both)."""
    smoothing_mm: tuple[float, float, float] = (1.9, 1.9, 1.5)
    """Gaussian sigma before the Sobel filter in mm, (x, y, z); z is not used in 2-D. Ours: noisy
    sequences gain by it; the paper has none, (0, 0, 0)."""
    gradient_scale: Literal["volume", "local"] = "volume"
    """What a gradient is measured by: a percentile of the whole volume's gradients, or the mean of
    those round it (``local``, ours: docs/explanation/anatomy-space.md)."""
    gradient_percentile: float = Field(99.5, gt=0, le=100)
    """``volume``: percentile of the gradient magnitude within the body that becomes 1 (ours)."""
    gradient_gamma: float = Field(0.5, gt=0)
    """``volume``: exponent after scaling; below 1 it lifts weak edges. Ours; 1 leaves the magnitude
    as it is, which is the plain reading of the paper."""
    local_mm: float = Field(15.0, gt=0)
    """``local``: Gaussian sigma in mm of what counts as round a place, along the axes of the Sobel
    filter (ours, measured)."""

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        if min(self.spacing) <= 0:
            raise ValueError(f"spacing {self.spacing} must be positive")
        if min(self.smoothing_mm) < 0:
            raise ValueError(f"smoothing_mm {self.smoothing_mm} must not be negative")
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise ValueError(f"percentiles {self.percentiles} must rise within 0…100")
        if not self.ct_window[0] < self.ct_window[1]:
            raise ValueError(f"ct_window {self.ct_window} must rise")
        return self
