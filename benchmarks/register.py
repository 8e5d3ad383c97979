"""How exactly a known affine is found between two sequences of one phantom patient.

``python -m benchmarks.register``: each patient is turned by up to 20 degrees about every axis,
stretched by up to 15 % along every axis and moved by up to 40 mm along every axis, and the moving
scan lacks up to ``--cut`` mm at its top and at its end. The error of a registration is the mean
distance between where the true and the found affine send the points of the organs' surfaces.
``--set search_deg=0`` changes the settings, as ``--set match.search_deg=0`` does in a run.
"""

from __future__ import annotations

import argparse
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from labelferry.anatomy.config import AnatomyConfig
from labelferry.anatomy.prepare import Prepared, prepare, prepare_labels
from labelferry.match.affine import moved
from labelferry.match.bodies import align_bodies
from labelferry.match.config import MatchConfig
from labelferry.match.registration import register
from labelferry.match.search import turn
from labelferry.phantom.anatomy import draw_subject
from labelferry.phantom.frame import PhantomGrid
from labelferry.phantom.render import render_mr
from labelferry.volume import Box, Grid, Segmentation, Volume, crop, resample, resample_labels

PAIRS = (("T1", "T2"), ("T1", "DWI"))
FAILED_MM = 5.0
_SLICE_MM = 5.0

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scene:
    """One patient seen twice."""

    fixed: Prepared
    moving: Prepared
    true: Matrix
    """Fixed world → moving world."""
    surface: NDArray[np.float64]
    """Points (n, 3) of the organs' surfaces, fixed world, mm."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=50, help="poses of each pair of sequences")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--degrees", type=float, default=20.0)
    parser.add_argument("--scale", type=float, default=0.15)
    parser.add_argument("--shift", type=float, default=40.0, help="mm")
    parser.add_argument("--cut", type=float, default=0.0, help="mm")
    parser.add_argument("--pair", action="append", help="moving-fixed, as T1-T2")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    config = MatchConfig(**tomllib.loads("\n".join(given.set)))
    pairs = [tuple(pair.split("-")) for pair in given.pair] if given.pair else PAIRS
    print(
        f"{'pair':<8} {'n':>3} {'start':>6} {'median':>6} {'95 %':>6} {'worst':>6} "
        f"{'failed':>6} {'unseen':>6} {'doubted':>7} {'worse':>5} {'CPU s':>6}"
    )
    for pair in pairs:
        rows = []
        for number in range(given.count):
            scene = draw_scene(
                (given.seed, number), pair, given.degrees, given.scale, given.shift, given.cut
            )
            rows.append(_register(scene, config))
        _tell("-".join(pair), rows)


def draw_scene(
    seed: tuple[int, ...],
    pair: Sequence[Any],
    degrees: float,
    scale: float,
    shift: float,
    cut: float,
) -> Scene:
    """A patient under two sequences; the second is seen in a random pose."""
    rng = np.random.default_rng(seed)
    subject = draw_subject(rng, PhantomGrid())
    # without distortion, so that an affine can be the truth
    first, second = (render_mr(rng, subject, name, distorted=False) for name in pair)
    grid = subject.grid
    true = turn(rng.uniform(-degrees, degrees, 3), grid.to_world((np.array(grid.shape) - 1) / 2))
    true = true @ _about(grid, np.diag(rng.uniform(1 - scale, 1 + scale, 3)))
    true[:3, 3] += rng.uniform(-shift, shift, 3)
    low, high = (int(n) for n in rng.uniform(0, cut / _SLICE_MM, 2))
    kept = Box((0, 0, low), (*grid.shape[:2], grid.shape[2] - high))
    moving = prepare(crop(first.image, kept), "MR", AnatomyConfig())
    seen = _seen(grid, true)
    image = resample(moved(second.image, true), seen, order="cubic", fill=0.0)
    fixed = prepare(image.with_array(np.maximum(image.array, 0)), "MR", AnatomyConfig())
    labels = prepare_labels(resample_labels(moved(second.labels, true), seen), fixed)
    return Scene(fixed, moving, true, surface_points(labels))


def surface_points(labels: Segmentation) -> NDArray[np.float64]:
    """World places (n, 3) of the voxels at the surface of each organ."""
    found = []
    for organ in sorted(labels.held):
        mask = np.pad(labels.array == organ, 1)
        found.append(np.argwhere(mask & ~ndimage.binary_erosion(mask)) - 1)
    return labels.grid.to_world(np.concatenate(found).astype(float))


def error_mm(found: Matrix, scene: Scene) -> float:
    """Mean distance over the organs' surfaces between the found and the true place."""
    gap = (found - scene.true)[:3]
    return float(np.linalg.norm(scene.surface @ gap[:, :3].T + gap[:, 3], axis=1).mean())


def _about(grid: Grid, linear: NDArray[np.float64]) -> Matrix:
    centre = grid.to_world((np.array(grid.shape) - 1) / 2)
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = centre - linear @ centre
    return matrix


def _seen(grid: Grid, true: Matrix) -> Grid:
    """An upright grid round everything that the turned patient shows."""
    back = np.linalg.inv(true)
    corners = np.array([[i * (n - 1) for i, n in zip(b, grid.shape, strict=True)]
                        for b in np.ndindex(2, 2, 2)], float)  # fmt: skip
    world = grid.to_world(corners) @ back[:3, :3].T + back[:3, 3]
    low, high = world.min(axis=0), world.max(axis=0)
    affine = np.diag([*grid.spacing, 1.0])
    affine[:3, 3] = low
    shape = np.ceil((high - low) / grid.spacing).astype(int) + 1
    return Grid(tuple(int(n) for n in shape), affine)


def _register(scene: Scene, config: MatchConfig) -> tuple[float, float, float, bool]:
    """Error of the start, of the answer, CPU seconds, and whether the method trusts the answer."""
    fixed, moving = scene.fixed, scene.moving
    images: list[Volume] = [
        side.anatomy if config.space == "anatomy" else side.image for side in (fixed, moving)
    ]
    started = time.process_time()
    found = register(images[0], images[1], fixed.body, moving.body, config)
    seconds = time.process_time() - started
    start = error_mm(align_bodies(fixed.body, moving.body), scene)
    return start, error_mm(found.matrix, scene), seconds, found.ok


def _tell(name: str, rows: Sequence[tuple[float, float, float, bool]]) -> None:
    start, error, seconds, ok = (np.array(column) for column in zip(*rows, strict=True))
    failed = error > FAILED_MM
    print(
        f"{name:<8} {len(rows):3} {np.median(start):6.1f} {np.median(error):6.2f} "
        f"{np.percentile(error, 95):6.2f} {error.max():6.2f} {failed.sum():6} "
        f"{(failed & ok).sum():6} {(~ok).sum():7} {(error > start + 0.1).sum():5} "
        f"{seconds.mean():6.2f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
