"""How much the report shows. None of this comes from the paper."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ReportConfig(BaseModel):
    """Limits that keep the page small; the tables always hold every case."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    max_cases: int = Field(40, ge=0)
    """Most cases shown with pictures, all roles together."""
    best_and_worst: int = Field(2, ge=0)
    """Per domain, the number of most and of least plausible target cases that get a slider."""
    slider_test_cases: int = Field(12, ge=0)
    """Most scored cases that get a slider."""
    source_cases: int = Field(4, ge=0)
    """Most labelled source cases shown, each with a slider."""
    slices_per_case: int = Field(20, ge=1, le=60)
    """Axial slices behind a slider, evenly spaced over the organs."""
    picture_px: int = Field(320, ge=64, le=1024)
    """Width or height, whichever is longer, of an axial picture in pixels."""
    picture_quality: int = Field(75, ge=30, le=95)
    """Quality of the grey pictures (WebP, else JPEG); the organs on top of them lose nothing."""
    table_rows: int = Field(3000, ge=1)
    """Longest table of single pseudo-labels or rejections; the rest is counted in words."""
