"""An organ ends where its image has an edge: borders redrawn by a random walker (ours).

A network knows where an organ is better than where it ends: its borders lie a voxel or two off, the
more so the coarser its voxels are and the fewer its steps. What lies deep in a label and what lies
well outside it is believed; each voxel between goes to whichever of both a walker reaches first
that shuns steps across edges (Grady 2006, in scikit-image).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from labelferry.anatomy.prepare import Prepared
from labelferry.predict.export import nearest_labels
from labelferry.predict.sampling import sampled
from labelferry.volume import Volume, resample, smoothed

LARGEST = 2**23
"""Voxels of the box of an organ whose borders are drawn: bounds memory."""
WIDEST = 2**19
"""Voxels within reach of its border: bounds time. The largest liver of our real scans has a sixth
of it, an organ that a network scatters all over a picture more.
"""

Part = tuple[slice, ...]
Mask = NDArray[np.bool_]

_SHARP_MM = 2.0
"""Voxels as small as that show borders; smaller ones show noise."""
_NOISE_MM = 1.0
_FAR = 5.0
"""So many times as bright as an organ, or as dark: more is no further."""
_BETA = 1000.0
"""How much an edge is shunned. Neither this nor the others is sharp (docs/reference/predict.md)."""
_LIKELY = 0.35
"""What is likelier than this to belong to an organ does. A walker leaves an organ too soon: inside
there is texture, outside often nothing but dark."""
_TOLERANCE = 1e-3


def sharp_image(prepared: Prepared) -> Volume:
    """The prepared image on its own voxels or such of 2 mm, where the working ones are larger."""
    scaled, work = prepared.scaled, prepared.image.grid.spacing
    if scaled is None:
        return prepared.image
    spacing = sharp_spacing(scaled.grid.spacing, work)
    if spacing == work:
        return prepared.image
    image = resample(scaled, scaled.grid.resampled(spacing))
    return image.with_array(np.clip(image.array, 0, 1))


def sharp_spacing(own: Sequence[float], work: Sequence[float]) -> tuple[float, ...]:
    """The voxels of :func:`sharp_image`, mm, for an image of ``own``; any order of axes."""
    return tuple(min(max(a, _SHARP_MM), b) for a, b in zip(own, work, strict=True))


def redraw_borders(labels: NDArray[np.uint8], image: Volume, reach_mm: float) -> NDArray[np.uint8]:
    """``labels`` (x, y, z) with borders moved to edges of the image, by ``reach_mm`` at most.

    ``image``: the prepared image in [0, 1], over the same extent with voxels of any size; the
    borders are found on its grid. The core of an organ, what is deeper in it than ``reach_mm`` or
    than half of its greatest depth, remains its own. An organ that fills the picture, has the same
    signal as all round it or takes up more than ``LARGEST`` voxels, or ``WIDEST`` round its border,
    stays as it is.
    """
    shape, spacing = image.array.shape, image.grid.spacing
    seen = labels
    if labels.shape != shape:
        seen = nearest_labels(torch.from_numpy(labels), shape).numpy()
    boxes = {
        organ: _wider(box, reach_mm, spacing, shape)
        for organ, box in enumerate(ndimage.find_objects(seen), start=1)
        if box is not None
    }
    cores = np.zeros_like(seen)
    for organ, box in boxes.items():
        cores[box][_core(seen[box] == organ, reach_mm, spacing)] = organ
    signal = smoothed(image.array, _NOISE_MM, image.grid)
    out = np.zeros_like(labels)
    best = np.full(labels.shape, int(255 * _LIKELY), np.uint8)
    drawn = [0]
    for organ, box in boxes.items():
        if seen[box].size > LARGEST:
            continue
        outside = _depth(seen[box] != organ, spacing) > reach_mm
        outside |= (cores[box] != organ) & (cores[box] > 0)
        share = _walk(cores[box] == organ, outside, signal[box], spacing)
        if share is None:
            continue
        place, part = _in_labels(share, box, shape, labels.shape)
        won = part > best[place]
        out[place][won] = organ
        best[place][won] = part[won]
        drawn.append(organ)
    stays = (out == 0) & ~np.isin(labels, drawn)
    out[stays] = labels[stays]
    return out


def _core(own: Mask, reach: float, spacing: Sequence[float]) -> Mask:
    if own.all():
        return own
    depth = _depth(own, spacing)
    return np.asarray(depth > min(reach, depth.max() / 2), np.bool_)


def _walk(
    core: Mask, outside: Mask, signal: NDArray[np.float32], spacing: Sequence[float]
) -> NDArray[np.float32] | None:
    """How likely a walker from each voxel first meets the core; None where nothing decides that, or
    too many voxels lie between.
    """
    from skimage.segmentation import random_walker

    between = np.count_nonzero(~(core | outside))
    if not outside.any() or not 0 < between <= WIDEST:
        return None
    usual = max(float(np.median(signal[core])), 1e-3)
    data = np.log(np.clip(signal / np.float32(usual), 1 / _FAR, _FAR))
    if data.min() == data.max():
        return None
    seeds = np.where(core, 1, np.where(outside, 2, 0))
    seeds[~ndimage.binary_dilation(seeds == 0)] = -1  # no walker gets there
    met = random_walker(
        data,
        seeds,
        beta=_BETA,
        mode="cg_j",
        tol=_TOLERANCE,
        spacing=np.array(spacing) / min(spacing),
        return_full_prob=True,
        prob_tol=np.inf,  # what rounding makes of it is cut off below
    )
    share = np.asarray(np.clip(met[0], 0, 1), np.float32)
    share[core] = 1
    # each part where it is likely holds some of the core; a voxel of noise that all edges cut off
    # has no chance that could be told
    parts, _ = ndimage.label(share > _LIKELY)
    share[~np.isin(parts, parts[core])] = 0
    return share


def _depth(mask: Mask, spacing: Sequence[float]) -> NDArray[np.float64]:
    """How far it is to what is not in the mask, in mm; the picture's own edge is no border."""
    return np.asarray(ndimage.distance_transform_edt(mask, sampling=spacing))


def _wider(box: Part, mm: float, spacing: Sequence[float], shape: Sequence[int]) -> Part:
    """``box`` with room for what lies further than ``mm`` outside."""
    parts = []
    for part, step, size in zip(box, spacing, shape, strict=True):
        more = int(mm / step) + 2
        parts.append(slice(max(0, part.start - more), min(size, part.stop + more)))
    return tuple(parts)


def _in_labels(
    share: NDArray[np.float32], box: Part, shape: Sequence[int], new: Sequence[int]
) -> tuple[Part, NDArray[np.uint8]]:
    """``share``, of 255, on the grid of the labels, and its place there."""
    if tuple(shape) != tuple(new):
        whole = np.zeros(shape, np.float32)
        whole[box] = share
        parts = zip(box, shape, new, strict=True)
        box = tuple(slice(p.start * b // a, -(-p.stop * b // a)) for p, a, b in parts)
        share = sampled(whole, new, box)
    return box, np.rint(255 * share).astype(np.uint8)
