"""Numbers and names as a person reads them."""

from __future__ import annotations

import math

ABSENT = "–"

LAYER_TITLES = {
    "image": "image",
    "anatomy": "anatomy space",
    "fake": "fake MRI",
    "result": "result",
    "pseudo_label": "pseudo-label",
    "truth": "truth",
}


def number(value: float | None, digits: int = 2) -> str:
    """A number of fixed digits; a dash for none, a sign for infinite."""
    if value is None or math.isnan(value):
        return ABSENT
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.{digits}f}"


def percent(value: float | None, *, sign: bool = False) -> str:
    """A share as per cent with one decimal, without the sign ``%``: ``74.6``."""
    if value is None or not math.isfinite(value):
        return ABSENT
    text = f"{100 * value:+.1f}" if sign else f"{100 * value:.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def span(low: float | None, high: float | None, *, sign: bool = False) -> str:
    """An interval of shares in per cent: ``70.1–78.0``, ``−0.3 to +2.1`` with ``sign``.

    Nothing where there is none.
    """
    if low is None or high is None:
        return ""
    between = " to " if sign else "–"
    return f"{percent(low, sign=sign)}{between}{percent(high, sign=sign)}"


def p_value(p: float | None) -> str:
    """``p = 0.031``, ``p < 0.001``; nothing where it was not tested."""
    if p is None or math.isnan(p):
        return ""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


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
