"""Two images in ITK's hands, and the metric between them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from scipy import ndimage

from labelferry.match.bodies import body_index
from labelferry.match.config import MatchConfig
from labelferry.volume import Grid, Volume

_HISTOGRAM_BINS = 32
_MASK_MARGIN_VOXELS = 2
_STEP_MM = 2.0
_LEAST_VOXELS = 6  # few slices cannot be shrunk: some voxels stay along every axis
WORST = math.inf
"""The metric where the images do not overlap."""

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pair:
    """A fixed and a moving image. ITK sees each in its own scaled index space (voxel index ×
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
    is_coarse: bool = False

    @classmethod
    def of(cls, fixed: Volume, moving: Volume, fixed_body: Volume) -> Pair:
        """The metric looks at the fixed body and a little round it; an empty body is everything."""
        mask = np.asarray(fixed_body.array, bool)
        if mask.any():
            mask = ndimage.binary_dilation(mask, iterations=_MASK_MARGIN_VOXELS)
        else:
            mask = np.ones_like(mask)
        places = body_index(fixed_body) * fixed.grid.spacing
        centre = places.mean(axis=0)
        return cls(
            fixed=to_itk_image(fixed.array.astype(np.float32), fixed.grid),
            moving=to_itk_image(moving.array.astype(np.float32), moving.grid),
            mask=to_itk_image(mask.astype(np.uint8), fixed.grid),
            fixed_frame=_frame(fixed.grid),
            moving_frame=_frame(moving.grid),
            centre=np.asarray(centre),
            spread=np.maximum(1.0, np.square(places - centre).mean(axis=0)),
        )

    @property
    def world_centre(self) -> NDArray[np.float64]:
        """The centre of rotation in the fixed world, RAS mm."""
        return np.asarray(self.fixed_frame[:3, :3] @ self.centre + self.fixed_frame[:3, 3])

    def coarse(self, mm: float) -> Pair:
        """Both images smoothed by ``mm`` / 2, the fixed one on voxels of about ``mm``.

        Raises ``RuntimeError`` for an image too thin to be smoothed.
        """
        spacing, size = self.fixed.GetSpacing(), self.fixed.GetSize()
        factors = [
            max(1, min(round(mm / step), number // _LEAST_VOXELS))
            for step, number in zip(spacing, size, strict=True)
        ]
        return replace(
            self,
            fixed=sitk.Shrink(sitk.SmoothingRecursiveGaussian(self.fixed, mm / 2), factors),
            moving=sitk.SmoothingRecursiveGaussian(self.moving, mm / 2),
            mask=sitk.Shrink(self.mask, factors),
            is_coarse=True,
        )

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
        inner = self._inner(transform)
        return np.asarray(self.moving_frame @ inner @ np.linalg.inv(self.fixed_frame))

    def _inner(self, transform: Any) -> Matrix:
        """An affine or rigid transform of ITK round our centre, as 4×4."""
        inner = np.eye(4)
        inner[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
        shift = np.array(transform.GetTranslation())
        inner[:3, 3] = shift + self.centre - inner[:3, :3] @ self.centre
        return inner

    def method(self, config: MatchConfig) -> sitk.ImageRegistrationMethod:
        """ITK's registration with the metric of the configuration."""
        method = sitk.ImageRegistrationMethod()
        method.SetNumberOfThreads(config.threads)
        if config.metric == "mean_squares":
            method.SetMetricAsMeanSquares()
        else:
            method.SetMetricAsMattesMutualInformation(_HISTOGRAM_BINS)
        method.SetMetricFixedMask(self.mask)
        method.SetMetricSamplingStrategy(method.REGULAR)
        method.SetMetricSamplingPercentage(config.sampling, config.seed)
        method.SetInterpolator(sitk.sitkLinear)
        return method

    def metric(self, matrix: Matrix, config: MatchConfig) -> float:
        """The metric, lower is better; infinite where the images do not overlap."""
        method = self.method(config)
        # a value needs no gradient, whose images cost more than the value itself
        method.MetricUseFixedImageGradientFilterOff()
        method.MetricUseMovingImageGradientFilterOff()
        method.SetInitialTransform(self.to_itk(matrix))
        try:
            value = float(method.MetricEvaluate(self.fixed, self.moving))
        except RuntimeError:
            return WORST
        # ITK answers the largest float where too few points fall into the moving image
        return value if abs(value) < np.finfo(np.float32).max else WORST

    def optimised(self, start: Matrix, config: MatchConfig, factor: int = 1) -> Matrix:
        """Where ``config.iterations`` steps from ``start`` lead, the images shrunk by ``factor``
        and smoothed by half of it, in voxels. Raises ``RuntimeError`` where ITK gives up."""
        method = self._optimiser(config, factor)
        # a parameter weighs as much as it moves the body: ITK's own estimate, from the image's
        # corners, holds rotation and scale back and needs several times the steps
        method.SetOptimizerScales([*self.spread.tolist() * 3, 1.0, 1.0, 1.0])
        transform = self.to_itk(start)
        method.SetInitialTransform(transform, inPlace=True)
        method.Execute(self.fixed, self.moving)
        return self.to_world(transform)

    def turned(self, start: Matrix, config: MatchConfig, factor: int = 1) -> Matrix:
        """As :meth:`optimised`, but ``start`` is only turned and shifted, not stretched any more.

        Raises ``RuntimeError`` where ITK gives up.
        """
        method = self._optimiser(config, factor)
        method.SetOptimizerScales([*(self.spread.sum() - self.spread).tolist(), 1.0, 1.0, 1.0])
        transform = sitk.Euler3DTransform(self.centre.tolist())
        method.SetMovingInitialTransform(self.to_itk(start))
        method.SetInitialTransform(transform, inPlace=True)
        method.Execute(self.fixed, self.moving)
        frame = self.fixed_frame
        return np.asarray(start @ frame @ self._inner(transform) @ np.linalg.inv(frame))

    def _optimiser(self, config: MatchConfig, factor: int) -> sitk.ImageRegistrationMethod:
        method = self.method(config)
        method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=_STEP_MM,
            minStep=1e-3,
            numberOfIterations=config.iterations,
            relaxationFactor=0.7,
            gradientMagnitudeTolerance=1e-8,
        )
        factor = min(factor, max(1, min(self.fixed.GetSize()) // _LEAST_VOXELS))
        method.SetShrinkFactorsPerLevel([factor])
        method.SetSmoothingSigmasPerLevel([factor / 2])
        method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
        if self.is_coarse:  # smooth already
            method.MetricUseFixedImageGradientFilterOff()
            method.MetricUseMovingImageGradientFilterOff()
        return method


@contextmanager
def threads(number: int) -> Iterator[None]:
    """ITK's number of threads. Its metrics sum per thread, in an order that changes the bits, and
    heed the global number only."""
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(number)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)


def _frame(grid: Grid) -> Matrix:
    return np.asarray(grid.affine @ np.diag([*(1 / np.array(grid.spacing)), 1.0]))


def to_itk_image(array: NDArray[np.float32] | NDArray[np.uint8], grid: Grid) -> sitk.Image:
    """An array on its grid as ITK's image in scaled index space."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    image.SetSpacing(grid.spacing)
    return image
