"""The axial slices of many images, kept on disk, and batches of one size drawn from them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelferry.errors import UserError
from labelferry.io.nifti import read_image, stem

_LEAST_RANGE = 0.02


@dataclass(frozen=True, eq=False)
class Slices:
    """Usable slices (y, x) in [0, 1] of several cases."""

    values: NDArray[np.float16] = field(repr=False)
    """All pixels one after another; in an unnamed file, so that any number of cases fits."""
    cases: tuple[tuple[tuple[int, tuple[int, int]], ...], ...] = field(repr=False)
    """For each case its slices: first pixel in ``values``, and shape."""
    places: tuple[tuple[str, tuple[int, ...]], ...] = field(repr=False)
    """For each case its name, and the indices along z of its slices."""

    @property
    def largest(self) -> tuple[int, int]:
        """Largest extent of any slice along y and x."""
        shapes = [shape for case in self.cases for _, shape in case]
        return max(s[0] for s in shapes), max(s[1] for s in shapes)

    def draw(self, rng: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float32]:
        """A random slice of a random case, cropped or padded to ``size`` (y, x)."""
        return self.draw_named(rng, size)[0]

    def draw_named(
        self, rng: np.random.Generator, size: tuple[int, int]
    ) -> tuple[NDArray[np.float32], str]:
        """The same slice, and what it is in words: its case and its index along z."""
        case = int(rng.integers(len(self.cases)))
        number = int(rng.integers(len(self.cases[case])))
        image: NDArray[Any] = self.slice(case, number)
        shape = image.shape
        for axis in (0, 1):
            spare = shape[axis] - size[axis]
            first = int(rng.integers(spare + 1)) if spare > 0 else 0
            image = (
                image[first : first + size[axis]]
                if axis == 0
                else image[:, first : first + size[axis]]
            )
        name, levels = self.places[case]
        return pad_to(image.astype(np.float32), size), f"{name} slice {levels[number]}"

    def slice(self, case: int, number: int) -> NDArray[np.float16]:
        """One slice (y, x) as it is."""
        start, shape = self.cases[case][number]
        return self.values[start : start + shape[0] * shape[1]].reshape(shape)


def gather(
    paths: Sequence[Path], side: str, folder: Path, names: Sequence[str] | None = None
) -> Slices:
    """Read the usable axial slices of prepared images (x, y, z) in [0, 1].

    ``side`` (source or target) and ``names`` (of the cases; the files' own where there are none)
    are for messages; ``folder`` holds the unnamed file. Raises ``UserError`` where there is no
    image, and for one without any usable slice.
    """
    if not paths:
        raise UserError(f"no {side} image to learn the translation from", fix="check the cohort")
    names = [stem(path) for path in paths] if names is None else names
    cases, places = [], []
    count = 0
    with tempfile.TemporaryFile(dir=folder) as stream:
        for path, name in zip(paths, names, strict=True):
            found, levels = [], []
            for z, image in usable_slices(path, side, name):
                stream.write(np.ascontiguousarray(image, np.float16).tobytes())
                found.append((count, (image.shape[0], image.shape[1])))
                levels.append(z)
                count += image.size
            cases.append(tuple(found))
            places.append((name, tuple(levels)))
        stream.flush()
        values: NDArray[np.float16] = np.memmap(stream, np.float16, mode="r", shape=(count,))
    return Slices(values, tuple(cases), tuple(places))


def usable_slices(path: Path, side: str, name: str) -> list[tuple[int, NDArray[Any]]]:
    """The usable axial slices (y, x) of a prepared image, each with its index along z.

    Raises ``UserError`` for an image without any.
    """
    array = read_image(path).volume.array
    found = [(z, array[:, :, z].T) for z in range(array.shape[2]) if is_usable(array[:, :, z])]
    if not found:
        raise UserError(
            f"the {side} image has no usable slice",
            case=name,
            path=path,
            seen="every axial slice is constant",
            fix="leave this case out",
        )
    return found


def is_usable(image: NDArray[Any]) -> bool:
    """Whether the values of a slice in [0, 1] span enough to learn from, or to translate."""
    return float(image.max()) - float(image.min()) >= _LEAST_RANGE


def pad_to(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Pad the last two axes at their ends to at least ``size`` by reflection."""
    widths = [(0, 0)] * (image.ndim - 2)
    widths += [(0, max(0, want - have)) for want, have in zip(size, image.shape[-2:], strict=True)]
    return np.pad(image, widths, mode="reflect") if any(b for _, b in widths) else image


def rounded_up(size: int, multiple: int, least: int) -> int:
    """The next multiple at or above ``size``, and at least ``least`` (itself a multiple)."""
    return max(least, -(-size // multiple) * multiple)
