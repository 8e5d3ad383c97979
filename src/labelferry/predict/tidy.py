"""What holds of an organ whatever the network says: one piece, of one signal, that ends at edges.

All ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from labelferry.organs import OrganSet
from labelferry.predict.borders import redraw_borders
from labelferry.predict.config import PredictConfig
from labelferry.predict.sampling import sampled
from labelferry.volume import Volume, smoothed

Mask = NDArray[np.bool_]
Rule = Callable[[Mask, NDArray[np.float32], Sequence[float]], Mask]
"""What is kept of an organ: its mask, the smoothed image and the spacing in mm, within its box."""

_NOISE_MM = 2.0
"""Noise and small vessels below this size darken no organ."""
_OTHER_SIGNAL = 1.25
"""Two parts of one organ have medians no further apart than by this factor: coils fall off."""


def tidy(
    labels: NDArray[np.uint8],
    image: Volume,
    organs: OrganSet,
    config: PredictConfig,
    sharp: Volume | None = None,
) -> NDArray[np.uint8]:
    """``labels`` (x, y, z) without what ``config`` says that no organ is, and with its borders.

    ``image``: the prepared image in [0, 1], over the same extent with voxels of any size;
    ``sharp``: the same on smaller ones, where there is one.
    """
    rules: list[Rule] = []
    if config.solid_signal:
        rules.append(partial(_bright, share=config.solid_signal))
    if config.neck:
        rules.append(partial(_body, share=config.neck))
    if rules:
        labels = _of_solid(labels, image, organs, rules)
    if config.largest_component:
        labels = keep_largest(labels)
    if config.borders_mm:
        labels = redraw_borders(labels, sharp or image, config.borders_mm)
    return labels


def drop_dark(
    labels: NDArray[np.uint8], image: Volume, organs: OrganSet, share: float
) -> NDArray[np.uint8]:
    """Without what is darker than ``share`` of the median of a solid organ that it is labelled as.

    Trained on any contrast, a network knows an organ by its shape and neighbours, and draws it on
    into lung, fat without signal or gas. Holes of an axial slice stay: cysts, vessels, the pelvis.
    """
    return _of_solid(labels, image, organs, [partial(_bright, share=share)])


def cut_necks(
    labels: NDArray[np.uint8], image: Volume, organs: OrganSet, share: float
) -> NDArray[np.uint8]:
    """Without parts that hang on a solid organ by a neck, and have not its signal.

    A neck is thinner than ``share`` of the organ at its thickest. A network draws the liver on into
    bowel that touches it. A part of the organ's own signal stays: a lobe, a lip of the hilum.
    """
    return _of_solid(labels, image, organs, [partial(_body, share=share)])


def _of_solid(
    labels: NDArray[np.uint8], image: Volume, organs: OrganSet, rules: Sequence[Rule]
) -> NDArray[np.uint8]:
    """``labels`` with what the rules, one after the other, keep of each solid organ."""
    boxes = ndimage.find_objects(labels, max_label=len(organs))
    found = [(o.id, box) for o, box in zip(organs, boxes, strict=True) if o.solid and box]
    if not found:
        return labels
    smooth = smoothed(image.array, _NOISE_MM, image.grid)
    parts = zip(image.grid.spacing, image.grid.shape, labels.shape, strict=True)
    spacing = [mm * old / new for mm, old, new in parts]
    out = labels.copy()
    for organ, box in found:
        own = kept = labels[box] == organ
        seen = sampled(smooth, labels.shape, box)
        for rule in rules:
            kept = kept & rule(kept, seen, spacing)
        out[box][own & ~kept] = 0
    return out


def _bright(
    own: Mask, seen: NDArray[np.float32], spacing: Sequence[float], *, share: float
) -> Mask:
    bright = own & (seen >= share * np.median(seen[own]))
    for z in range(bright.shape[2]):
        bright[:, :, z] = ndimage.binary_fill_holes(bright[:, :, z])
    return bright


def _body(own: Mask, seen: NDArray[np.float32], spacing: Sequence[float], *, share: float) -> Mask:
    padded = np.pad(own, 1)
    depth = ndimage.distance_transform_edt(padded, sampling=spacing)
    core = depth > share * depth.max()
    cores, count = ndimage.label(core)
    if count < 2:
        return own
    nearest = ndimage.distance_transform_edt(
        ~core, sampling=spacing, return_distances=False, return_indices=True
    )
    part = cores[tuple(nearest)][1:-1, 1:-1, 1:-1]
    main = int(np.bincount(cores.ravel())[1:].argmax())
    parts, signal = part[own], seen[own]
    medians = np.array([np.median(signal[parts == k]) for k in range(1, count + 1)])
    own_signal = medians[main]
    alike = (medians <= own_signal * _OTHER_SIGNAL) & (medians * _OTHER_SIGNAL >= own_signal)
    return np.asarray(own & np.concatenate([[False], alike])[part], np.bool_)


def keep_largest(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Only the largest connected part (faces touch) of each organ; any axes."""
    out = np.zeros_like(labels)
    for organ, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        parts, count = ndimage.label(labels[box] == organ)
        sizes = np.bincount(parts.ravel(), minlength=count + 1)
        sizes[0] = 0
        out[box][parts == sizes.argmax()] = organ
    return out
