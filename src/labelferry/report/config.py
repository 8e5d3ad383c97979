"""How much the report shows. None of this comes from the paper."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ReportConfig(BaseModel):
    """Limits that keep the page small; the tables say how much they leave out."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    case_names: Literal["numbered", "ids"] = "numbered"
    """``numbered``: case 001 …, so that no file name, and no patient in it, reaches the page; which
    file a number is stands in ``cases.csv`` beside it. ``ids``: the files' own names."""
    max_cases: int = Field(40, ge=0)
    """Most cases shown with pictures, all roles together."""
    best_and_worst: int = Field(2, ge=0)
    """Number of best and of worst cases: overall with a 3-D picture of the organs' surfaces, and
    per domain at the top of the gallery."""
    slider_test_cases: int = Field(12, ge=0)
    """Most scored cases at the top of the gallery; further ones are folded away."""
    source_cases: int = Field(4, ge=0)
    """Most labelled source cases shown."""
    slices_per_case: int = Field(18, ge=1, le=60)
    """Axial slices behind a slider, evenly spaced over the organs."""
    picture_px: int = Field(288, ge=64, le=1024)
    """Width or height, whichever is longer, of an axial picture in pixels."""
    picture_quality: int = Field(66, ge=30, le=95)
    """Quality of the grey pictures (WebP, else JPEG), less for edges and fake MRI; organs on top of
    them lose nothing."""
    surface_px: int = Field(360, ge=0, le=1200)
    """Longer side of a 3-D picture in pixels; 0 leaves them out."""
    heat_rows: int = Field(300, ge=1)
    """Longest table of values per case and organ; the worst cases come first."""
    table_rows: int = Field(3000, ge=1)
    """Longest table of cases, rejections or pseudo-labels; the rest is counted in words."""
