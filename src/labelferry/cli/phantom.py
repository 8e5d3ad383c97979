"""``labelferry phantom``: make data to try everything on."""

from __future__ import annotations

from pathlib import Path


def phantom(
    out: Path, *, ct: int = 14, mri: int = 16, test: int = 5, seed: int = 0, workers: int = 2
) -> None:
    """Make a digital phantom: labelled CT and unlabelled MRI of random abdomens.

    The folder gets `source` (CT with labels), `target` (MRI: T1, T2, DWI) and `test` (MRI), each
    with its table `cohort.csv`. The labels of the MRI lie apart, in `truth`, for scoring only.
    The same numbers and seed give the same files. A run that was stopped goes on where it was.

    Parameters
    ----------
    out
        Folder to write; new, empty, or of the same phantom.
    ct
        Number of CT patients.
    mri
        Number of MRI patients; each has one to three of T1, T2 and DWI.
    test
        Number of further MRI patients for scoring, each with T1, T2 and DWI.
    seed
        Another seed gives other patients.
    workers
        Number of processes.
    """
    from labelferry.phantom.cohort import write_cohort

    write_cohort(out, ct=ct, mri=mri, test=test, seed=seed, workers=workers)
    print(f"phantom written: {ct} CT, {mri} MRI and {test} test patients in {out}")
