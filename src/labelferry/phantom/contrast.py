"""What each tissue looks like: Hounsfield units on CT, relative brightness on MRI.

The values are fixed by hand from the usual appearance of each tissue. They are never tuned to make
a method score better.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from labelferry.phantom.tissues import Tissue

CtPhase = Literal["nc", "art", "pv"]
"""Without contrast agent, arterial phase, portal venous phase."""
MrSequence = Literal["T1", "T2", "DWI"]
MrKind = Literal["T1 fat-saturated", "T1 in-phase", "T2", "DWI"]
"""Fat-saturated T1 is after contrast agent."""

CT_PHASES: tuple[CtPhase, ...] = get_args(CtPhase)
MR_SEQUENCES: tuple[MrSequence, ...] = get_args(MrSequence)
MR_KINDS: tuple[MrKind, ...] = get_args(MrKind)

_T = Tissue

CT_HU: Mapping[Tissue, tuple[float, float, float]] = {
    #                     nc    art     pv
    _T.AIR:             (-1000, -1000, -1000),  # air round the body
    _T.LIVER:           (58, 75, 110),  # liver
    _T.RIGHT_KIDNEY:    (33, 150, 185),  # right kidney
    _T.SPLEEN:          (48, 130, 122),  # spleen
    _T.PANCREAS:        (40, 95, 95),  # pancreas
    _T.AORTA:           (42, 300, 150),  # aorta
    _T.VENA_CAVA:       (42, 75, 140),  # inferior vena cava
    _T.RIGHT_ADRENAL:   (30, 70, 75),  # right adrenal gland
    _T.LEFT_ADRENAL:    (30, 70, 75),  # left adrenal gland
    _T.GALLBLADDER:     (10, 10, 12),  # gallbladder
    _T.OESOPHAGUS:      (40, 55, 60),  # oesophagus
    _T.STOMACH:         (40, 70, 75),  # wall of the stomach
    _T.DUODENUM:        (38, 65, 70),  # duodenum
    _T.LEFT_KIDNEY:     (33, 150, 185),  # left kidney
    _T.FAT:             (-100, -100, -100),  # fat
    _T.MUSCLE:          (55, 58, 62),  # muscle, heart, spinal cord
    _T.CORTICAL_BONE:   (480, 480, 480),  # cortical bone, ribs
    _T.LUNG:            (-830, -830, -830),  # lung
    _T.BOWEL:           (35, 55, 60),  # small and large bowel
    _T.DISC:            (80, 80, 80),  # intervertebral disc
    _T.FLUID:           (12, 12, 12),  # cerebrospinal fluid
    _T.GAS:             (-900, -900, -900),  # gas in the bowel
    _T.RENAL_SINUS:     (-20, 0, 10),  # renal sinus
    _T.VEIN:            (42, 90, 165),  # portal, splenic, hepatic veins
    _T.STOMACH_CONTENT: (15, 15, 15),  # content of the stomach
    _T.STOMACH_GAS:     (-900, -900, -900),  # gas in the stomach
    _T.MARROW:          (190, 190, 190),  # spongy bone with marrow
}  # fmt: skip
"""Hounsfield units in the order of ``CT_PHASES``."""

MR_SIGNAL: Mapping[Tissue, tuple[float, float, float, float]] = {
    #                    T1 fs  T1 ip   T2    DWI
    _T.AIR:             (0.01, 0.01, 0.01, 0.01),  # air round the body
    _T.LIVER:           (0.62, 0.56, 0.27, 0.34),  # liver
    _T.RIGHT_KIDNEY:    (0.85, 0.42, 0.62, 0.72),  # right kidney
    _T.SPLEEN:          (0.66, 0.38, 0.52, 0.90),  # spleen
    _T.PANCREAS:        (0.66, 0.58, 0.40, 0.48),  # pancreas
    _T.AORTA:           (0.92, 0.22, 0.07, 0.06),  # aorta
    _T.VENA_CAVA:       (0.88, 0.26, 0.10, 0.09),  # inferior vena cava
    _T.RIGHT_ADRENAL:   (0.50, 0.42, 0.32, 0.45),  # right adrenal gland
    _T.LEFT_ADRENAL:    (0.50, 0.42, 0.32, 0.45),  # left adrenal gland
    _T.GALLBLADDER:     (0.22, 0.28, 0.98, 0.40),  # gallbladder
    _T.OESOPHAGUS:      (0.45, 0.38, 0.36, 0.30),  # oesophagus
    _T.STOMACH:         (0.50, 0.40, 0.38, 0.30),  # wall of the stomach
    _T.DUODENUM:        (0.52, 0.42, 0.50, 0.38),  # duodenum
    _T.LEFT_KIDNEY:     (0.85, 0.42, 0.62, 0.72),  # left kidney
    _T.FAT:             (0.17, 0.95, 0.75, 0.07),  # fat
    _T.MUSCLE:          (0.36, 0.40, 0.17, 0.20),  # muscle, heart, spinal cord
    _T.CORTICAL_BONE:   (0.08, 0.12, 0.07, 0.05),  # cortical bone, ribs
    _T.LUNG:            (0.03, 0.03, 0.03, 0.03),  # lung
    _T.BOWEL:           (0.42, 0.38, 0.50, 0.36),  # small and large bowel
    _T.DISC:            (0.22, 0.30, 0.30, 0.25),  # intervertebral disc
    _T.FLUID:           (0.14, 0.15, 1.00, 0.30),  # cerebrospinal fluid
    _T.GAS:             (0.02, 0.02, 0.02, 0.02),  # gas in the bowel
    _T.RENAL_SINUS:     (0.45, 0.60, 0.85, 0.40),  # renal sinus
    _T.VEIN:            (0.92, 0.25, 0.10, 0.10),  # portal, splenic, hepatic veins
    _T.STOMACH_CONTENT: (0.24, 0.26, 0.80, 0.22),  # content of the stomach
    _T.STOMACH_GAS:     (0.02, 0.02, 0.02, 0.02),  # gas in the stomach
    _T.MARROW:          (0.26, 0.60, 0.42, 0.13),  # spongy bone with marrow
}  # fmt: skip
"""Brightness relative to the brightest tissue of a sequence, in the order of ``MR_KINDS``."""


def ct_table(phase: CtPhase) -> NDArray[np.float32]:
    """Hounsfield units of one phase, indexed by ``Tissue``; a fresh array."""
    column = CT_PHASES.index(phase)
    return np.array([CT_HU[tissue][column] for tissue in Tissue], np.float32)


def mr_table(kind: MrKind) -> NDArray[np.float32]:
    """Brightness of one kind of sequence, indexed by ``Tissue``; a fresh array."""
    column = MR_KINDS.index(kind)
    return np.array([MR_SIGNAL[tissue][column] for tissue in Tissue], np.float32)
