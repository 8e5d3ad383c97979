"""What a file name says: the patient and the sequence."""

from __future__ import annotations

from labelferry.cases import UNKNOWN_SEQUENCE

CHANNEL = "_0000"
"""What nnU-Net adds to the name of an image of one channel."""

_SPELLINGS: dict[str, tuple[str, ...]] = {
    "T1": ("t1", "t1w", "t1wi"),
    "T2": ("t2", "t2w", "t2wi"),
    "T1ce": ("t1ce", "t1c", "t1gd", "t1post"),
    "T1fs": ("t1fs",),
    "T2fs": ("t2fs",),
    "DWI": ("dwi",),
    "ADC": ("adc",),
    "FLAIR": ("flair",),
    "SPIR": ("spir",),
    "STIR": ("stir",),
    "HASTE": ("haste",),
    "in-phase": ("inphase", "ip"),
    "out-phase": ("outphase", "outofphase", "opposedphase", "oppphase", "op", "oop"),
    "pre-contrast": ("precontrast", "cpre"),
    "arterial": ("arterial", "arterialphase", "c+a"),
    "portal": ("portal", "portalvenous", "portalphase", "portalvenousphase", "pvp"),
    "venous": ("venous", "venousphase", "c+v"),
    "delayed": ("delayed", "delay", "delayedphase", "c+delay"),
    "HBP": ("hbp", "hepatobiliary", "hepatobiliaryphase"),
}
_CANONICAL = {word: name for name, words in _SPELLINGS.items() for word in words}


def sequence_of(word: str) -> str | None:
    """The usual spelling of a word that means a sequence (``t2w`` → ``T2``), else None."""
    return _CANONICAL.get("".join(c for c in word.lower() if c not in " -_"))


def patient_and_sequence(case_id: str) -> tuple[str, str]:
    """Split a case id such as ``p07_T1``; where no sequence stands last, the patient is all of it.

    Only known words count: a number or a free word at the end is never taken for a sequence.
    """
    parts = case_id.split("_")
    # 'in_phase' and 'portal_venous' are one word; 'p07_T2' is not
    for words in (2, 1):
        patient, tail = "_".join(parts[:-words]), "_".join(parts[-words:])
        sequence = sequence_of(tail)
        if patient and sequence:
            return patient, sequence
    return case_id, UNKNOWN_SEQUENCE
