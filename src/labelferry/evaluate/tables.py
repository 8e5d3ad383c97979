"""Scores as CSV: one row for each case and organ, or the columns of the official script."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from labelferry.evaluate.scores import METRICS, UNDEFINED, CaseScores
from labelferry.files import csv_text

COLUMNS = ("case", "sequence", "domain", "organ", *METRICS)

OFFICIAL: Mapping[str, str] = {
    "liver": "Liver",
    "right kidney": "RK",
    "spleen": "Spleen",
    "pancreas": "Pancreas",
    "aorta": "Aorta",
    "inferior vena cava": "IVC",
    "right adrenal gland": "RAG",
    "left adrenal gland": "LAG",
    "gallbladder": "Gallbladder",
    "esophagus": "Esophagus",
    "stomach": "Stomach",
    "duodenum": "Duodenum",
    "left kidney": "LK",
}
"""What the official script calls our organs; others keep their names."""


def long_table(cases: Iterable[CaseScores]) -> str:
    """One row for each case and organ; an undefined score is an empty field."""
    return csv_text(
        COLUMNS,
        (
            (case.case, case.sequence, case.domain, name, *map(score.value, METRICS))
            for case in cases
            for name, score in case.organs.items()
        ),
    )


def flare_table(cases: Iterable[CaseScores], organs: Sequence[str]) -> str:
    """One row for each case: its file's name, the DSC of every organ, then every NSD."""
    titles = [OFFICIAL.get(organ, organ) for organ in organs]
    header = ["Name", *(f"{title}_DSC" for title in titles), *(f"{title}_NSD" for title in titles)]
    return csv_text(
        header,
        (
            (
                f"{case.case}.nii.gz",
                *(case.organs.get(organ, UNDEFINED).dsc for organ in organs),
                *(case.organs.get(organ, UNDEFINED).nsd for organ in organs),
            )
            for case in cases
        ),
    )
