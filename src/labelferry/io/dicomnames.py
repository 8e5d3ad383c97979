"""Which sequence a DICOM series is, by what its header says: a guess, and shown as one.

First what is measured or declared (diffusion, inversion, the parts of a Dixon), then the words of
the descriptions, then echo and repetition time.
"""

from __future__ import annotations

import re
from itertools import pairwise

from labelferry.cases import UNKNOWN_SEQUENCE
from labelferry.io.dicom import Facts
from labelferry.io.names import sequence_of

_PARTS = {
    "IN_PHASE": "in-phase",
    "IP": "in-phase",
    "OUT_PHASE": "out-phase",
    "OPP_PHASE": "out-phase",
    "OP": "out-phase",
    "WATER": "water",
    "W": "water",
    "FAT": "fat",
    "F": "fat",
    "ADC": "ADC",
}
"""Words of the image type."""
_FAT_SATURATED = re.compile(r"\b(fs|fatsat|fat sat|spair|spir|fat supp\w*)\b")
_B_VALUE = re.compile(r"\bb ?=? ?(\d{2,4})\b")
_T2_ECHO_MS = 60.0
_T1_ECHO_MS = 30.0
_T1_REPETITION_MS = 1200.0


def guess_sequence(facts: Facts) -> tuple[str, str]:
    """The sequence, and what says so: ``("T2fs", "series description")``.

    ``("unknown", "")`` where nothing does; a CT is ``CT``.
    """
    if facts.modality == "CT":
        return "CT", "modality"
    words = re.sub(r"[_\-*+.,/()\[\]]", " ", facts.words)
    for kind in facts.kind[2:]:
        if kind in _PARTS:
            return _PARTS[kind], "image type"
    if re.search(r"\badc\b", words):
        return "ADC", "series description"
    if facts.b_value is not None:
        return f"DWI-b{facts.b_value:g}", "b-value"
    if re.search(r"\b(dwi|diff\w*)\b", words):
        found = _B_VALUE.search(words)
        return (f"DWI-b{found[1]}" if found else "DWI"), "series description"
    said = _by_words(words)
    if said is not None:
        return _completed(said, facts, words), "series description"
    timed = _by_times(facts)
    if timed is None:
        return UNKNOWN_SEQUENCE, ""
    return _completed(timed, facts, words), "echo and repetition time"


def _by_words(words: str) -> str | None:
    """A known word among the descriptions, of one or two words; phases before weightings."""
    parts = words.split()
    pairs = [f"{a} {b}" for a, b in pairwise(parts)]
    found = [name for word in (*pairs, *parts) if (name := sequence_of(word))]
    weightings = [name for name in found if name in ("T1", "T2")]
    return next((name for name in found if name not in weightings), next(iter(weightings), None))


def _by_times(facts: Facts) -> str | None:
    if facts.echo_ms is None or facts.repetition_ms is None or facts.inversion_ms:
        return None
    if facts.echo_ms >= _T2_ECHO_MS:
        return "T2"
    short = facts.echo_ms <= _T1_ECHO_MS and facts.repetition_ms <= _T1_REPETITION_MS
    return "T1" if short else None


def _completed(sequence: str, facts: Facts, words: str) -> str:
    """T1 and T2 with what changes their look: a contrast agent, fat saturation."""
    if sequence == "T1" and facts.contrast:
        return "T1ce"
    saturated = "FS" in facts.scan or "SFS" in facts.scan or _FAT_SATURATED.search(words)
    return f"{sequence}fs" if sequence in ("T1", "T2") and saturated else sequence
