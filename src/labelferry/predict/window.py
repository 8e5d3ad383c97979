"""A network over a whole volume, window by window, as nnU-Net lays and weighs them.

Windows come from the lowest planes to the highest. A plane that no further window reaches is handed
on at once, so that the scores of all classes are held for a window's height and never for a volume.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from labelferry.errors import UserError
from labelferry.predict.config import PredictConfig
from labelferry.predict.sums import CERTAIN, Sums, Weighing

Window = tuple[slice, slice, slice]

_SLICES_PER_WINDOW = 8
_VOXELS_AT_ONCE = 2**20  # on a CPU more in one call are no faster and need memory


def scan(
    data: Tensor,
    engine: Callable[[Tensor], Tensor],
    *,
    patch: Sequence[int],
    classes: int,
    config: PredictConfig,
    device: torch.device,
    body: Tensor | None = None,
    weighing: Weighing | None = None,
) -> Iterator[Tensor]:
    """Logits (classes, n, y, x) of ``data`` (c, z, y, x), in slabs from first plane to last.

    A slab is overwritten when the next one is asked for. ``patch`` is (z, y, x) for a 3-D network,
    (y, x) for a 2-D one, which sees each slice for itself. A volume smaller than the patch is
    padded with zeros, and the result cropped back. Windows without any voxel of ``body`` (z, y, x)
    are left out: where no other window looks there is background; in the body nothing changes.
    Sums are held on ``device``, or on the CPU where they do not fit there; they are weighed as
    ``config`` says without ``weighing``. Raises ``UserError`` when a score is not finite.
    """
    padded, (planes, rows, columns) = _pad(data, patch)
    layout = windows(padded.shape[1:], patch, config.step)
    if body is not None:
        inside = _pad(body[None], patch)[0][0]
        layout = [window for window in layout if bool(inside[window].any())]
    groups = list(grouped(layout, windows_at_once(patch, config, device)))
    depth = max((group[-1][0].stop - group[0][0].start for group in groups), default=1)
    sums = Sums.on(device, classes, depth, padded.shape[2:], weighing or Weighing.of(patch, config))

    def finished(stop: int) -> Iterator[Tensor]:
        for start, scores in sums.release(stop):
            first, last = max(start, planes.start), min(start + scores.shape[1], planes.stop)
            if first < last:
                part = scores[:, first - start : last - start, rows, columns]
                _check_finite(part, config)
                yield part

    for group in groups:
        yield from finished(group[0][0].start)
        stack = torch.stack([padded[(slice(None), *window)] for window in group])
        with torch.inference_mode():
            logits = engine(stack.squeeze(2) if len(patch) == 2 else stack)
            for window, scores in zip(group, logits, strict=True):
                sums.add(window, scores if scores.ndim == 4 else scores.unsqueeze(1))
    yield from finished(padded.shape[1])


def join_slabs(slabs: Iterable[Tensor], planes: int) -> Tensor:
    """The volume (classes, planes, y, x) that slabs make up."""
    whole: Tensor | None = None
    start = 0
    for slab in slabs:
        if whole is None:
            whole = slab.new_empty((len(slab), planes, *slab.shape[2:]))
        whole[:, start : start + slab.shape[1]] = slab
        start += slab.shape[1]
    assert whole is not None and start == planes, "slabs that make up the volume"
    return whole


def place_slabs(
    slabs: Iterable[Tensor], box: Sequence[tuple[int, int]], shape: Sequence[int]
) -> Iterator[Tensor]:
    """Slabs of a part, (start, stop) on each axis, as slabs of the whole ``shape`` (z, y, x).

    Outside the part is background.
    """
    (first, last), rows, columns = box
    plane = tuple(shape[1:])
    below, above = first, shape[0] - last
    for slab in slabs:
        if below:
            yield background(len(slab), (below, *plane), slab)
            below = 0
        if tuple(slab.shape[2:]) == plane:
            yield slab
            continue
        whole = background(len(slab), (slab.shape[1], *plane), slab)
        whole[:, :, slice(*rows), slice(*columns)] = slab
        yield whole
    if above:
        yield background(len(slab), (above, *plane), slab)


def background(classes: int, shape: Sequence[int], like: Tensor | None = None) -> Tensor:
    """Scores (classes, z, y, x) that say background everywhere, of the kind of ``like``."""
    new = torch.empty(0) if like is None else like
    scores = new.new_full((classes, *shape), -CERTAIN)
    scores[0] = CERTAIN
    return scores


def windows(shape: Sequence[int], patch: Sequence[int], step: float) -> list[Window]:
    """Where the windows lie in (z, y, x), as nnU-Net lays them; one slice thick for a 2-D patch."""
    sizes = (1, *patch)[-3:]
    starts = [_starts(n, size, step) for n, size in zip(shape, sizes, strict=True)]
    if len(patch) == 2:
        starts[0] = list(range(shape[0]))
    return [
        (slice(z, z + sizes[0]), slice(y, y + sizes[1]), slice(x, x + sizes[2]))
        for z, y, x in itertools.product(*starts)
    ]


def _starts(size: int, window: int, step: float) -> list[int]:
    """First voxels of the windows along an axis: no further apart than ``step``, up to the end."""
    count = math.ceil((size - window) / (window * step)) + 1
    if count == 1:
        return [0]
    return [int(np.round((size - window) / (count - 1) * i)) for i in range(count)]


def windows_at_once(patch: Sequence[int], config: PredictConfig, device: torch.device) -> int:
    """How many windows one call of the network gets."""
    batch = config.batch * (_SLICES_PER_WINDOW if len(patch) == 2 else 1)
    if device.type != "cpu":
        return batch
    return max(1, min(batch, _VOXELS_AT_ONCE // math.prod(patch)))


def grouped(layout: Sequence[Window], batch: int) -> Iterator[Sequence[Window]]:
    """Windows in batches of ``batch``; a lone last one joins the batch before it."""
    start = 0
    while start < len(layout):
        stop = start + batch
        if batch > 1 and len(layout) - stop == 1:
            stop += 1
        yield layout[start:stop]
        start = stop


def _check_finite(scores: Tensor, config: PredictConfig) -> None:
    low, high = scores.aminmax()
    if not math.isfinite(float(low)) or not math.isfinite(float(high)):
        raise UserError(
            "the network's scores are not finite numbers",
            seen=f"amp = {config.amp}, accumulate = {config.accumulate}",
            fix="use predict.amp = 'fp32' and predict.accumulate = 'fp32'",
        )


def _pad(data: Tensor, patch: Sequence[int]) -> tuple[Tensor, Window]:
    """Zeros round ``data`` (c, z, y, x) up to the patch, and where the data lies in the result."""
    sizes = (1, *patch)[-3:]
    before, after = [], []
    for size, wanted in zip(data.shape[1:], sizes, strict=True):
        lack = max(0, wanted - size)
        before.append(lack // 2)
        after.append(lack - lack // 2)
    z, y, x = (slice(b, b + n) for b, n in zip(before, data.shape[1:], strict=True))
    if not any(after):
        return data, (z, y, x)
    amounts = [n for pair in zip(before[::-1], after[::-1], strict=True) for n in pair]
    return functional.pad(data, amounts), (z, y, x)
