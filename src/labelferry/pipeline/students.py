"""What students are trained on: pseudo-labelled MRI, and where asked some labelled CT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from labelferry.pipeline.completing import source_cases
from labelferry.pipeline.config import StudentConfig
from labelferry.pipeline.prepared import PreparedCase, prepared_cases
from labelferry.pipeline.stage import Context
from labelferry.segment.examples import Example


def target_examples(
    cases: Sequence[PreparedCase],
    labels: Path,
    organs_of: Mapping[str, frozenset[int]],
    space: str,
) -> list[Example]:
    """MRI with their pseudo-labels; ``organs_of`` says which organs of which case are believed.

    An organ that is not believed is unknown in that case, as is a case that is not named.
    """
    return [
        Example(
            f"{case.id}.mri",
            case.channels(space),
            labels / f"{case.id}.nii.gz",
            organs_of[case.id],
        )
        for case in cases
        if organs_of.get(case.id) and (labels / f"{case.id}.nii.gz").exists()
    ]


def source_examples(
    context: Context, config: StudentConfig, mri: int, prepared: Path | None = None
) -> list[Example]:
    """Labelled CT with random contrasts, weighted to the share that the configuration asks for.

    They lie in the folder ``prepared``, with their own labels alone; without it, in that of the
    stage ``prepare``.
    """
    if not config.source_share or not mri:
        return []  # CT alone is no training of a student
    cases = prepared_cases(prepared, "source") if prepared else source_cases(context)
    weight = config.source_share / (1 - config.source_share) * mri / len(cases)
    return [
        replace(
            case.example(config.space, context.config.prepare.ct_window),
            id=f"{case.id}.{config.source_kind}",
            weight=weight,
            randomise=config.source_kind,
        )
        for case in cases
    ]


def known_organs(context: Context) -> frozenset[int]:
    """Organs that at least one source case annotates: all that any network here can know."""
    cases = prepared_cases(context.of("prepare"), "source")
    return frozenset().union(*(case.annotated for case in cases))
