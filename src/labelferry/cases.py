"""Case and Cohort: what there is to work on. No image is opened here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol

from labelferry.errors import UserError
from labelferry.organs import LabelScheme

Modality = Literal["CT", "MR"]

UNKNOWN_SEQUENCE = "unknown"


class Series(Protocol):
    """An image that lies in several files, as those of DICOM do."""

    @property
    def files(self) -> tuple[Path, ...]:
        """All of them, each once."""


@dataclass(frozen=True)
class Case:
    """One image of one patient."""

    id: str
    """Unique in its cohort; the file name without its suffix."""
    patient: str
    modality: Modality
    sequence: str
    """T1, T2, DWI, …; ``CT`` for CT, ``unknown`` where nothing says it."""
    domain: str
    """The target domain of an MRI: its sequence, unless the cohort's table says otherwise."""
    image: Path
    """The file; of a series its name here, which says nothing of a patient and is no file."""
    label: Path | None = None
    annotated: frozenset[int] | None = None
    """Organ ids that the label map annotates; an organ not in it is unknown, never background.
    None where the case has no label."""
    numbering: LabelScheme | None = None
    """How the values of the label map are numbered; None: by the ids of the organs."""
    series: Series | None = None
    """What the image is read from where that is no single file."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of the image, and the label map."""
        images = (self.image,) if self.series is None else self.series.files
        return images if self.label is None else (*images, self.label)


@dataclass(frozen=True)
class Cohort:
    """A table of cases with unique ids."""

    cases: tuple[Case, ...]

    def __post_init__(self) -> None:
        seen: dict[str, Case] = {}
        for case in self.cases:
            if case.id in seen:
                raise UserError(
                    "two images have the same case id",
                    case=case.id,
                    seen=f"{seen[case.id].image} and {case.image}",
                    fix="rename one of them",
                )
            seen[case.id] = case

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, case_id: str) -> Case:
        try:
            return self._by_id[case_id]
        except KeyError:
            raise UserError("no such case", case=case_id) from None

    @cached_property
    def _by_id(self) -> dict[str, Case]:
        return {case.id: case for case in self.cases}

    @cached_property
    def domains(self) -> tuple[str, ...]:
        """The domains in alphabetical order."""
        return tuple(sorted({case.domain for case in self.cases}))

    @cached_property
    def patients(self) -> tuple[str, ...]:
        """The patients in alphabetical order."""
        return tuple(sorted({case.patient for case in self.cases}))

    def where(self, keep: Callable[[Case], bool]) -> Cohort:
        """The cases that ``keep`` accepts."""
        return Cohort(tuple(case for case in self.cases if keep(case)))

    def of_domain(self, domain: str) -> Cohort:
        """The cases of one domain."""
        return self.where(lambda case: case.domain == domain)

    def of_patient(self, patient: str) -> Cohort:
        """The cases of one patient."""
        return self.where(lambda case: case.patient == patient)

    def without_labels(self) -> Cohort:
        """The same cases without any label: all that the method may see of a target."""
        return Cohort(
            tuple(replace(case, label=None, annotated=None, numbering=None) for case in self.cases)
        )
