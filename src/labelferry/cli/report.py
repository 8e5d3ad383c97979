"""labelferry report: make the page of a run anew."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from labelferry.errors import UserError


def report(
    run: Path,
    *,
    predictions: Path | None = None,
    truth: Path | None = None,
    images: Path | None = None,
    case_names: Literal["numbered", "ids"] | None = None,
) -> None:
    """Write the report of a run, as far as the run has come.

    Parameters
    ----------
    run
        A folder made by ``labelferry adapt``.
    predictions
        Labels made by ``labelferry predict``, to be scored and shown.
    truth
        True labels for them. They are used for scores and pictures only.
    images
        The images that were predicted, for the pictures.
    case_names
        What cases are called on the page: by number, with the file names in cases.csv beside it,
        or by their files' own names (ids). Default: what the run was made with (numbered).
    """
    from labelferry.cli.console import console
    from labelferry.pipeline.reporting import NAMES_FILE, Scored, report_run

    scored = None
    if predictions is not None and truth is not None:
        scored = Scored(predictions, truth, images)
    elif predictions is not None or truth is not None or images is not None:
        raise UserError("scores need both labels", fix="give --predictions and --truth together")
    path = report_run(run, scored, case_names=case_names)
    console().print(f"report: {path}", markup=False)
    if (key := path.parent / NAMES_FILE).exists():
        console().print(f"which case is which, for your eyes only: {key}", markup=False)
