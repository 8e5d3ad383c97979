"""A part of an array on another grid over the same extent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from labelferry.predict.stream import Taps


def sampled(
    array: NDArray[np.float32], shape: Sequence[int], box: Sequence[slice]
) -> NDArray[np.float32]:
    """``array``, linearly, at the voxel centres in ``box`` of a grid of ``shape`` on its extent."""
    out = torch.from_numpy(np.ascontiguousarray(array, np.float32))
    for axis, (old, new, part) in enumerate(zip(array.shape, shape, box, strict=True)):
        taps = Taps.linear(old, new)
        if taps.is_nearest:  # the same voxels
            out = out.narrow(axis, part.start, part.stop - part.start)
            continue
        share = taps.share[part].view([-1 if a == axis else 1 for a in range(3)])
        lower, upper = (out.index_select(axis, index[part]) for index in (taps.lower, taps.upper))
        out = torch.lerp(lower, upper, share)
    return out.numpy()
