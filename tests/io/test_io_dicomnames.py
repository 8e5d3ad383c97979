from __future__ import annotations

import pytest

from labelferry.io.dicom import Facts
from labelferry.io.dicomnames import guess_sequence

TIMES = "echo and repetition time"
M = ("ORIGINAL", "PRIMARY", "M")


@pytest.mark.parametrize(
    ("facts", "sequence", "source"),
    [
        (Facts("CT", words="t2 tse"), "CT", "modality"),
        (Facts("MR", (*M, "IN_PHASE")), "in-phase", "image type"),
        (Facts("MR", ("DERIVED", "PRIMARY", "DIXON", "WATER")), "water", "image type"),
        (Facts("MR", ("DERIVED", "PRIMARY", "DIFFUSION", "ADC")), "ADC", "image type"),
        (Facts("MR", M, b_value=800.0), "DWI-b800", "b-value"),
        (Facts("MR", M, "ep2d_diff_b50_tra"), "DWI-b50", "series description"),
        (Facts("MR", M, "dwi trace"), "DWI", "series description"),
        (Facts("MR", M, "t2_haste_fs_cor"), "HASTE", "series description"),
        (Facts("MR", M, "t2_tse_tra"), "T2", "series description"),
        (Facts("MR", M, "t2_tse_fs_tra"), "T2fs", "series description"),
        (Facts("MR", M, "t1_vibe", scan=("GR", "FS")), "T1fs", "series description"),
        (Facts("MR", M, "t1_vibe", contrast=True), "T1ce", "series description"),
        (Facts("MR", M, "t1_vibe_portal_venous", contrast=True), "portal", "series description"),
        (Facts("MR", M, "lava arterial"), "arterial", "series description"),
        (Facts("MR", M, echo_ms=90.0, repetition_ms=3000.0), "T2", TIMES),
        (Facts("MR", M, echo_ms=2.0, repetition_ms=5.0), "T1", TIMES),
        (Facts("MR", M, echo_ms=40.0, repetition_ms=3000.0), "unknown", ""),
        (Facts("MR", M, echo_ms=90.0, repetition_ms=3e3, inversion_ms=150.0), "unknown", ""),
        (Facts("MR", M, "abc"), "unknown", ""),
    ],
)
def test_what_a_header_says_of_the_sequence(facts, sequence, source):
    assert guess_sequence(facts) == (sequence, source)
