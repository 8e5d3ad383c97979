"""Open every image and label map of a cohort, and say what is wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

from labelferry.cases import Case, Cohort
from labelferry.errors import UserError
from labelferry.io.images import read_case, read_label_file
from labelferry.io.nifti import Image, check_both_oriented, has_orientation
from labelferry.io.notes import Discovery, Note, note_of
from labelferry.io.remarks import header_notes, image_notes, note_on
from labelferry.io.sides import Point, centroids, contradictions, voxel_counts
from labelferry.organs import OrganSet
from labelferry.volume import Grid, Segmentation, canonical_grid, reorient

_SWAPPED = "look at it beside its image: a file that was turned or mirrored teaches wrong sides"

Mapper = Callable[[Callable[[Case], "Inspected"], Sequence[Case]], Iterable["Inspected"]]
"""Applies a function to every case, in order; ``map``, or one that uses several processes."""


@dataclass(frozen=True)
class LabelFacts:
    """One organ of a label map."""

    voxels: int
    ml: float
    centroid: tuple[float, float, float]
    """RAS mm."""
    mean: float | None
    """Mean intensity of the image there; None where the two do not share a grid."""


@dataclass(frozen=True)
class Inspected:
    """One case after its files were opened."""

    case: Case
    grid: Grid | None
    notes: tuple[Note, ...]
    intensities: tuple[float, float] | None = None
    """The smallest and the largest."""
    organs: Mapping[int, LabelFacts] = field(default_factory=dict)
    """What the label map holds, by organ id."""


@dataclass(frozen=True)
class CheckedCohort:
    """The cases that can be used, their grids, what is to be said, and what cannot be used."""

    cohort: Cohort
    """Cases with a label all have ``annotated``."""
    notes: tuple[Note, ...]
    refused: tuple[Note, ...]
    inspected: Mapping[str, Inspected]
    """What was found in the usable cases, by case id."""

    @cached_property
    def grids(self) -> dict[str, Grid]:
        """The image's grid by case id."""
        return {k: found.grid for k, found in self.inspected.items() if found.grid is not None}


def check_case(case: Case, organs: OrganSet) -> list[Note]:
    """Open the image and the label map of a case; a note of severity ``refused`` forbids its use.

    Checked: that both can be read, finite and not constant intensities, Hounsfield units, the
    header's orientation, the label's place, its values, and how its organs lie to each other.
    Nothing is raised for a bad file.
    """
    return list(inspect(case, organs).notes)


def check_cohort(
    discovery: Discovery,
    organs: OrganSet,
    progress: Callable[[int, int], None] | None = None,
    mapper: Mapper = map,
) -> CheckedCohort:
    """Check every case of a discovery; one bad file never stops the others.

    ``progress`` is told the number of cases done and their total. The notes of the discovery come
    first in the result, those on the whole cohort last.
    """
    good: dict[str, Inspected] = {}
    notes, refused = list(discovery.notes), list(discovery.refused)
    cases = discovery.cohort.cases
    for done, found in enumerate(mapper(partial(inspect, organs=organs), cases), start=1):
        bad = [note for note in found.notes if note.severity == "refused"]
        refused += bad
        notes += [note for note in found.notes if note.severity != "refused"]
        if not bad and found.grid is not None:
            good[found.case.id] = found
        if progress:
            progress(done, len(cases))
    cohort = Cohort(tuple(found.case for found in good.values()))
    notes += _of_cohort(cohort, organs)
    return CheckedCohort(cohort, tuple(notes), tuple(refused), good)


def annotated_in(case: Case, labels: Segmentation, organs: OrganSet) -> frozenset[int]:
    """The organs that a label map annotates: as its table says, else as its numbering can express,
    else those that it holds."""
    if case.annotated is not None:
        return case.annotated
    if case.numbering is not None:
        return case.numbering.organs_annotated(organs)
    return labels.held


def inspect(case: Case, organs: OrganSet) -> Inspected:
    """Open the files of a case: the notes of :func:`check_case`, and the figures behind them."""
    notes: list[Note] = []
    image = None
    try:
        image = read_case(case)
        notes += image_notes(image, case.image, case.id, case.modality)
        if case.series is not None:
            folder = case.series.files[0].parent
            notes = [replace(note, path=folder, nameless=note.text) for note in notes]
    except UserError as error:
        notes.append(note_of(error, case.id, case.image, named=case.series is None))
    grid = None if image is None else image.volume.grid
    limits = None
    if image is not None:
        limits = float(image.volume.array.min()), float(image.volume.array.max())
    if case.label is None:
        return Inspected(case, grid, tuple(notes), limits)
    # the label is opened even where the image is bad: all faults come out in one run
    facts: dict[int, LabelFacts] = {}
    try:
        labels, header = read_label_file(case.label, organs, case.numbering)
        own = header_notes(case.label, case.id, header, labels.grid)
        said = {note.text.replace(case.image.name, case.label.name) for note in notes}
        notes += [note for note in own if note.text not in said]
        if image is not None:
            known = {"image": has_orientation(image.header), "label map": has_orientation(header)}
            check_both_oriented(known, "export the {bare} with the geometry of the {other}")
            check_label_place(labels.grid, image.volume.grid)
        places = centroids(labels, organs)
        notes += _of_labels(case, labels, organs)
        said = {f"{case.label.name}: {text}" for text in contradictions(places)}
        notes += [note_on(case.label, case.id, text, fix=_SWAPPED) for text in sorted(said)]
        facts = _facts(labels, places, image, organs)
        case = replace(case, annotated=annotated_in(case, labels, organs))
    except UserError as error:
        notes.append(note_of(error, case.id, case.label))
    return Inspected(case, grid, tuple(notes), limits, facts)


def _facts(
    labels: Segmentation, places: Mapping[str, Point], image: Image | None, organs: OrganSet
) -> dict[int, LabelFacts]:
    voxels, sums = voxel_counts(labels), None
    if image is not None:
        # the same voxels, maybe in another order: that was checked before
        sums = voxel_counts(labels, reorient(image.volume, labels.grid).array)
    found = {}
    for name, place in places.items():
        value = organs.named(name).id
        number = int(voxels[value])
        x, y, z = (float(v) for v in place)
        mean = None if sums is None else float(sums[value]) / number
        found[value] = LabelFacts(number, number * labels.grid.voxel_mm3 / 1000, (x, y, z), mean)
    return found


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


def _of_labels(case: Case, labels: Segmentation, organs: OrganSet) -> list[Note]:
    assert case.label is not None
    path, name = case.label, case.label.name
    held = labels.held
    if not held:
        text = f"the label map {name} is empty: no voxel belongs to an organ"
        return [note_on(path, case.id, text, "refused", "label it, or take it away")]
    notes = []
    annotated = annotated_in(case, labels, organs)
    if absent := annotated - held:
        text = f"annotated but without a voxel in {name}: {_names(absent, organs)}"
        notes.append(note_on(path, case.id, text, "info"))
    if extra := held - annotated:
        text = f"in {name} but not annotated by the table, hence ignored: {_names(extra, organs)}"
        fix = "add their ids to 'annotated' to use them"
        notes.append(note_on(path, case.id, text, fix=fix))
    return notes


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


def _names(ids: frozenset[int], organs: OrganSet) -> str:
    return ", ".join(organs[i].name for i in sorted(ids))


def _origin(grid: Grid) -> str:
    return "(" + ", ".join(f"{v:.1f}" for v in grid.affine[:3, 3]) + ") mm"
