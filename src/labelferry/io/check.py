"""Open every image and label map of a cohort, and say what is wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from labelferry.cases import Case, Cohort
from labelferry.errors import UserError
from labelferry.io.discover import Discovery, Note, Severity, note_of
from labelferry.io.nifti import Image, qform_distance, read_image, read_labels
from labelferry.organs import OrganSet
from labelferry.volume import Grid, Segmentation, canonical_grid

_PLAUSIBLE_MM = (0.1, 60.0)
"""Voxel sizes outside are mostly given in another unit, or not at all."""
_OUTLIER = 1000.0
"""An intensity this many times above the 99th percentile is no tissue."""


@dataclass(frozen=True)
class CheckedCohort:
    """The cases that can be used, their grids, what is to be said, and what cannot be used."""

    cohort: Cohort
    """Cases with a label all have ``annotated``."""
    notes: tuple[Note, ...]
    refused: tuple[Note, ...]
    grids: Mapping[str, Grid]
    """The image's grid by case id."""


@dataclass(frozen=True)
class _Inspected:
    case: Case
    grid: Grid | None
    notes: tuple[Note, ...]


def check_case(case: Case, organs: OrganSet) -> list[Note]:
    """Open the image and the label map of a case; a note of severity ``refused`` forbids its use.

    Checked: that both can be read, finite and not constant intensities, Hounsfield units, the
    header's orientation, the label's place, and its values. Nothing is raised for a bad file.
    """
    return list(_inspect(case, organs).notes)


def check_cohort(
    discovery: Discovery,
    organs: OrganSet,
    progress: Callable[[int, int], None] | None = None,
) -> CheckedCohort:
    """Check every case of a discovery; one bad file never stops the others.

    ``progress`` is told the number of cases done and their total. The notes of the discovery come
    first in the result, those on the whole cohort last.
    """
    good: list[Case] = []
    notes, refused = list(discovery.notes), list(discovery.refused)
    grids: dict[str, Grid] = {}
    total = len(discovery.cohort)
    for done, case in enumerate(discovery.cohort, start=1):
        found = _inspect(case, organs)
        bad = [note for note in found.notes if note.severity == "refused"]
        refused += bad
        notes += [note for note in found.notes if note.severity != "refused"]
        if not bad and found.grid is not None:
            good.append(found.case)
            grids[case.id] = found.grid
        if progress:
            progress(done, total)
    cohort = Cohort(tuple(good))
    notes += _of_cohort(cohort, organs)
    return CheckedCohort(cohort, tuple(notes), tuple(refused), grids)


def annotated_in(case: Case, labels: Segmentation) -> frozenset[int]:
    """The organs that a label map annotates: as its table says, else those that it holds."""
    if case.annotated is not None:
        return case.annotated
    return labels.held


def _inspect(case: Case, organs: OrganSet) -> _Inspected:
    notes: list[Note] = []
    grid = None
    try:
        image = read_image(case.image)
        grid = image.volume.grid
        notes += _of_geometry(case, image)
        notes += _of_intensity(case, image)
    except UserError as error:
        notes.append(note_of(error, case.id, case.image))
    if case.label is None:
        return _Inspected(case, grid, tuple(notes))
    # the label is opened even where the image is bad: all faults come out in one run
    try:
        labels = read_labels(case.label, organs)
        if grid is not None:
            check_label_place(labels.grid, grid)
        notes += _of_labels(case, labels, organs)
        case = replace(case, annotated=annotated_in(case, labels))
    except UserError as error:
        notes.append(note_of(error, case.id, case.label))
    return _Inspected(case, grid, tuple(notes))


def check_label_place(label: Grid, image: Grid) -> None:
    """Raise ``UserError`` unless a label map covers the image's voxels, in any order of axes.

    Corners may differ by a tenth of the smallest voxel side (headers are rounded), not more: a
    label map is never moved by its world position, which could lose it.
    """
    tolerance = max(0.01, 0.1 * min(image.spacing))
    if label.matches(image, tolerance):
        return
    mine, theirs = canonical_grid(label), canonical_grid(image)
    if mine.shape != theirs.shape:
        raise UserError(
            "label map and image differ in shape",
            seen=f"label {label.shape} {label.axes}",
            allowed=f"image {image.shape} {image.axes}",
            fix="export the label map on the image's grid",
        )
    if not mine.matches(theirs, tolerance):
        raise UserError(
            f"label map and image lie {mine.distance(theirs):.1f} mm apart",
            seen=f"label origin {_origin(mine)}",
            allowed=f"image origin {_origin(theirs)}",
            fix="export the label map with the image's geometry",
        )


