"""Put the pictures of DICOM series together to volumes, by where they lie and not by their names.

One series may hold several volumes: echoes, b-values, parts of a Dixon, orientations, time points.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelferry.errors import UserError
from labelferry.io.dicom import Frame
from labelferry.io.dicompixels import read_frames
from labelferry.io.notes import Note, Severity, count, some
from labelferry.volume import LPS_TO_RAS, Grid, Volume

LEAST = 3
"""Fewer slices are a scout or a sample, no volume."""
_SAME_MM = 0.01
_SAME_DIRECTION = 1e-3
_UNEVEN = 0.02
"""Slices that lie off their places by less than this share of their distance are rounded."""
_BROKEN = 0.25
"""More than this is no even stack."""


@dataclass(frozen=True)
class Stack:
    """One volume: its pictures, ordered along their normal."""

    frames: tuple[Frame, ...]
    grid: Grid
    """Axes: along a row, along a column, from slice to slice; sheared by a tilted gantry."""

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """The files that hold the pictures, each once, in the order of the slices."""
        return tuple(dict.fromkeys(frame.path for frame in self.frames))


def make_stacks(frames: Iterable[Frame]) -> tuple[list[Stack], list[Note]]:
    """The volumes that pictures make up, and what there is to say.

    Copies of a slice are left out and counted. Volumes of fewer than three slices are left out by
    name; volumes with missing, unevenly spaced or contradicting slices are refused by name.
    """
    groups: dict[tuple[object, ...], list[Frame]] = defaultdict(list)
    for frame in frames:
        groups[_key(frame)].append(frame)
    stacks: list[Stack] = []
    notes: list[Note] = []
    for group in groups.values():
        for parallel in _by_direction(group):
            try:
                found, said = _stacks(parallel)
                stacks += found
                notes += said
            except UserError as error:
                notes.append(_note(parallel, error.what, "refused", error.message()))
    return stacks, notes


def read_stack(stack: Stack) -> Volume:
    """The voxels of a volume; one file is open at a time."""
    rows, columns = stack.frames[0].shape
    array = np.empty((columns, rows, len(stack.frames)), np.float32)
    # frames of one file stand together while they are read, whatever their order in the volume
    order = sorted(range(len(stack.frames)), key=lambda k: str(stack.frames[k].path))
    for k, picture in zip(order, read_frames([stack.frames[k] for k in order]), strict=True):
        array[:, :, k] = picture.T
    return Volume(array, stack.grid)


def _key(frame: Frame) -> tuple[object, ...]:
    facts = frame.facts
    times = (facts.echo_ms, facts.inversion_ms, facts.b_value)
    rounded = tuple(None if value is None else round(value, 1) for value in times)
    spacing = tuple(round(value, 4) for value in frame.spacing)
    kind = facts.kind[2:]  # after ORIGINAL or DERIVED, PRIMARY or SECONDARY
    return (frame.patient, frame.series, facts.modality, kind, rounded, frame.shape, spacing)


def _by_direction(frames: Sequence[Frame]) -> list[list[Frame]]:
    groups: list[list[Frame]] = []
    for frame in frames:
        for group in groups:
            apart = np.subtract(group[0].directions, frame.directions)
            if np.abs(apart).max() < _SAME_DIRECTION:
                group.append(frame)
                break
        else:
            groups.append([frame])
    return groups


def _stacks(frames: Sequence[Frame]) -> tuple[list[Stack], list[Note]]:
    normal = _normal(frames[0])
    slots = _slots(frames, normal)
    if len(slots) < LEAST:
        verb = "makes" if len(slots) == 1 else "make"
        text = f"{count(slots, 'slice')} {verb} no volume, left out"
        return [], [_note(frames, text, "warning", f"{text}: {_names(frames)}")]
    copies, slots = _without_copies(slots)
    notes = []
    if copies:
        text = f"{count(copies, 'duplicate')} of slices left out"
        notes.append(_note(frames, text, "warning", f"{text}: {_names(copies)}"))
    times = {len(slot) for slot in slots}
    if len(times) > 1:
        twice = next(slot for slot in slots if len(slot) > min(times))
        raise UserError(
            "different slices lie at one place",
            seen=_names(twice),
            fix="export each series into a folder of its own, once",
        )
    found = []
    for point in range(times.pop()):
        chosen = [slot[point] for slot in slots]
        grid, uneven = _grid(chosen, normal)
        found.append(Stack(tuple(chosen), grid))
        if uneven:
            notes.append(_note(chosen, uneven, "warning"))
    return found, notes


def _normal(frame: Frame) -> NDArray[np.float64]:
    across, down = np.array(frame.directions[:3]), np.array(frame.directions[3:])
    normal = np.cross(across, down)
    lengths = [float(np.linalg.norm(vector)) for vector in (across, down, normal)]
    if not np.allclose(lengths, 1, atol=0.01):
        raise UserError(
            "the directions of rows and columns are not at right angles",
            seen=", ".join(f"{value:g}" for value in frame.directions),
            fix="export the original series",
        )
    return np.asarray(normal / lengths[2])


def _slots(frames: Sequence[Frame], normal: NDArray[np.float64]) -> list[list[Frame]]:
    """Pictures by their place along the normal, from the lowest up."""
    places = [float(np.dot(frame.position, normal)) for frame in frames]
    slots: list[list[Frame]] = []
    last = -np.inf
    for place, frame in sorted(zip(places, frames, strict=True), key=lambda row: row[0]):
        if place - last > _SAME_MM:
            slots.append([])
            last = place
        slots[-1].append(frame)
    return [sorted(slot, key=lambda frame: frame.order) for slot in slots]


def _without_copies(slots: Sequence[list[Frame]]) -> tuple[list[Frame], list[list[Frame]]]:
    """Of pictures that lie at one place, those that repeat another or cannot be read go.

    Two time points may look alike at some places (both empty, say); copies do so at every place.
    """
    looks = _looks([frame for slot in slots if len(slot) > 1 for frame in slot])
    kept = []
    for slot in slots:
        readable = [frame for frame in slot if len(slot) == 1 or looks[frame] is not None]
        kept.append(_distinct(readable or slot[:1], lambda f: (f.instance, looks.get(f))))
    same = all(len({looks.get(frame) for frame in slot}) == 1 for slot in kept)
    if same or len({len(slot) for slot in kept}) > 1:
        kept = [_distinct(slot, looks.get) for slot in kept]
    left = {frame for slot in kept for frame in slot}
    return [frame for slot in slots for frame in slot if frame not in left], kept


def _distinct(slot: Sequence[Frame], key: Callable[[Frame], object]) -> list[Frame]:
    """The first picture of each key."""
    return [*{key(frame): frame for frame in reversed(slot)}.values()][::-1]


def _looks(frames: Sequence[Frame]) -> dict[Frame, str | None]:
    """A hash of each picture; None where it cannot be read."""
    found: dict[Frame, str | None] = dict.fromkeys(frames)
    files = sorted(frames, key=lambda frame: str(frame.path))
    for _, group in groupby(files, lambda frame: frame.path):
        several = list(group)
        with suppress(UserError):
            for frame, picture in zip(several, read_frames(several), strict=True):
                found[frame] = hashlib.sha256(picture.tobytes()).hexdigest()
    return found


def _grid(frames: Sequence[Frame], normal: NDArray[np.float64]) -> tuple[Grid, str]:
    """The grid of evenly spaced slices, and what is to be said where they are a little uneven."""
    places = np.array([frame.position for frame in frames])
    step = (places[-1] - places[0]) / (len(frames) - 1)
    high = float(step @ normal)
    off = np.linalg.norm(places - places[0] - np.outer(np.arange(len(frames)), step), axis=1)
    worst = float(off.max())
    if worst > _BROKEN * high:
        steps = np.diff(places @ normal)
        gap = int(steps.argmax())
        missing = steps[gap] > 1.5 * np.median(steps)
        raise UserError(
            "slices are missing" if missing else "the slices are not evenly spaced",
            seen=f"a step of {steps[gap]:.2f} mm after {frames[gap].path.name}, "
            f"{np.median(steps):.2f} mm between most others",
            fix="export the whole series again",
        )
    first, (between_rows, between_columns) = frames[0], frames[0].spacing
    affine = np.eye(4)
    affine[:3, 0] = np.array(first.directions[:3]) * between_columns
    affine[:3, 1] = np.array(first.directions[3:]) * between_rows
    affine[:3, 2] = step
    affine[:3, 3] = places[0]
    rows, columns = first.shape
    grid = Grid((columns, rows, len(frames)), LPS_TO_RAS @ affine)
    text = f"slices lie up to {worst:.2f} mm off an even spacing of {high:.2f} mm, which is taken"
    return grid, text if worst > max(_SAME_MM, _UNEVEN * high) else ""


def _names(frames: Sequence[Frame]) -> str:
    return some([frame.path.name for frame in frames])


def _note(frames: Sequence[Frame], text: str, severity: Severity, named: str | None = None) -> Note:
    """A note on a series; ``named`` is the text with names of files in it."""
    folder = frames[0].path.parent
    return Note(None, folder, f"{folder.name}: {named or text}", None, severity, text)
