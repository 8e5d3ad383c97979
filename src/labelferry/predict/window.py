"""A network over a whole volume, window by window, as nnU-Net lays and weighs them."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from labelferry.errors import UserError
from labelferry.predict.config import PredictConfig
from labelferry.translate.precision import autocast

Window = tuple[slice, slice, slice]
log = logging.getLogger(__name__)

_SLICES_PER_WINDOW = 8
_WEIGHT_AT_CENTRE = 10.0  # keeps the border's weights away from the smallest half-precision number
_SLOW_PLANE = 2560  # z·y voxels; see _least_batch


def sliding_window(
    data: Tensor,
    network: nn.Module,
    *,
    patch: Sequence[int],
    classes: int,
    config: PredictConfig,
    device: torch.device,
) -> Tensor:
    """Logits (classes, z, y, x) of ``data`` (c, z, y, x), float32 or as ``config.accumulate`` says.

    ``patch`` is (z, y, x) for a 3-D network, (y, x) for a 2-D one, which sees each slice for
    itself. A volume smaller than the patch is padded with zeros, and the result cropped back. The
    sum is held on ``device``, or on the CPU where it does not fit there. Raises ``UserError`` when
    a score is not finite.
    """
    padded, inside = _pad(data, patch)
    try:
        total = _accumulate(padded, network, patch, classes, config, device, device)
    except torch.cuda.OutOfMemoryError:
        log.warning("the scores do not fit the memory of %s; they are summed on the CPU", device)
        torch.cuda.empty_cache()
        total = _accumulate(padded, network, patch, classes, config, device, torch.device("cpu"))
    if not bool(torch.isfinite(total).all()):
        raise UserError(
            "the network's scores are not finite numbers",
            seen=f"amp = {config.amp}, accumulate = {config.accumulate}",
            fix="use predict.amp = 'fp32' and predict.accumulate = 'fp32'",
        )
    return total[(slice(None), *inside)]


def windows(shape: Sequence[int], patch: Sequence[int], step: float) -> list[Window]:
    """Where the windows lie in (z, y, x), as nnU-Net lays them; one slice thick for a 2-D patch."""
    from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window

    dimensions = len(patch)
    starts = compute_steps_for_sliding_window(
        tuple(shape[-dimensions:]), tuple(patch), tile_step_size=step
    )
    if dimensions == 2:
        starts = [list(range(shape[0])), *starts]
    sizes = (1, *patch)[-3:]
    return [
        (
            slice(z, z + sizes[0]),
            slice(y, y + sizes[1]),
            slice(x, x + sizes[2]),
        )
        for z, y, x in itertools.product(*starts)
    ]


def window_weight(patch: Sequence[int], gaussian: bool, least: float = 0.0) -> Tensor:
    """How much each voxel of a window counts: nnU-Net's Gaussian (sigma 1/8 patch), or ones.

    Float32, shaped as ``patch``; always positive, and nowhere below ``least``.
    """
    if not gaussian:
        return torch.ones(tuple(patch))
    from nnunetv2.inference.sliding_window_prediction import compute_gaussian

    weight = compute_gaussian(
        tuple(patch),
        sigma_scale=1 / 8,
        value_scaling_factor=_WEIGHT_AT_CENTRE,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    assert isinstance(weight, Tensor)
    return weight.clamp(min=least)


@torch.inference_mode()
def _accumulate(
    data: Tensor,
    network: nn.Module,
    patch: Sequence[int],
    classes: int,
    config: PredictConfig,
    device: torch.device,
    where: torch.device,
) -> Tensor:
    flat = len(patch) == 2
    dtype = torch.float16 if config.accumulate == "fp16" else torch.float32
    shape = data.shape[1:]
    # half precision would lose the corners' weights, and with them voxels that one window covers
    least = float(torch.finfo(dtype).tiny)
    weight = window_weight(patch, config.gaussian, least).to(where)
    total = torch.zeros((classes, *shape), dtype=dtype, device=where)
    weights = torch.zeros(shape, dtype=dtype, device=where)
    layout = windows(shape, patch, config.step)
    batch = config.batch * (_SLICES_PER_WINDOW if flat else 1)
    copies = _least_batch(patch, device)
    # fixed algorithms: the same image gives the same labels
    with (
        autocast(device, config.amp),
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True),
    ):
        for group in _groups(layout, batch):
            stack = torch.stack([data[(slice(None), *window)] for window in group])
            if len(group) < copies:
                stack = torch.cat([stack] * copies)
            logits = network((stack.squeeze(2) if flat else stack).to(device))
            for window, scores in zip(group, logits, strict=False):
                part = scores.float().to(where) * weight
                total[(slice(None), *window)] += part.unsqueeze(1) if flat else part
                weights[window] += weight
    return total.div_(weights)


def _groups(layout: Sequence[Window], batch: int) -> Iterator[Sequence[Window]]:
    """Windows in batches of ``batch``; a lone last one joins the batch before it."""
    start = 0
    while start < len(layout):
        stop = start + batch
        if batch > 1 and len(layout) - stop == 1:
            stop += 1
        yield layout[start:stop]
        start = stop


def _least_batch(patch: Sequence[int], device: torch.device) -> int:
    # torch takes a slow path for a single small 3-D window on a CPU, several times slower than the
    # usual one: there a window is cheaper in the company of its copy
    small = len(patch) == 3 and patch[0] * patch[1] <= _SLOW_PLANE
    return 2 if small and device.type == "cpu" else 1


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
