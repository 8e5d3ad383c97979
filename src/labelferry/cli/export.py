"""labelferry export: a model to give away."""

from __future__ import annotations

from pathlib import Path

from labelferry.predict.config import Format


def export(model: Path, output: Path, *, format: Format = "bundle") -> None:
    """Export the model of a run as one file, or for nnU-Net.

    Parameters
    ----------
    model
        A run of ``labelferry adapt``, or a model folder.
    output
        The .zip to write; with --format nnunet the folder that nnU-Net knows as nnUNet_results.
    format
        bundle: weights, plans and labels in one .zip, which ``labelferry predict`` takes and in
        which nothing can run. nnunet: a model folder for an unmodified nnU-Net.
    """
    from labelferry.cli.console import console
    from labelferry.predict import export_model

    path = export_model(model, output, format)
    out = console()
    if format == "bundle":
        out.print(f"model: {path}", markup=False)
        out.print(f"next:  labelferry predict IMAGES OUTPUT --model {path}", markup=False)
        return
    out.print(f"model folder: {path}", markup=False)
    command = "nnUNetv2_predict_from_modelfolder -i IMAGES -o OUTPUT -f 0 --disable_tta -m"
    out.print(f"next:  {command} {path}", markup=False)
    out.print(
        "note:  nnU-Net takes images as they are; 'labelferry predict' first crops them to the "
        "body and clips outliers, so that its labels may differ a little",
        markup=False,
    )
