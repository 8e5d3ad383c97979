"""Affine registration of two images: eq. 6 with R = 0."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from scipy import ndimage

from labelferry.match.affine import Affine, is_sane
from labelferry.match.bodies import align_bodies, body_index, overlap
from labelferry.match.config import MatchConfig
from labelferry.volume import Grid, Volume

log = logging.getLogger(__name__)

_HISTOGRAM_BINS = 32
_STEP_MM = 2.0
_MASK_MARGIN_VOXELS = 2
_LEAST_VOXELS = 6
_LEAST_OVERLAP = 0.5
_WORST = math.inf

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Pair:
    """Two images in ITK's hands. ITK sees each image in its own scaled index space (voxel index ×
    spacing, no origin, no direction), so that oblique and sheared grids need no special case."""

    fixed: sitk.Image
    moving: sitk.Image
    mask: sitk.Image
    fixed_frame: Matrix
    """Scaled index of the fixed image → its world."""
    moving_frame: Matrix
    centre: NDArray[np.float64]
    """Centre of rotation in the fixed image's scaled index space."""
    spread: NDArray[np.float64]
    """Mean square distance of the body from the centre along each axis, mm²."""

    def to_itk(self, matrix: Matrix) -> sitk.AffineTransform:
        """A world affine as ITK's transform between the two scaled index spaces."""
        inner = np.linalg.inv(self.moving_frame) @ matrix @ self.fixed_frame
        linear, offset = inner[:3, :3], inner[:3, 3]
        transform = sitk.AffineTransform(3)
        transform.SetCenter(self.centre.tolist())
        transform.SetMatrix(linear.ravel().tolist())
        transform.SetTranslation((offset + linear @ self.centre - self.centre).tolist())
        return transform

    def to_world(self, transform: sitk.AffineTransform) -> Matrix:
        """The inverse of :meth:`to_itk`."""
        inner = np.eye(4)
        inner[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
        shift = np.array(transform.GetTranslation())
        inner[:3, 3] = shift + self.centre - inner[:3, :3] @ self.centre
        return np.asarray(self.moving_frame @ inner @ np.linalg.inv(self.fixed_frame))


def register(
    fixed: Volume, moving: Volume, fixed_body: Volume, moving_body: Volume, config: MatchConfig
) -> Affine:
    """Find the affine that lays ``moving`` (q_S) on ``fixed`` (q_T), from the bodies' alignment.

    Image and body of a side share a grid of any affine. The start is the better, by the metric, of
    the bodies' centres laid on each other with their in-plane sizes matched, and of the two worlds
    as they are where the bodies overlap there (two sequences of one session). Then level by level,
    coarse to fine: a level's affine is taken when it mirrors nothing, stretches within
    ``SCALE_LIMITS``, keeps the bodies over each other and has no worse metric, at full resolution,
    than the one before. Where no level is taken, or the optimiser fails, the start comes back with
    ``ok`` false and the reason: nothing is raised. Deterministic when ``config.threads`` is 1.
    """
    with _threads(config.threads):
        return _register(_pair(fixed, moving, fixed_body), fixed_body, moving_body, config)


def _register(pair: _Pair, fixed_body: Volume, moving_body: Volume, config: MatchConfig) -> Affine:
    starts = [align_bodies(fixed_body, moving_body)]
    if overlap(np.eye(4), fixed_body, moving_body) >= _LEAST_OVERLAP:
        starts.append(np.eye(4))
    values = [_evaluate(pair, matrix, config) for matrix in starts]
    first = int(np.argmin(values))
    start, before = starts[first], values[first]
    if config.iterations == 0:
        return Affine(start, before, before, False, "no optimisation asked for")
    needed = _LEAST_OVERLAP * overlap(start, fixed_body, moving_body)
    best, after = start, before
    reasons = []
    for factor in config.shrink:
        try:
            matrix = _optimise(pair, best, factor, config)
        except RuntimeError as error:
            reasons.append("the optimiser failed: " + str(error).strip().splitlines()[-1].strip())
            continue
        value = _evaluate(pair, matrix, config)
        if not is_sane(matrix):
            reasons.append("the optimised affine mirrors or stretches too much")
        elif overlap(matrix, fixed_body, moving_body) < needed:
            reasons.append("the optimised affine moves the bodies apart")
        elif value == _WORST or value > after:
            reasons.append("the optimised affine has a worse metric than the one before")
        else:
            best, after = matrix, value
    if best is not start:
        taken = len(config.shrink) - len(reasons)
        return Affine(best, before, after, True, f"optimised, {taken} levels taken")
    log.info("registration keeps its start: %s", reasons[-1])
    return Affine(start, before, before, False, reasons[-1])


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """ITK's number of threads. Its metrics sum per thread, in an order that changes the bits, and
    heed the global number only."""
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(number)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def _pair(fixed: Volume, moving: Volume, fixed_body: Volume) -> _Pair:
    mask = np.asarray(fixed_body.array, bool)
    if mask.any():
        mask = ndimage.binary_dilation(mask, iterations=_MASK_MARGIN_VOXELS)
    else:
        mask = np.ones_like(mask)
    fixed_frame, moving_frame = _frame(fixed.grid), _frame(moving.grid)
    places = body_index(fixed_body) * fixed.grid.spacing
    centre = places.mean(axis=0)
    return _Pair(
        fixed=_image(fixed.array.astype(np.float32), fixed.grid),
        moving=_image(moving.array.astype(np.float32), moving.grid),
        mask=_image(mask.astype(np.uint8), fixed.grid),
        fixed_frame=fixed_frame,
        moving_frame=moving_frame,
        centre=np.asarray(centre),
        spread=np.maximum(1.0, np.square(places - centre).mean(axis=0)),
    )


def _frame(grid: Grid) -> Matrix:
    return np.asarray(grid.affine @ np.diag([*(1 / np.array(grid.spacing)), 1.0]))


def _image(array: NDArray[np.float32] | NDArray[np.uint8], grid: Grid) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    image.SetSpacing(grid.spacing)
    return image


def _method(pair: _Pair, config: MatchConfig) -> sitk.ImageRegistrationMethod:
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(config.threads)
    if config.metric == "mean_squares":
        method.SetMetricAsMeanSquares()
    else:
        method.SetMetricAsMattesMutualInformation(_HISTOGRAM_BINS)
    method.SetMetricFixedMask(pair.mask)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(config.sampling, config.seed)
    method.SetInterpolator(sitk.sitkLinear)
    return method


def _evaluate(pair: _Pair, matrix: Matrix, config: MatchConfig) -> float:
    """The metric at full resolution, lower is better; infinite where the images do not overlap."""
    method = _method(pair, config)
    method.SetInitialTransform(pair.to_itk(matrix))
    try:
        value = float(method.MetricEvaluate(pair.fixed, pair.moving))
    except RuntimeError:
        return _WORST
    # ITK answers the largest float where too few points fall into the moving image
    return value if abs(value) < np.finfo(np.float32).max else _WORST


def _optimise(pair: _Pair, start: Matrix, factor: int, config: MatchConfig) -> Matrix:
    """One level: the images shrunk by ``factor`` and smoothed by half of it, in voxels."""
    method = _method(pair, config)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=_STEP_MM,
        minStep=1e-3,
        numberOfIterations=config.iterations,
        relaxationFactor=0.7,
        gradientMagnitudeTolerance=1e-8,
    )
    # a parameter weighs as much as it moves the body: ITK's own estimate, from the image's
    # corners, holds rotation and scale back and needs several times the steps
    method.SetOptimizerScales([*pair.spread.tolist() * 3, 1.0, 1.0, 1.0])
    # few slices cannot be shrunk: some voxels stay along every axis
    factor = min(factor, max(1, min(pair.fixed.GetSize()) // _LEAST_VOXELS))
    method.SetShrinkFactorsPerLevel([factor])
    method.SetSmoothingSigmasPerLevel([factor / 2])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    transform = pair.to_itk(start)
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(pair.fixed, pair.moving)
    return pair.to_world(transform)
