"""Labels for files: one image, or many."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from labelferry.cases import Case
from labelferry.errors import UserError
from labelferry.io.discover import discover
from labelferry.io.images import read_case, read_image, read_labels
from labelferry.io.names import CHANNEL
from labelferry.io.nifti import SUFFIXES, Image, is_nifti, read_geometry, stem
from labelferry.io.nnunet import is_raw, read_raw
from labelferry.io.notes import Note, note_of
from labelferry.io.remarks import image_notes
from labelferry.organs import FLARE
from labelferry.predict.config import LabelFormat
from labelferry.predict.facing import label
from labelferry.predict.formats import SEG_SUFFIX, outputs, write_labels
from labelferry.predict.quality import CaseQuality, assess
from labelferry.predict.tables import (
    FAILURES,
    Failure,
    Tables,
    write_failures,
)
from labelferry.volume import Segmentation

if TYPE_CHECKING:
    from labelferry.predict.foreign import Labeller

_LOOK = "look at the image and its labels"
_NO_PRIOR = (
    "this model holds no prior of its source: nothing is said of how plausible volumes and places "
    "are (quality.csv: z is empty)"
)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """What there is to label, what is to be said about it, and what cannot be used."""

    cases: dict[str, Path]
    """Images by case id; of a DICOM series its name here."""
    notes: tuple[Note, ...] = ()
    refused: tuple[Note, ...] = ()
    series: Mapping[str, Case] = field(default_factory=dict)
    """The DICOM series among the cases."""

    def failures(self) -> list[Failure]:
        """The refused files as failures; of DICOM without any name."""
        found = []
        for note in self.refused:
            if note.nameless is not None:
                found.append(Failure(note.case or "a DICOM series", note.nameless))
                continue
            name = note.path.name if note.path else ""
            text = note.text if name in note.text else f"{name}: {note.text}"
            found.append(Failure(note.case or name or "?", text))
        return found


def find_inputs(path: Path, progress: Callable[[int, int], None] | None = None) -> Inputs:
    """The images to label: a file, a folder (flat or nested, or its ``images/``), a list of files,
    an nnU-Net raw data set (``imagesTs``, else ``imagesTr``), BIDS, or DICOM of any extent.

    A file that cannot be used does not stop the others. ``progress`` hears how many DICOM headers
    are read. Raises ``UserError`` where there is none.
    """
    if path.is_dir() and is_raw(path):
        found = read_raw(path, "target", FLARE, test=True)
    else:
        found = discover(path, "target", FLARE, progress=progress)
    # what an image's name says of its sequence does not matter here; which series a name means does
    notes = [n for n in found.notes if n.severity != "info" or n.nameless is not None]
    # a table of failures holds no name of DICOM: the screen does
    notes += [replace(n, severity="warning") for n in found.refused if n.nameless is not None]
    series = {case.id: case for case in found.cohort if case.series is not None}
    cases = {case.id: case.image for case in found.cohort}
    return Inputs(cases, tuple(notes), found.refused, series)


def find_images(path: Path) -> list[Path]:
    """The image files that :func:`find_inputs` finds; raises ``UserError`` for one that is refused,
    and for DICOM."""
    found = find_inputs(path)
    if found.series:
        raise UserError(
            "DICOM is no image file",
            path=path,
            fix="bring it in by 'labelferry data import'",
        )
    for note in found.refused:
        raise UserError(note.text, case=note.case, path=note.path, fix=note.fix)
    return list(found.cases.values())


def case_id(path: Path) -> str:
    """The file name without its suffix and without nnU-Net's ``_0000``."""
    return stem(path).removesuffix(CHANNEL) or stem(path)


