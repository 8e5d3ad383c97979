"""Write a phantom cohort: labelled CT, unlabelled MRI, and the truth set apart."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from labelferry.errors import UserError
from labelferry.files import read_json, sweep_parts, write_json, write_text
from labelferry.io.nifti import write_volume
from labelferry.phantom.anatomy import Subject, draw_subject
from labelferry.phantom.contrast import MR_SEQUENCES
from labelferry.phantom.frame import PhantomGrid
from labelferry.phantom.plan import PlannedSubject, cohort_tables, plan_subjects
from labelferry.phantom.render import Rendering, render_ct, render_mr
from labelferry.workers import spawned_pool

SCHEMA_VERSION = 1
DONE_NAME = "phantom.json"
"""Arguments of a cohort that is whole."""
STARTED_NAME = "phantom-started.json"
"""Arguments of a cohort that is being written, or was when the writer was killed."""

_log = logging.getLogger(__name__)


def write_cohort(
    out: Path,
    *,
    ct: int,
    mri: int,
    test: int = 5,
    seed: int,
    workers: int = 1,
    grid: PhantomGrid | None = None,
) -> None:
    """Write ``ct`` labelled CT, ``mri`` MRI patients and ``test`` MRI patients for scoring.

    Below ``out``: ``source`` (images, labels, ``cohort.csv``), ``target`` and ``test`` (images,
    ``cohort.csv``, no label), and ``truth/target``, ``truth/test`` (labels, ``cohort.csv``). The
    files depend on the arguments alone, byte for byte, not on ``workers`` (processes). A cohort
    that a kill cut short goes on with the files that are missing; a whole one is left as it is.

    Raises ``UserError`` on numbers out of range, and where ``out`` holds something else.
    """
    _check_at_least(1, ct=ct, mri=mri, workers=workers)
    _check_at_least(0, test=test, seed=seed)
    grid = grid or PhantomGrid()
    arguments = {
        "schema_version": SCHEMA_VERSION,
        "ct": ct,
        "mri": mri,
        "test": test,
        "seed": seed,
        "spacing_mm": list(grid.spacing),
        "shape": list(grid.shape),
    }
    _claim(out, arguments)
    sweep_parts(out)
    subjects = plan_subjects(ct, mri, test)
    missing = [subject for subject in subjects if _missing(out, subject)]
    if missing:
        _run(partial(write_subject, out, seed, grid), missing, workers)
    for name, text in cohort_tables(subjects).items():
        _write_if_other(out / name, text)
    if not (out / DONE_NAME).exists():
        write_json(out / DONE_NAME, arguments)
    (out / STARTED_NAME).unlink(missing_ok=True)


def write_subject(out: Path, seed: int, grid: PhantomGrid, planned: PlannedSubject) -> None:
    """Draw one subject and write those of its images and labels that are not there yet."""
    entropy = (seed, int(planned.group), planned.number)
    subject = draw_subject(np.random.default_rng(entropy), grid)
    for sequence in _missing(out, planned):
        rendering = _render(entropy, subject, sequence)
        write_volume(out / planned.image_path(sequence), rendering.image)
        write_volume(out / planned.label_path(sequence), rendering.labels)
        _log.debug("%s: %s", planned.case(sequence), rendering.kind)


def _render(entropy: tuple[int, int, int], subject: Subject, sequence: str) -> Rendering:
    """One image; its random numbers do not depend on which others are drawn."""
    for place, name in enumerate(MR_SEQUENCES, start=2):
        if name == sequence:
            return render_mr(np.random.default_rng((*entropy, place)), subject, name)
    return render_ct(np.random.default_rng((*entropy, 1)), subject)


def _missing(out: Path, planned: PlannedSubject) -> list[str]:
    """Sequences of which the image or the label map is not there; files are whole or absent."""
    return [
        sequence
        for sequence in planned.sequences
        if not (
            (out / planned.image_path(sequence)).exists()
            and (out / planned.label_path(sequence)).exists()
        )
    ]


def _run(
    work: Callable[[PlannedSubject], None], subjects: Sequence[PlannedSubject], workers: int
) -> None:
    count = min(workers, len(subjects))
    if count <= 1:
        _report(map(work, subjects), subjects)
        return
    with spawned_pool(count) as pool:
        _report(pool.map(work, subjects), subjects)


def _report(results: Iterable[None], subjects: Sequence[PlannedSubject]) -> None:
    for number, (_, subject) in enumerate(zip(results, subjects, strict=True), start=1):
        _log.info("phantom %s written (%d of %d)", subject.patient, number, len(subjects))


def _claim(out: Path, arguments: dict[str, Any]) -> None:
    """Mark ``out`` as this cohort's, or refuse it when it holds anything else."""
    if out.exists() and not out.is_dir():
        raise UserError("a file is in the way of the phantom's folder", path=out)
    for name in (DONE_NAME, STARTED_NAME):
        if (out / name).exists():
            found = read_json(out / name, schema=SCHEMA_VERSION)
            if found != arguments:
                raise UserError(
                    "the folder holds a phantom made with other arguments",
                    path=out,
                    seen=found,
                    allowed=arguments,
                    fix="choose an empty folder",
                )
            return
    if out.exists() and any(not path.name.startswith(".part-") for path in out.iterdir()):
        raise UserError(
            "the folder is not empty and holds no phantom", path=out, fix="choose an empty folder"
        )
    write_json(out / STARTED_NAME, arguments)


def _write_if_other(path: Path, text: str) -> None:
    if not path.exists() or path.read_bytes() != text.encode():
        write_text(path, text)


def _check_at_least(least: int, **numbers: int) -> None:
    for name, number in numbers.items():
        if number < least:
            raise UserError(f"{name} is too small", seen=number, allowed=f"at least {least}")
