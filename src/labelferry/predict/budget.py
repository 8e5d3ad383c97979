"""How much memory a case will need at most, told from its grid before it is read.

What an image needs is counted in bytes a voxel at the moments that hold most: reading, preparing,
the network with its sums, and measuring and writing the labels. The factors are measured; they err
towards too much.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from labelferry.errors import UserError
from labelferry.predict.borders import LARGEST, sharp_spacing
from labelferry.predict.config import PredictConfig
from labelferry.predict.engines import copies
from labelferry.predict.stream import CHUNK_VOXELS
from labelferry.predict.window import grouped, windows, windows_at_once
from labelferry.volume import Grid, canonical_grid

log = logging.getLogger(__name__)

GB = 2**30

_READ = 21
"""Bytes a voxel of the file while it is read: in double precision where scaled, and its copies."""
_HELD = 8
"""While it is labelled: as it was read, and as the model takes it."""
_SCALED = 4
"""The same where borders are drawn: as it was scaled."""
_PREPARE = 36
"""While it is cropped, scaled and resampled, beside what is held."""
_WORK = 16
"""A voxel of the network's grid, for each channel of its input."""
_LABELS = 12
"""A voxel of the file once there are labels: on its grid, measured, packed."""
_WALK = 256
"""A voxel of the box of an organ while its borders are drawn."""
_SHARP = 24
"""A voxel of the image on which borders are drawn: resampled in double precision, smoothed."""
_MAPS = 8
"""Feature maps of the finest level that a network holds at once, in single precision."""
_EXPORT = 24
"""A voxel of the planes that are exported at once."""
_FIXED = 96 * 2**20
"""What is loaded on first use, and what the allocator keeps."""


@dataclass(frozen=True)
class Footprint:
    """What of a model decides how much memory a case needs."""

    classes: int
    channels: int
    """Of the network's input."""
    features: int
    """Of its finest level."""
    patch: tuple[int, ...]
    """(z, y, x), or (y, x)."""
    spacing: tuple[float, ...]
    """Of its grid in mm, (z, y, x); with two numbers z stays that of the image."""
    device: torch.device
    half_sums: bool = False
    """Whether its sums are of half precision, whatever the configuration says."""
    folds: int = 1


@dataclass(frozen=True)
class Budget:
    """What a loaded model may use."""

    config: PredictConfig
    model: Footprint
    loaded: int
    """Bytes of the process with the model in it; 0 where there is no limit."""

    @classmethod
    def of(cls, config: PredictConfig, model: Footprint) -> Budget:
        """The budget of a model that has just been loaded."""
        if config.max_ram_gb is None:
            return cls(config, model, 0)
        import psutil

        return cls(config, model, psutil.Process().memory_info().rss)

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit."""
        return self.config.max_ram_gb is not None

    def within(self, grid: Grid, case: str | None = None) -> PredictConfig:
        """How an image on ``grid`` is to be labelled: as configured, or in a leaner way.

        The leaner ways are one window at a time, then sums of half precision. Raises ``UserError``
        where none keeps to ``max_ram_gb``.
        """
        limit = self.config.max_ram_gb
        if limit is None:
            return self.config
        needed = math.inf
        for way in _ways(self.config):
            needed = (self.loaded + case_bytes(grid, self.model, way)) / GB
            if needed <= limit:
                if way is not self.config:
                    log.info("%s: batch %d, %s sums", case, way.batch, way.accumulate)
                return way
        raise UserError(
            "this image needs more memory than --max-ram allows",
            case=case,
            seen=f"about {needed:.1f} GB for {' x '.join(map(str, grid.shape))} voxels, "
            f"{self.loaded / GB:.1f} GB of it for the loaded model",
            allowed=f"{limit:g} GB",
            fix="allow more, or crop the image",
        )


def case_bytes(grid: Grid, model: Footprint, config: PredictConfig) -> int:
    """Bytes that labelling an image on ``grid`` takes at most beside the loaded model.

    Of the machine's memory: with a GPU the network and its sums are not counted.
    """
    voxels = math.prod(grid.shape)
    seen = canonical_grid(grid)
    shape, spacing = seen.shape[::-1], seen.spacing[::-1]
    new = (*spacing[: 3 - len(model.spacing)], *model.spacing)
    sizes = (1, *model.patch)[-3:]
    work = [
        max(patch, round(n * old / mm))
        for n, old, mm, patch in zip(shape, spacing, new, sizes, strict=True)
    ]
    plane = max(work[1] * work[2], shape[1] * shape[2])
    network = 0 if model.device.type == "cuda" else _network_bytes(work, model, config)
    export = _EXPORT * max(CHUNK_VOXELS, plane) + 12 * model.classes * plane
    held = _HELD + (_SCALED if config.borders_mm else 0)
    scan = (held + 2) * voxels + _WORK * model.channels * math.prod(work) + network + export
    image = max(_READ, held + _PREPARE, held + _LABELS) * voxels
    walk = 0
    if config.borders_mm:
        sharp = sharp_spacing(spacing, new)
        count = math.prod(n * old / mm for n, old, mm in zip(shape, spacing, sharp, strict=True))
        walk = int((held + _LABELS) * voxels + _SHARP * count + _WALK * min(count, LARGEST))
    return int(_FIXED + max(image, scan, walk))


def _network_bytes(work: Sequence[int], model: Footprint, config: PredictConfig) -> int:
    """The windows of a call, what the network holds for them, and the sums."""
    at_once = windows_at_once(model.patch, config, model.device)
    groups = list(grouped(windows(work, model.patch, config.step), at_once))
    count = max(len(group) for group in groups)
    depth = max(group[-1][0].stop - group[0][0].start for group in groups)
    number = 2 if model.half_sums or config.accumulate == "fp16" else 4
    sums = model.folds * number * (model.classes + 1) * depth * work[1] * work[2]
    kept = 2 * number * model.classes * work[1] * work[2]
    count *= copies(count, model.patch, model.device)
    maps = _MAPS * model.features + model.channels + model.classes
    return int(sums + kept + 4 * maps * math.prod(model.patch) * count)


def _ways(config: PredictConfig) -> Iterator[PredictConfig]:
    """As asked for, then ever leaner."""
    yield config
    yield config.model_copy(update={"batch": 1})
    yield config.model_copy(update={"batch": 1, "accumulate": "fp16"})
