"""What a coarse look for the organs saves and changes (``predict.coarse``).

``python -m benchmarks.coarse IMAGE … --model MODEL``: CPU seconds of ``Model.predict``, windows
that the network ran, and how much the labels differ from those of the whole body; all in turns in
one process. ``--taller 2`` continues an image below by twice its height of body that holds no
organ, as in scans of the whole body.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from torch import Tensor

from benchmarks.predict import dices
from labelferry.anatomy.body import body_mask
from labelferry.io.nifti import read_image
from labelferry.predict.predictor import Model, load_model
from labelferry.volume import Grid, Volume, canonical


def taller(image: Volume, times: float) -> Volume:
    """An image with tissue of one kind below it, in the outline of its lowest plane."""
    image = canonical(image)
    array = image.array.astype(np.float32)
    body = body_mask(array, image.grid.spacing, "MR")
    count = round(times * array.shape[2])
    tissue, air = np.median(array[body]), np.median(array[~body])
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.05 * (tissue - air), (*array.shape[:2], count))
    below = np.where(body[:, :, :1], tissue, air) + noise
    affine = image.grid.affine.copy()
    affine[:3, 3] = image.grid.to_world(np.array([0.0, 0.0, -count]))
    whole = np.concatenate([np.maximum(below, 0), array], axis=2).astype(np.float32)
    return Volume(whole, Grid(whole.shape, affine))


class Counted:
    """An engine that counts its windows."""

    def __init__(self, model: Model) -> None:
        self.engine, self.name, self.windows = model.engine, model.engine.name, 0

    def __call__(self, windows: Tensor) -> Tensor:
        self.windows += len(windows)
        return self.engine(windows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", type=Path, nargs="+")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--coarse", type=float, action="append", help="1.4 where none is given")
    parser.add_argument("--margin", type=float, default=20.0, help="mm")
    parser.add_argument("--taller", type=float, default=0.0)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    model = load_model(given.model, device="cpu")
    model.engine = counted = Counted(model)
    base, zooms = model.config, [0.0, *(given.coarse or [1.4])]
    print(f"{counted.name}; CPU seconds, the median of {given.repeats}")
    for path in given.image:
        image = read_image(path).volume
        if given.taller:
            image = taller(image, given.taller)
        print(f"\n{path.name} {'x'.join(map(str, image.array.shape))}")
        taken = {zoom: [] for zoom in zooms}
        count, found = {}, {}
        for _ in range(given.repeats):
            for zoom in zooms:
                changed = {"coarse": zoom, "coarse_margin_mm": given.margin}
                model.config = base.model_copy(update=changed)
                counted.windows, start = 0, time.process_time()
                found[zoom] = model.predict(image).array
                taken[zoom].append(time.process_time() - start)
                count[zoom] = counted.windows
        first = statistics.median(taken[0.0])
        for zoom in zooms:
            seconds = statistics.median(taken[zoom])
            line = f"coarse {zoom:g}: {seconds:6.2f} s ({first / seconds:4.2f}x), windows "
            line += f"{count[zoom]} ({count[0.0] / count[zoom]:.2f}x)"
            if zoom:
                equal = 100 * np.mean(found[zoom] == found[0.0])
                shares = dices(found[zoom], found[0.0]) or [1.0]
                line += f", voxels equal {equal:.3f} %, DSC mean {statistics.mean(shares):.4f}"
                line += f" least {min(shares):.4f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
