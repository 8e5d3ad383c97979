"""Which subjects, images and tables a phantom cohort has, and where their files go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import PurePosixPath

from labelferry.files import csv_text
from labelferry.phantom.contrast import MR_SEQUENCES
from labelferry.phantom.tissues import ORGANS

_COLUMNS = (
    "case", "patient", "modality", "sequence", "domain", "image", "label", "annotated",
)  # fmt: skip
_TARGET_SEQUENCES: tuple[tuple[str, ...], ...] = (
    ("T1",), ("T1",), ("T1",), ("T1", "T2"), ("T1", "T2"), ("T1", "T2", "DWI"), ("T1", "DWI"),
    ("T1",), ("T1", "T2"), ("T1",), ("T2",), ("T2", "DWI"), ("DWI",), ("T2", "DWI"), ("DWI",),
    ("T2",),
)  # fmt: skip


class Group(IntEnum):
    """What a subject is for; the value is part of the subject's seed."""

    SOURCE = 0
    TARGET = 1
    TEST = 2


@dataclass(frozen=True)
class PlannedSubject:
    """One subject and the images to draw of it."""

    group: Group
    number: int
    """0, 1, … within the group."""
    patient: str
    sequences: tuple[str, ...]
    """``CT`` for a source subject."""

    def case(self, sequence: str) -> str:
        """Case id of one image."""
        return f"{self.patient}_{sequence}"

    def image_path(self, sequence: str) -> PurePosixPath:
        """Where the image goes, relative to the cohort's folder."""
        name = f"{self.case(sequence)}.nii.gz"
        return PurePosixPath(self.group.name.lower(), "images", name)

    def label_path(self, sequence: str) -> PurePosixPath:
        """Where the labels go; those of MRI lie apart, below ``truth``."""
        name = f"{self.case(sequence)}.nii.gz"
        if self.group is Group.SOURCE:
            return PurePosixPath("source", "labels", name)
        return PurePosixPath("truth", self.group.name.lower(), name)


def plan_subjects(ct: int, mri: int, test: int) -> tuple[PlannedSubject, ...]:
    """``ct`` CT patients, ``mri`` MRI patients, and ``test`` more that have every sequence.

    The MRI patients go round a cycle of sixteen, of whom nine have one sequence only.
    """
    kinds: list[tuple[Group, int, tuple[str, ...]]] = [
        *((Group.SOURCE, n, ("CT",)) for n in range(ct)),
        *(
            (Group.TARGET, n, _TARGET_SEQUENCES[n % len(_TARGET_SEQUENCES)])
            for n in range(mri)
        ),
        *((Group.TEST, n, MR_SEQUENCES) for n in range(test)),
    ]  # fmt: skip
    return tuple(
        PlannedSubject(group, number, f"ph{place:04d}", sequences)
        for place, (group, number, sequences) in enumerate(kinds, start=1)
    )


def cohort_tables(subjects: Sequence[PlannedSubject]) -> dict[PurePosixPath, str]:
    """The text of every ``cohort.csv``, by its path. Paths inside are relative to the table."""
    tables: dict[PurePosixPath, list[dict[str, str]]] = {}
    groups = [Group.SOURCE, Group.TARGET]
    if any(subject.group is Group.TEST for subject in subjects):
        groups.append(Group.TEST)
    for group in groups:
        chosen = [
            (subject, sequence)
            for subject in subjects
            if subject.group is group
            for sequence in subject.sequences
        ]
        name = group.name.lower()
        given = PurePosixPath(name, "cohort.csv")
        is_source = group is Group.SOURCE
        tables[given] = [_row(s, q, given, image=True, label=is_source) for s, q in chosen]
        if not is_source:
            truth = PurePosixPath("truth", name, "cohort.csv")
            tables[truth] = [_row(s, q, truth, image=False, label=True) for s, q in chosen]
    return {path: _csv(rows) for path, rows in tables.items()}


def _row(
    subject: PlannedSubject, sequence: str, table: PurePosixPath, *, image: bool, label: bool
) -> dict[str, str]:
    folder = table.parent
    image_path = subject.image_path(sequence).relative_to(folder) if image else ""
    label_path = subject.label_path(sequence).relative_to(folder) if label else ""
    return {
        "case": subject.case(sequence),
        "patient": subject.patient,
        "modality": "CT" if subject.group is Group.SOURCE else "MR",
        "sequence": sequence,
        "domain": sequence,
        "image": str(image_path),
        "label": str(label_path),
        # an organ that a subject lacks is truly absent, hence annotated too
        "annotated": ";".join(str(int(organ)) for organ in ORGANS) if label else "",
    }


def _csv(rows: Sequence[dict[str, str]]) -> str:
    return csv_text(_COLUMNS, ([row[column] for column in _COLUMNS] for row in rows))
