from __future__ import annotations

import pytest

from labelferry.io.names import patient_and_sequence, sequence_of


@pytest.mark.parametrize(
    ("case_id", "expected"),
    [
        ("p01_T1", ("p01", "T1")),
        ("p01_t2w", ("p01", "T2")),
        ("sub-01_T1w", ("sub-01", "T1")),
        ("dixon01_in-phase", ("dixon01", "in-phase")),
        ("dixon01_in_phase", ("dixon01", "in-phase")),
        ("dixon01_InPhase", ("dixon01", "in-phase")),
        ("dixon01_IP", ("dixon01", "in-phase")),
        ("dixon01_out-phase", ("dixon01", "out-phase")),
        ("dixon01_opposed_phase", ("dixon01", "out-phase")),
        ("dixon01_OP", ("dixon01", "out-phase")),
        ("a_b_c_dwi", ("a_b_c", "DWI")),
        ("x_C+A", ("x", "arterial")),
        ("x_portal_venous", ("x", "portal")),
        ("x_Venous", ("x", "venous")),
        ("x_delayed", ("x", "delayed")),
        ("x_hbp", ("x", "HBP")),
        ("x_spir", ("x", "SPIR")),
        ("x_flair", ("x", "FLAIR")),
        ("x_T1ce", ("x", "T1ce")),
        ("x_T1_fs", ("x", "T1fs")),
        ("x_adc", ("x", "ADC")),
        # nothing known stands last
        ("mr_T2_1", ("mr_T2_1", "unknown")),
        ("liver_0507", ("liver_0507", "unknown")),
        ("patient", ("patient", "unknown")),
        ("T1", ("T1", "unknown")),
        ("_T1", ("_T1", "unknown")),
        ("1.3.6.1.4", ("1.3.6.1.4", "unknown")),
        ("x_", ("x_", "unknown")),
    ],
)
def test_patient_and_sequence_come_from_the_name(case_id, expected):
    assert patient_and_sequence(case_id) == expected


@pytest.mark.parametrize("word", ["1", "0000", "", "liver", "2T"])
def test_free_words_are_no_sequence(word):
    assert sequence_of(word) is None
