"""Pictures whose anatomy contradicts their header: labelled the way round that their organs say."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from labelferry.predict.quality import ODD_Z, CaseQuality, assess
from labelferry.prior.reflection import EVERY_FLIP, UNTURNED, Flips
from labelferry.volume import Segmentation, Volume, canonical, reorient

if TYPE_CHECKING:
    from labelferry.predict.foreign import Labeller

V = TypeVar("V", bound=Volume)
_GOOD, _BETTER = 2.0, 1.0
"""Where organs do not say how they lie: the mean z that a reversed picture must come to, and by how
much it must be lower than before."""


def flipped(volume: V, flips: Flips) -> V:
    """The voxels in reverse order along some of the axes R, A, S, on the same grid.

    A picture that is reversed against its header comes right, and its labels go back the same way:
    done twice, nothing has changed. The axes are those nearest to R, A and S.
    """
    whole = canonical(volume)
    axes = tuple(axis for axis, is_reversed in enumerate(flips) if is_reversed)
    array = np.ascontiguousarray(np.flip(whole.array, axes))
    return reorient(whole.with_array(array), volume.grid)


def label(
    model: Labeller, image: Volume, case: str, *, fix: bool = False
) -> tuple[Segmentation, CaseQuality]:
    """Labels on the image's own grid, and how far to trust them.

    With ``fix``, a picture whose organs contradict its header is labelled again with its axes
    reversed as they say; where they are implausible without saying why, with each of the seven
    reversals. The new labels are taken only where they contradict nothing and, with a prior, are
    more plausible. They lie on the voxels of the file, whose header stands as it is.
    """
    found = model.prediction(image, case=case)
    quality = assess(case, found.labels, model.organs, model.prior, found.entropy)
    if not fix:
        return found.labels, quality
    labels, limit = found.labels, _mean_z(quality)
    if not any(quality.flips):
        limit = min(_GOOD, limit - _BETTER)
    for flips in _candidates(quality):
        found = model.prediction(flipped(image, flips), case=case)
        judged = assess(case, found.labels, model.organs, model.prior, found.entropy, fixed=flips)
        if judged.found and not judged.turned and _mean_z(judged) <= limit:
            labels, quality, limit = flipped(found.labels, flips), judged, _mean_z(judged)
    return labels, quality


def _candidates(quality: CaseQuality) -> tuple[Flips, ...]:
    if any(quality.flips):
        return (quality.flips,)
    implausible = quality.z is not None and quality.z > ODD_Z
    return tuple(flips for flips in EVERY_FLIP if flips != UNTURNED) if implausible else ()


def _mean_z(quality: CaseQuality) -> float:
    return np.inf if quality.z is None else quality.z
