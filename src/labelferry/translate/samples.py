"""Pictures of the same six slices while the translators learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from labelferry.files import atomic_path
from labelferry.translate.config import TranslateConfig
from labelferry.translate.networks import Generator
from labelferry.translate.precision import autocast
from labelferry.translate.slices import Slices, pad_to
from labelferry.translate.state import State

COUNT = 6
"""Slices in a picture."""
_GAP = 2


def write_samples(
    folder: Path,
    state: State,
    sides: tuple[Slices, Slices],
    size: tuple[int, int],
    config: TranslateConfig,
    done: int,
) -> Path:
    """Write ``step_000250.png`` after 250 steps: from the left six source slices, evenly spread
    over the cases; from the top the source, T_t of it, T_s of that; then six target slices and T_s
    of them.

    ``size`` is that of the training slices, (y, x). Nothing is drawn at random and nothing of
    ``state`` changes: weights are the same with and without pictures.
    """
    source, target = (torch.from_numpy(_chosen(side, size))[:, None] * 2 - 1 for side in sides)
    device = next(state.to_target.parameters()).device
    to_target = state.average or state.to_target
    fake = _through(to_target, source.to(device), config)
    back = _through(state.to_source, fake, config)
    rows = [source, fake, back, target, _through(state.to_source, target.to(device), config)]
    unit = torch.stack([row.float().cpu() for row in rows]).clamp(-1, 1)[:, :, 0]
    grey = ((unit + 1) * 127.5).round().to(torch.uint8).numpy()
    path = folder / f"step_{done:06d}.png"
    with atomic_path(path) as part:
        Image.fromarray(_sheet(grey)).save(part, format="PNG")
    return path


def _through(network: Generator, slices: Tensor, config: TranslateConfig) -> Tensor:
    with torch.no_grad(), autocast(slices.device, config.amp):
        # one by one: what a slice becomes does not depend on the others, and memory stays flat
        return torch.cat([network(one[None]).float() for one in slices])


def _chosen(side: Slices, size: tuple[int, int]) -> NDArray[np.float32]:
    """Six slices, cropped round their middle or padded to ``size``."""
    out = []
    for place in range(COUNT):
        case = place * len(side.cases) // COUNT
        number = (2 * place + 1) * len(side.cases[case]) // (2 * COUNT)
        image = side.slice(case, number).astype(np.float32)
        top, left = (max(0, have - want) // 2 for have, want in zip(image.shape, size, strict=True))
        out.append(pad_to(image[top : top + size[0], left : left + size[1]], size))
    return np.stack(out)


def _sheet(slices: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(rows, columns, y, x) to one image, patients' front up."""
    rows, columns, height, width = slices.shape
    shape = (rows * (height + _GAP) - _GAP, columns * (width + _GAP) - _GAP)
    sheet = np.full(shape, 255, np.uint8)
    for r in range(rows):
        for c in range(columns):
            top, left = r * (height + _GAP), c * (width + _GAP)
            # y grows to the front and x to the patient's right: seen from the feet, front up
            sheet[top : top + height, left : left + width] = slices[r, c, ::-1, ::-1]
    return sheet
