"""Numbers and names as a person reads them."""

from __future__ import annotations

import math

ABSENT = "–"

LAYER_TITLES = {
    "image": "Image",
    "anatomy": "Anatomy space",
    "fake": "Fake MRI",
    "result": "Result",
    "pseudo_label": "Pseudo-label",
    "truth": "Truth",
}
SOURCE_TITLES = {**LAYER_TITLES, "image": "CT", "truth": "CT label"}


def number(value: float | None, digits: int = 2) -> str:
    """A number of fixed digits; a dash for none, a sign for infinite."""
    if value is None or math.isnan(value):
        return ABSENT
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.{digits}f}"


def sort_key(value: float | None) -> str:
    """What a column is sorted by; nothing for an absent value, which then stays last."""
    return "" if value is None or math.isnan(value) else repr(float(value)).replace("inf", "1e308")


def duration(seconds: float | None) -> str:
    """``42 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds is None or not math.isfinite(seconds):
        return ABSENT
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def memory(megabytes: float | None) -> str:
    """``640 MB``, ``3.2 GB``."""
    if megabytes is None or not math.isfinite(megabytes):
        return ABSENT
    return f"{megabytes:.0f} MB" if megabytes < 1000 else f"{megabytes / 1000:.1f} GB"


def count(n: int, one: str, many: str | None = None) -> str:
    """``1 case``, ``3 cases``."""
    return f"{n} {one if n == 1 else many or one + 's'}"


def ink_on(colour: tuple[int, int, int]) -> str:
    """Black or white, whichever reads better on a colour (relative luminance of WCAG 2)."""
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (value / 255 for value in colour)
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000" if luminance > 0.179 else "#fff"
