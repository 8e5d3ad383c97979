"""Training examples: preprocessed once to disk, memory-mapped, and patches drawn from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, overload
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from labelferry.errors import UserError
from labelferry.files import atomic_folder, hash_value, write_json
from labelferry.io.nifti import read_image, read_labels
from labelferry.organs import OrganSet
from labelferry.segment.config import Contrast
from labelferry.segment.preprocess import preprocess_example
from labelferry.segment.tissues import BEYOND, Composition, classify

Randomise = Literal["none"] | Contrast

_LOCATIONS_PER_ORGAN = 10_000
_HISTOGRAM_BINS = 256
_ARRAYS = "example.npz"
_KEPT_OPEN = 64  # two open files each; some systems allow 256 in all


@dataclass(frozen=True)
class Example:
    """One image with a label map to train on, both on the same working grid."""

    id: str
    channels: tuple[Path, ...]
    """One image file per input channel."""
    label: Path
    annotated: frozenset[int]
    """Organs that the label map speaks of; the others are merged with background in the loss."""
    weight: float = 1.0
    """Relative frequency in training."""
    randomise: Randomise = "none"
    """Whether the image, a labelled CT, is seen through random intensity curves or convolutions, or
    painted."""
    window: tuple[float, float] = (-180.0, 260.0)
    """The HU that are 0 and 1 in the image; read where it is painted."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """An example as it is trained on: memory-mapped arrays and where each organ lies."""

    example: Example
    data: NDArray[np.float32]
    """(c, z, y, x), normalised."""
    labels: NDArray[np.int16]
    """(z, y, x); -1 outside the image."""
    locations: dict[int, NDArray[np.int32]]
    """Up to 10,000 voxels (n, 3) of each organ."""
    counts: dict[int, int]
    """Number of voxels of each organ."""
    histogram: NDArray[np.float64]
    """Shares of 256 equal bins between the smallest and the largest value of channel 0."""
    range: tuple[float, float]
    """Smallest and largest value of channel 0."""
    classes: NDArray[np.int16] | None = None
    """(z, y, x): the class of each voxel of an image that is painted (see ``contrast``)."""
    composition: Composition | None = None
    """Shares and values of these classes."""


@dataclass(frozen=True, eq=False)
class Stored(Sequence[Prepared]):
    """Preprocessed examples on the disk, each opened when it is asked for.

    Only the last ones stay open, so that thousands need neither open files nor memory; a worker
    process is sent their paths, never their voxels.
    """

    examples: tuple[Example, ...]
    folders: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.examples)

    @overload
    def __getitem__(self, n: int) -> Prepared: ...
    @overload
    def __getitem__(self, n: slice) -> Stored: ...
    def __getitem__(self, n: int | slice) -> Prepared | Stored:
        if isinstance(n, slice):
            return Stored(self.examples[n], self.folders[n])
        return self._open(self.examples[n], self.folders[n])

    @cached_property
    def _open(self) -> Callable[[Example, Path], Prepared]:
        return lru_cache(_KEPT_OPEN)(_map)

    def __reduce__(self) -> tuple[Any, ...]:
        return Stored, (self.examples, self.folders)


def load_examples(
    examples: Sequence[Example],
    organs: OrganSet,
    plans: dict[str, Any],
    cache: Path,
    progress: Callable[[int, int], None] | None = None,
) -> Stored:
    """Preprocess each example into a folder of ``cache``, unless an earlier call has.

    Raises ``UserError`` for an example without a single organ voxel in the whole set.
    """
    folders = []
    for n, example in enumerate(examples):
        if progress:
            progress(n, len(examples))
        key: list[Any] = [example.id, [str(p.name) for p in example.channels]]
        if example.randomise == "paint":
            key.append([*example.window])
        folder = cache / hash_value(key)[:16]
        if not (folder / _ARRAYS).exists():
            _preprocess(example, organs, plans, folder)
        folders.append(folder)
    prepared = Stored(tuple(examples), tuple(folders))
    if not any(p.locations for p in prepared):
        raise UserError(
            "no organ in any training label",
            seen=f"{len(examples)} label maps",
            fix="check the labels with 'labelferry data check'",
        )
    return prepared


def _preprocess(example: Example, organs: OrganSet, plans: dict[str, Any], folder: Path) -> None:
    volumes = [read_image(path).volume for path in example.channels]
    channels = np.stack([_to_zyx(np.asarray(v.array, np.float32)) for v in volumes])
    spacing = volumes[0].grid.spacing
    labels = _to_zyx(read_labels(example.label, organs).array)
    if labels.shape != channels.shape[1:]:
        raise UserError(
            "image and label differ in shape",
            case=example.id,
            path=example.label,
            seen=labels.shape,
            allowed=channels.shape[1:],
        )
    # a label of an organ that the case does not annotate says nothing
    labels = np.where(np.isin(labels, sorted(example.annotated)), labels, 0).astype(np.uint8)
    data, seg = preprocess_example(channels, labels, plans)
    rng = np.random.default_rng(int(hash_value(example.id)[:8], 16))
    arrays: dict[str, Any] = {}
    sizes: dict[int, int] = {}
    for organ in sorted(example.annotated):
        found = np.argwhere(seg == organ).astype(np.int32)
        sizes[organ] = len(found)
        if len(found) > _LOCATIONS_PER_ORGAN:
            found = found[np.sort(rng.choice(len(found), _LOCATIONS_PER_ORGAN, replace=False))]
        if len(found):
            arrays[str(organ)] = found
    counts, _ = np.histogram(data[0], bins=_HISTOGRAM_BINS)
    with atomic_folder(folder) as part:
        np.save(part / "data.npy", data)
        np.save(part / "labels.npy", seg)
        arrays["histogram"] = counts / counts.sum()
        arrays["sizes"] = np.array(list(sizes.items()), np.int64).reshape(-1, 2)
        arrays["range"] = np.array([data[0].min(), data[0].max()], np.float64)
        if example.randomise == "paint":
            classes, composition = _classes(example, channels[0], data[0], seg, organs, spacing)
            np.save(part / "classes.npy", classes)
            arrays["composition"] = composition.to_array()
        np.savez(part / _ARRAYS, **arrays)
        write_json(part / "example.json", {"schema_version": 1, "id": example.id})


def _classes(
    example: Example,
    plain: NDArray[np.float32],
    data: NDArray[np.float32],
    labels: NDArray[np.int16],
    organs: OrganSet,
    spacing: tuple[float, float, float],
) -> tuple[NDArray[np.int16], Composition]:
    """Classes of a normalised image ``data``, cut from ``plain``; ``spacing`` is (x, y, z)."""
    # what was cut away is zero: these sums are those of the part that is left
    mean = float(plain.sum(dtype=np.float64)) / data.size
    power = float(np.square(plain, dtype=np.float64).sum()) / data.size
    scale = mean, float(np.sqrt(max(power - mean**2, 0)))
    unit = (data * scale[1] + scale[0]).astype(np.float32)
    classes = classify(unit, labels, organs, example.window, (spacing[2], spacing[1], spacing[0]))
    return classes, replace(Composition.measure(unit, classes, organs), scale=scale)


def _map(example: Example, folder: Path) -> Prepared:
    try:
        with np.load(folder / _ARRAYS) as stored:
            histogram, (low, high) = stored["histogram"], stored["range"]
            locations = {int(k): stored[k] for k in stored.files if k.isdecimal()}
            counts = {int(organ): int(size) for organ, size in stored["sizes"]}
            painted = example.randomise == "paint"
            composition = Composition.from_array(stored["composition"]) if painted else None
        data = np.load(folder / "data.npy", mmap_mode="r")
        labels = np.load(folder / "labels.npy", mmap_mode="r")
        classes = np.load(folder / "classes.npy", mmap_mode="r") if painted else None
    except (ValueError, EOFError, BadZipFile) as error:
        raise UserError(
            "a cached training array is damaged",
            case=example.id,
            path=folder,
            seen=str(error),
            fix="delete this folder and run again",
        ) from error
    span = float(low), float(high)
    return Prepared(example, data, labels, locations, counts, histogram, span, classes, composition)


def _to_zyx(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array.transpose(2, 1, 0))


@dataclass(frozen=True, eq=False)
class Patch:
    """What a network sees of one example before augmentation."""

    data: NDArray[np.float32]
    """(c, *size)."""
    labels: NDArray[np.int16]
    """(1, *size)."""
    source: Prepared
    classes: NDArray[np.int16] | None = None
    """Of an image that is painted: the class of each voxel, shaped as ``data``."""


@dataclass(frozen=True, eq=False)
class PatchSampler:
    """Draws patches: which case, round which voxel. The randomness is passed in."""

    prepared: Sequence[Prepared]
    size: tuple[int, ...]
    """Size before augmentation, (z, y, x) or (y, x)."""
    foreground: float
    balanced: bool
    context: int = 0
    """Neighbouring slices on each side, for 2-D patches."""

    @cached_property
    def _weights(self) -> NDArray[np.float64]:
        weights = np.array([p.example.weight for p in self.prepared], float)
        return np.asarray(weights / weights.sum())

    @cached_property
    def _holders(self) -> dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """For each organ: the examples that show it, and how often to draw each."""
        showing: dict[int, list[int]] = {}
        for i, prepared in enumerate(self.prepared):
            for organ in prepared.locations:
                showing.setdefault(organ, []).append(i)
        holders = {}
        for organ in sorted(showing):
            which = np.array(showing[organ])
            share = self._weights[which]
            if share.sum() > 0:
                holders[organ] = which, share / share.sum()
        return holders

    def draw(self, rng: np.random.Generator) -> Patch:
        """One patch, padded with 0 (labels -1) where it leaves the image."""
        if rng.random() < self.foreground and self._holders:
            which, centre = self._foreground(rng)
        else:
            which = int(rng.choice(len(self.prepared), p=self._weights))
            centre = [int(rng.integers(n)) for n in self.prepared[which].labels.shape]
        return self._cut(self.prepared[which], centre)

    def _foreground(self, rng: np.random.Generator) -> tuple[int, list[int]]:
        if self.balanced:
            organ = int(rng.choice(list(self._holders)))
            candidates, share = self._holders[organ]
            which = int(rng.choice(candidates, p=share))
        else:
            which = int(rng.choice(len(self.prepared), p=self._weights))
            if not self.prepared[which].locations:
                return which, [int(rng.integers(n)) for n in self.prepared[which].labels.shape]
            organ = int(rng.choice(list(self.prepared[which].locations)))
        voxels = self.prepared[which].locations[organ]
        return which, [int(v) for v in voxels[rng.integers(len(voxels))]]

    def _cut(self, source: Prepared, centre: list[int]) -> Patch:
        size = self.size if len(self.size) == 3 else (1, *self.size)
        inner: list[slice] = []
        outer: list[slice] = []
        for middle, length, whole in zip(centre, size, source.labels.shape, strict=True):
            # an image larger than the patch keeps the patch inside, a smaller one is centred
            start = middle - length // 2
            start = min(max(start, 0), whole - length) if whole >= length else (whole - length) // 2
            low, high = max(start, 0), min(start + length, whole)
            inner.append(slice(low, high))
            outer.append(slice(low - start, high - start))
        data = self._lift(source.data, inner, outer, size, 0)
        labels = np.full((1, *size), -1, np.int16)
        labels[0][tuple(outer)] = source.labels[tuple(inner)]
        classes = None
        if source.classes is not None:
            classes = self._lift(source.classes[None], inner, outer, size, BEYOND)
        if len(self.size) == 2:
            labels = labels[:, 0]
        return Patch(data, labels, source, classes)

    def _lift(
        self,
        whole: NDArray[Any],
        inner: list[slice],
        outer: list[slice],
        size: tuple[int, ...],
        beyond: int,
    ) -> NDArray[Any]:
        """The part ``inner`` of (c, z, y, x), at ``outer`` of a patch that is ``beyond`` elsewhere.

        A 2-D patch has the slice's neighbours as channels: (c·(2·context+1), y, x).
        """
        flat = len(self.size) == 2
        image = self._with_neighbours(whole, inner) if flat else whole[(slice(None), *inner)]
        out = np.full((image.shape[0], *size), beyond, whole.dtype)
        out[(slice(None), *outer)] = image
        return out[:, 0] if flat else out

    def _with_neighbours(self, whole: NDArray[Any], inner: list[slice]) -> NDArray[Any]:
        """One slice (c·(2·context+1), 1, y, x); the same order as ``preprocess.add_context``."""
        depth = whole.shape[1]
        around = np.arange(-self.context, self.context + 1) + inner[0].start
        return np.concatenate(
            [whole[:, z : z + 1, inner[1], inner[2]] for z in np.clip(around, 0, depth - 1)]
        )


def describe(examples: Sequence[Example]) -> list[dict[str, Any]]:
    """A JSON-able account of what a training saw. It goes into the bundle: no case is named.

    Examples that differ in their images alone are one row with their number.
    """
    counts = Counter((tuple(sorted(e.annotated)), e.weight, e.randomise) for e in examples)
    return [
        {"cases": n, "annotated": list(annotated), "weight": weight, "randomise": randomise}
        for (annotated, weight, randomise), n in sorted(counts.items())
    ]


__all__ = ["Example", "Patch", "PatchSampler", "Prepared", "Stored", "describe", "load_examples"]