def _of_geometry(case: Case, image: Image) -> list[Note]:
    grid, header = image.volume.grid, image.header
    notes = []
    if not int(header["sform_code"]) and not int(header["qform_code"]):
        notes.append(
            _note(
                case,
                f"{case.image.name} has no orientation (sform and qform codes are 0): left and "
                f"right may be swapped; axes taken as {grid.axes}",
                fix="export it again with its orientation",
            )
        )
    if qform_distance(image) > min(grid.spacing):
        notes.append(
            _note(
                case,
                f"the qform of {case.image.name} contradicts its sform; the sform is used",
                fix="other programs may use the qform: export it again to be safe",
            )
        )
    low, high = _PLAUSIBLE_MM
    if not (low <= min(grid.spacing) and max(grid.spacing) <= high):
        size = " × ".join(f"{s:.3g}" for s in grid.spacing)
        notes.append(_note(case, f"{case.image.name} has voxels of {size} mm: is the unit right?"))
    return notes


def _of_intensity(case: Case, image: Image) -> list[Note]:
    array, name = image.volume.array, case.image.name
    low, high = float(array.min()), float(array.max())
    if low == high:
        text = f"{name} is a constant image, without any contrast; seen: {low:g} everywhere"
        return [_note(case, text, "refused", "export the image again")]
    notes = []
    seen = f"{name} has intensities in [{low:g}, {high:g}]"
    if image.replaced:
        text = f"{name} has {image.replaced} voxels that are not finite (NaN or infinite); "
        notes.append(_note(case, text + f"they are taken as {low:g}"))
    sample = array.reshape(-1)[:: max(1, array.size // 1_000_000)]
    usual = float(np.percentile(np.abs(sample), 99))
    if usual > 0 and max(abs(low), abs(high)) > _OUTLIER * usual:
        notes.append(_note(case, f"{seen}, far beyond nearly all of its voxels ({usual:g})"))
    elif case.modality == "CT" and (low >= 0 or high - low < 50):
        # fat, about −100 HU, is in every abdomen, and air in nearly every image of one
        fix = "give CT in Hounsfield units: no windowing to 0…1 or 0…255, and with its intercept"
        notes.append(_note(case, f"{seen}: these cannot be Hounsfield units (HU)", fix=fix))
    elif case.modality == "MR" and low <= -900:
        notes.append(_note(case, f"{seen}, as in Hounsfield units: is this MRI a CT?"))
    return notes


def _of_labels(case: Case, labels: Segmentation, organs: OrganSet) -> list[Note]:
    assert case.label is not None
    name = case.label.name
    held = labels.held
    if not held:
        text = f"the label map {name} is empty: no voxel belongs to an organ"
        return [replace(_note(case, text, "refused", "label it, or take it away"), path=case.label)]
    notes = []
    annotated = annotated_in(case, labels)
    if absent := annotated - held:
        text = f"annotated but without a voxel in {name}: {_names(absent, organs)}"
        notes.append(_note(case, text, "info"))
    if extra := held - annotated:
        text = f"in {name} but not annotated by the table, hence ignored: {_names(extra, organs)}"
        notes.append(_note(case, text, fix="add their ids to 'annotated' to use them"))
    return [replace(note, path=case.label) for note in notes]


def _of_cohort(cohort: Cohort, organs: OrganSet) -> list[Note]:
    notes = []
    if any(case.label for case in cohort):
        known = frozenset[int]().union(*(case.annotated or () for case in cohort))
        if missing := organs.ids - known:
            text = f"no labelled case annotates {_names(missing, organs)}: no model can learn this"
            notes.append(Note(None, None, text, None, "warning"))
    else:
        for domain, number in sorted(Counter(case.domain for case in cohort).items()):
            if number == 1:
                text = f"the domain {domain} has one case only"
                notes.append(Note(None, None, text, None, "info"))
    times = Counter(case.patient for case in cohort)
    several = sum(number > 1 for number in times.values())
    if several:
        text = f"patients with more than one image: {several} of {len(times)}"
        notes.append(Note(None, None, text, None, "info"))
    return notes


def _note(case: Case, text: str, severity: Severity = "warning", fix: str | None = None) -> Note:
    return Note(case.id, case.image, text, fix, severity)


def _names(ids: frozenset[int], organs: OrganSet) -> str:
    return ", ".join(organs[i].name for i in sorted(ids))


def _origin(grid: Grid) -> str:
    return "(" + ", ".join(f"{v:.1f}" for v in grid.affine[:3, 3]) + ") mm"