def output_paths(inputs: Sequence[Path] | Mapping[str, Path], output: Path) -> dict[Path, Path]:
    """Where the labels of each input go.

    ``inputs`` are images, or images by their case ids. ``output`` is a file where there is one
    input and the name says NIfTI or DICOM, else a folder that gets ``<case id>.nii.gz``. Raises
    ``UserError`` where two inputs would share a file, where labels would take the place of an
    input, and where nothing may be written.
    """
    if isinstance(inputs, Mapping):
        pairs = list(inputs.items())
    else:
        pairs = [(case_id(path), path) for path in inputs]
    is_file = output.name.lower().endswith((*SUFFIXES, SEG_SUFFIX)) and not output.is_dir()
    if len(pairs) == 1 and is_file:
        places = {pairs[0][1]: output}
    else:
        if output.exists() and not output.is_dir():
            raise UserError("the output must be a folder", path=output, seen="a file")
        places = {path: output / f"{case}.nii.gz" for case, path in pairs}
    owner: dict[Path, Path] = {}
    originals = {path.resolve() for path in places}
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
    model: Labeller,
    inputs: Sequence[Path] | Inputs,
    output: Path,
    *,
    overwrite: bool = True,
    fix_orientation: bool = False,
    quality: Path | None = None,
    formats: Sequence[LabelFormat] = ("nifti",),
    progress: Callable[[int, int], None] | None = None,
    told: Callable[[Note], None] | None = None,
) -> list[Failure]:
    """Label image files with a loaded model; returns the cases that failed.

    See :func:`output_paths` for the names. Headers keep the geometry of their images. A failed case
    does not stop the others; where ``output`` is a folder, ``failures.csv`` in it lists them, with
    those that ``inputs`` refused, and ``volumes.csv`` and ``quality.csv`` tell of every case that
    has labels there. ``quality`` is another place for the latter, which a single file gets on
    request alone. With ``overwrite`` off, labels that are there already are left as they are.
    ``fix_orientation``: see :func:`labelferry.predict.facing.label`. ``formats``: see
    :func:`labelferry.predict.formats.write_labels`. ``told`` receives what there is to say about an
    image that is labelled all the same, and which file of a DICOM series is bad.
    """
    series: Mapping[str, Case] = {}
    if isinstance(inputs, Inputs):
        series = inputs.series
        places, failures = output_paths(inputs.cases, output), inputs.failures()
        names = {path: case for case, path in inputs.cases.items()}
    else:
        places, failures = output_paths(inputs, output), []
        names = {path: case_id(path) for path in inputs}
    todo = [
        path
        for path, place in places.items()
        if overwrite or not all(file.exists() for file in outputs(place, formats).values())
    ]

    folder = output if output not in places.values() else None
    tables = Tables.beside(folder, quality, model.organs, without={names[path] for path in todo})
    if told and tables.quality and model.prior is None:
        told(Note(None, None, _NO_PRIOR, None, "info"))
    waiting = set(todo)
    for path in [path for path in places if path not in waiting]:
        _measure(model, tables, outputs(places[path], ("nifti",))["nifti"], names[path], told)

    def read(path: Path) -> Image:
        if model.budget.is_limited and is_nifti(path):  # before its voxels are in memory
            model.budget.within(read_geometry(path))
        known = series.get(names[path])
        return read_image(path) if known is None else read_case(known)

    def write(path: Path, labels: Segmentation, image: Image) -> None:
        known = series.get(names[path])
        write_labels(places[path], labels, image, model.organs, formats, known)

    def failed(path: Path, error: Exception) -> None:
        case = names[path]
        if not isinstance(error, UserError):
            log.debug("%s could not be labelled", case, exc_info=error)
        elif told and case in series and error.path:
            told(note_of(error, case))
        failures.append(Failure(case, _reason(error, path)))

    # the next image is read, and the last labels are written, while the network works; with little
    # memory one after the other
    ahead = 0 if model.budget.is_limited else 1
    with tables.kept(), ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        following = [reader.submit(read, path) for path in todo[:ahead]]
        written: list[tuple[Path, CaseQuality, Future[None]]] = []
        for number, path in enumerate(todo):
            if progress:
                progress(number + len(places) - len(todo), len(places))
            coming = following.pop() if ahead else reader.submit(read, path)
            following += [reader.submit(read, after) for after in todo[number + 1 :][:ahead]]
            try:
                image = coming.result()
                labels, judged = _label(model, image, path, names[path], fix_orientation, told)
                written.append((path, judged, writer.submit(write, path, labels, image)))
            except Exception as error:  # whatever one image does, the others are still labelled
                failed(path, error)
            while written and (len(written) > ahead or path == todo[-1]):
                earlier, judged, done = written.pop(0)
                fault = done.exception()
                if fault is None:
                    tables.add(judged)
                elif isinstance(fault, Exception):
                    failed(earlier, fault)
                else:
                    raise fault
    if progress:
        progress(len(places), len(places))
    if folder is not None:
        write_failures(folder / FAILURES, failures)
    return failures


def _label(
    model: Labeller,
    image: Image,
    path: Path,
    case: str,
    fix: bool,
    told: Callable[[Note], None] | None,
) -> tuple[Segmentation, CaseQuality]:
    if told:
        for note in image_notes(image, path, case, model.modality):
            if note.severity != "refused":  # the model refuses it itself
                told(note)
    labels, quality = label(model, image.volume, case, fix=fix)
    if told and (text := quality.warning()):
        told(Note(case, path, f"{path.name}: {text}", _LOOK, "warning"))
    if told and (text := quality.doubts()):  # of the labels: nothing is wrong with the picture
        told(Note(case, path, f"{path.name}: {text}", _LOOK, "info"))
    return labels, quality


def _measure(
    model: Labeller,
    tables: Tables,
    labels: Path,
    case: str,
    told: Callable[[Note], None] | None,
) -> None:
    """The rows of a case that was labelled before, from its labels where no table tells of it."""
    if case in tables.rows or tables.quality is None:
        return
    try:
        tables.add(assess(case, read_labels(labels, model.organs), model.organs, model.prior))
    except UserError as error:
        if told:
            text = f"{labels.name}: these labels are left as they are, and not measured"
            told(Note(case, labels, f"{text}: {error.what}", None, "warning"))


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, UserError):
        reason = error.without_path(case=False)  # the case has its own column
    elif isinstance(error, OSError) and error.strerror:
        reason = error.strerror  # without the path
    else:
        reason = f"{type(error).__name__}: {error}"
    reason = reason.replace(str(path), path.name)
    is_series = not path.suffix  # its name is that of the case
    return reason if is_series or path.name in reason else f"{path.name}: {reason}"
