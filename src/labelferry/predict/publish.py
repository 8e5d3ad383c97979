"""A model to give away: one file, or a folder for nnU-Net."""

from __future__ import annotations

from pathlib import Path

from labelferry.errors import UserError
from labelferry.predict.config import Format
from labelferry.predict.predictor import find_bundle
from labelferry.segment.bundle import pack_bundle, read_bundle
from labelferry.segment.nnunet import write_nnunet


def export_model(model: Path | str, output: Path | str, format: Format = "bundle") -> Path:
    """Export the model of a run, a stage or a bundle folder; returns what was written.

    ``bundle``: one zip file ``output``, which ``load_model`` takes and in which nothing runs.
    ``nnunet``: a model folder below ``output``, nnU-Net's ``nnUNet_results``. An older one is
    replaced. Raises ``UserError`` where there is no model, where ``output`` cannot be that, and for
    a network that nnU-Net cannot feed.
    """
    place, output = find_bundle(Path(model)), Path(output)
    if format == "nnunet":
        if output.exists() and not output.is_dir():
            raise UserError("not a folder", path=output, fix="give a folder for nnUNet_results")
        return write_nnunet(output, *read_bundle(place))
    if output.suffix.lower() != ".zip" or output.is_dir():
        raise UserError("a bundle is one zip file", path=output, allowed="a name that ends in .zip")
    if place.is_file():
        raise UserError("this model is one file already", path=place, fix="copy it")
    pack_bundle(place, output)
    return output
