"""Everything that has a contrast of its own: the organs, under their ids, and what lies around."""

from __future__ import annotations

from enum import IntEnum


class Tissue(IntEnum):
    """Values of a tissue map. 1…13 are the organ ids of ``labelferry.organs.FLARE``."""

    AIR = 0
    LIVER = 1
    RIGHT_KIDNEY = 2
    SPLEEN = 3
    PANCREAS = 4
    AORTA = 5
    VENA_CAVA = 6
    RIGHT_ADRENAL = 7
    LEFT_ADRENAL = 8
    GALLBLADDER = 9
    OESOPHAGUS = 10
    STOMACH = 11
    DUODENUM = 12
    LEFT_KIDNEY = 13
    FAT = 14
    MUSCLE = 15
    CORTICAL_BONE = 16
    LUNG = 17
    BOWEL = 18
    DISC = 19
    FLUID = 20
    """Cerebrospinal fluid."""
    GAS = 21
    RENAL_SINUS = 22
    VEIN = 23
    """Portal, splenic and hepatic veins."""
    STOMACH_CONTENT = 24
    STOMACH_GAS = 25
    MARROW = 26


ORGANS = tuple(t for t in Tissue if Tissue.LIVER <= t <= Tissue.LEFT_KIDNEY)
"""The tissues that are organs of the label map; the organ's id is the tissue's value."""
