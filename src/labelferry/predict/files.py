"""Labels for files: one image, or a folder of them."""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labelferry.errors import UserError
from labelferry.files import atomic_path
from labelferry.io.nifti import SUFFIXES, is_nifti, read_image, stem, write_labels_like

if TYPE_CHECKING:
    from labelferry.predict.predictor import Model

FAILURES = "failures.csv"
_NNUNET_CHANNEL = "_0000"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """A case that was not labelled, and why; without any path."""

    case: str
    reason: str


def find_images(path: Path) -> list[Path]:
    """The NIfTI files to label: ``path`` itself, or those in the folder or its ``images/``."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError("no such file or folder", path=path)
    folder = path / "images" if (path / "images").is_dir() else path
    found = sorted(entry for entry in folder.iterdir() if is_nifti(entry) and entry.is_file())
    if not found:
        raise UserError("no NIfTI image in this folder", path=folder, allowed=".nii, .nii.gz")
    return found


def case_id(path: Path) -> str:
    """The file name without its suffix and without nnU-Net's ``_0000``."""
    return stem(path).removesuffix(_NNUNET_CHANNEL) or stem(path)


def output_paths(inputs: Sequence[Path], output: Path) -> dict[Path, Path]:
    """Where the labels of each input go.

    ``output`` is a file where there is one input and the name says NIfTI, else a folder that gets
    ``<case id>.nii.gz``. Raises ``UserError`` where two inputs would share a file, where labels
    would take the place of an input, and where nothing may be written.
    """
    if len(inputs) == 1 and output.name.lower().endswith(SUFFIXES) and not output.is_dir():
        places = {inputs[0]: output}
    else:
        if output.exists() and not output.is_dir():
            raise UserError("the output must be a folder", path=output, seen="a file")
        places = {path: output / f"{case_id(path)}.nii.gz" for path in inputs}
    owner: dict[Path, Path] = {}
    originals = {path.resolve() for path in inputs}
    for path, place in places.items():
        if place in owner:
            raise UserError(
                "two images would get the same label file",
                path=place,
                seen=f"{owner[place].name} and {path.name}",
                fix="rename one of them",
            )
        owner[place] = path
        if place.resolve() in originals:
            raise UserError(
                "the labels would take the place of an input", path=place, fix="give another output"
            )
    _check_writable(output.parent if output in places.values() else output)
    return places


def _check_writable(folder: Path) -> None:
    """Told before a model is loaded, not when the first labels are lost."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(
            "nothing can be written into this folder",
            path=folder,
            fix="give another output, or give this user the right to write there",
        )


def keep_out(input: Path, output: Path) -> None:
    """Raise ``UserError`` where ``output`` lies in the user's own folder of images."""
    if output.resolve().is_relative_to(input.resolve()):
        raise UserError(
            "the output lies in the input", path=output, seen=input, fix="give another folder"
        )


def predict_files(
    model: Model,
    inputs: Sequence[Path],
    output: Path,
    *,
    overwrite: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> list[Failure]:
    """Label image files with a loaded model; returns the cases that failed.

    See :func:`output_paths` for the names. Headers keep the geometry of their images. A failed case
    does not stop the others; where ``output`` is a folder, ``failures.csv`` in it lists them. With
    ``overwrite`` off, labels that are there already are left as they are.
    """
    places = output_paths(inputs, output)
    failures = []
    for done, (path, place) in enumerate(places.items()):
        if progress:
            progress(done, len(places))
        if place.exists() and not overwrite:
            continue
        try:
            image = read_image(path)
            labels = model.predict(image.volume, case=case_id(path))
            write_labels_like(place, labels, image)
        except Exception as error:  # whatever one image does, the others are still labelled
            if not isinstance(error, UserError):
                log.exception("%s could not be labelled", case_id(path))
            failures.append(Failure(case_id(path), _reason(error, path)))
    if progress:
        progress(len(places), len(places))
    if output not in places.values():
        _write_failures(output / FAILURES, failures)
    return failures


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, UserError):
        # without the case, which has its own column, and without the path
        reason = UserError(
            error.what, seen=error.seen, allowed=error.allowed, fix=error.fix
        ).message()
    else:
        reason = f"{type(error).__name__}: {error}"
    return reason.replace(str(path), path.name)


def _write_failures(path: Path, failures: Sequence[Failure]) -> None:
    if not failures:
        path.unlink(missing_ok=True)  # of an earlier run
        return
    with atomic_path(path) as part, part.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["case", "reason"])
        writer.writerows((failure.case, failure.reason) for failure in failures)
