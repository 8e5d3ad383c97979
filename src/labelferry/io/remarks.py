"""What there is to say about one image: where it lies, and what its intensities can be."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

from labelferry.cases import Modality
from labelferry.io.nifti import Image, has_orientation, qform_distance
from labelferry.io.notes import Note, Severity
from labelferry.volume import Grid, Volume

_PLAUSIBLE_MM = (0.1, 60.0)
"""Voxel sizes outside are mostly given in another unit, or not at all."""
_OUTLIER = 1000.0
"""An intensity this many times above the 99th percentile is no tissue."""
_RESCALED = 0.1
"""A largest intensity between this and 1 is that of an image scaled to [0, 1] or [-1, 1]."""
_SHEAR_DEGREES = 1.0
"""Headers are rounded: less is no shear."""


def image_notes(image: Image, path: Path, case: str, modality: Modality) -> list[Note]:
    """What there is to say about an image that could be read."""
    notes = header_notes(path, case, image.header, image.volume.grid)
    return [*notes, *intensity_notes(image.volume, path, case, modality, image.replaced)]


def header_notes(path: Path, case: str, header: nibabel.Nifti1Header, grid: Grid) -> list[Note]:
    """What there is to say about a header and the grid that was read from it."""
    notes = []
    if not has_orientation(header):
        text = f"{path.name} has no orientation (sform and qform codes are 0): left and right may "
        text += f"be swapped; axes taken as {grid.axes}"
        notes.append(note_on(path, case, text, fix="export it again with its orientation"))
    if qform_distance(header, grid) > min(grid.spacing):
        text = f"the qform of {path.name} contradicts its sform; the sform is used"
        fix = "other programs may use the qform: export it again to be safe"
        notes.append(note_on(path, case, text, fix=fix))
    return [*notes, *grid_notes(grid, path, case)]


def grid_notes(grid: Grid, path: Path, case: str | None) -> list[Note]:
    """What there is to say about a grid by itself: odd voxel sizes, sheared axes."""
    notes = []
    low, high = _PLAUSIBLE_MM
    if not (low <= min(grid.spacing) and max(grid.spacing) <= high):
        size = " × ".join(f"{s:.3g}" for s in grid.spacing)
        text = f"{path.name} has voxels of {size} mm: is the unit right?"
        notes.append(note_on(path, case, text))
    if shear_degrees(grid) > _SHEAR_DEGREES:
        text = f"the axes of {path.name} are sheared by {shear_degrees(grid):.1f}°"
        fix = "a tilted gantry? Other programs may refuse it or take it as a box"
        notes.append(note_on(path, case, text, fix=fix))
    return notes


def shear_degrees(grid: Grid) -> float:
    """How far the angle between two axes of a grid is from a right angle, at most."""
    axes = grid.affine[:3, :3] / np.array(grid.spacing)
    inner = np.abs(axes.T @ axes - np.diag(np.diag(axes.T @ axes))).max()
    return float(np.degrees(np.arcsin(min(1.0, inner))))


def intensity_notes(
    volume: Volume, path: Path, case: str | None, modality: Modality, replaced: int
) -> list[Note]:
    """What there is to say about intensities, of which ``replaced`` were not finite."""
    array, name = volume.array, path.name
    low, high = float(array.min()), float(array.max())
    if low == high:
        text = f"{name} is a constant image, without any contrast; seen: {low:g} everywhere"
        return [note_on(path, case, text, "refused", "export the image again")]
    notes = []
    seen = f"{name} has intensities in [{low:g}, {high:g}]"
    if replaced:
        text = f"{name} has {replaced} voxels that are not finite (NaN or infinite); "
        notes.append(note_on(path, case, text + f"they are taken as {low:g}"))
    sample = array.reshape(-1)[:: max(1, array.size // 1_000_000)]
    usual = float(np.percentile(np.abs(sample), 99))
    if usual > 0 and max(abs(low), abs(high)) > _OUTLIER * usual:
        notes.append(
            note_on(path, case, f"{seen}, far beyond nearly all of its voxels ({usual:g})")
        )
    elif modality == "CT" and (low >= 0 or high - low < 50):
        # fat, about −100 HU, is in every abdomen, and air in nearly every image of one
        fix = "give CT in Hounsfield units: no windowing to 0…1 or 0…255, and with its intercept"
        notes.append(note_on(path, case, f"{seen}: these cannot be Hounsfield units (HU)", fix=fix))
    elif modality == "MR" and low <= -900:
        text = f"{seen}, as in Hounsfield units (HU): is this MRI a CT?"
        notes.append(note_on(path, case, text))
    elif modality == "MR" and low >= -1 and _RESCALED < high <= 1:
        text = f"{seen}: rescaled before. An MRI may be; a CT like this is not in Hounsfield units"
        notes.append(note_on(path, case, text))
    return notes


def note_on(
    path: Path, case: str | None, text: str, severity: Severity = "warning", fix: str | None = None
) -> Note:
    """A note on one file of a case."""
    return Note(case, path, text, fix, severity)
