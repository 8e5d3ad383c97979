"""Does a translation keep the anatomy? What a fake volume shows beside its source, in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from labelferry.anatomy.space import gradient_magnitude
from labelferry.translate.displacement import Displacement, displacement
from labelferry.translate.explain import Explained, Floats, Scene, coarsened, explain, smooth
from labelferry.translate.flicker import Flicker, flicker

_LEAST_ML = 3.0
"""A smaller organ has too few voxels to be judged."""
_SHELL_VOXELS = 2
_EDGE_MM = 1.9
_MAP_MM = 4.0
_MAP_LIMIT = 5.0
_MAP_MOST = 20.0
_IN_PLANE = np.ones((3, 3, 1), np.bool_)


@dataclass(frozen=True)
class OrganMeasures:
    """One organ of the source, with a shell of two voxels round it in the axial plane."""

    ml: float
    agreement: float
    """Correlation of the fake's edges with those that its source predicts, -1…1; 0 where either is
    flat."""
    displacement_mm: float
    """Length where ``displacement`` is largest."""
    displacement: float
    """Largest mm x share of the unexplained that a displacement explains."""


@dataclass(frozen=True)
class Measures:
    """What the audit measures of one fake volume."""

    agreement: float
    """Correlation of the fake with what its source predicts, within the body."""
    slices: tuple[float | None, ...]
    """The same per axial slice; None where there is too little body."""
    organs: Mapping[int, OrganMeasures]
    hallucinated_ml: float
    """Volume with more edges than the source predicts (``structure`` above 5)."""
    lost_ml: float
    """Volume with fewer edges (below -5)."""
    flicker: Flicker | None
    """None for fewer than three slices."""

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form, read back by :meth:`from_json`."""
        return {
            "agreement": round(self.agreement, 4),
            "slices": _rounded(self.slices),
            "organs": {
                str(organ): {key: round(value, 4) for key, value in vars(found).items()}
                for organ, found in self.organs.items()
            },
            "hallucinated_ml": round(self.hallucinated_ml, 1),
            "lost_ml": round(self.lost_ml, 1),
            "flicker": None
            if self.flicker is None
            else {
                "ratio": round(self.flicker.ratio, 4),
                "slices": _rounded(self.flicker.slices),
            },
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Measures:
        """Read what :meth:`to_json` made."""
        shown = row["flicker"]
        return cls(
            row["agreement"],
            tuple(row["slices"]),
            {int(organ): OrganMeasures(**found) for organ, found in row["organs"].items()},
            row["hallucinated_ml"],
            row["lost_ml"],
            None if shown is None else Flicker(shown["ratio"], tuple(shown["slices"])),
        )


@dataclass(frozen=True, eq=False)
class Audited:
    """Measures of a fake, and where its edges are not those of the source."""

    measures: Measures
    structure: Floats = field(repr=False)
    """Edges of the fake less the expected ones in their usual deviation, -20…20: above 0
    hallucinated, below 0 lost. (x, y, z) on voxels ``by`` times as large as those of the scene."""
    by: tuple[int, int, int]


def audit(scene: Scene) -> Audited:
    """Measure a fake against its source; any spacing, any number of slices, any organs or none.

    It is judged on voxels of about ``AUDIT_SPACING``, on which its limits were measured.
    """
    coarse, by = coarsened(scene)
    explained = explain(coarse)
    edges = _edges(coarse, explained)
    structure = _structure(edges, coarse)
    ml = float(np.prod(coarse.spacing)) / 1000
    measures = Measures(
        _agreement(explained.expected, coarse.fake, coarse.body),
        _slices(coarse, explained),
        _organs(coarse, edges, displacement(coarse, explained), ml),
        float(np.count_nonzero(structure > _MAP_LIMIT)) * ml,
        float(np.count_nonzero(structure < -_MAP_LIMIT)) * ml,
        flicker(coarse.fake, explained.expected, coarse.body),
    )
    return Audited(measures, structure, by)


def _agreement(expected: Floats, fake: Floats, where: NDArray[np.bool_]) -> float:
    one, two = expected[where].astype(np.float64), fake[where].astype(np.float64)
    if len(one) < 2:
        return 0.0
    one, two = one - one.mean(), two - two.mean()
    size = float(np.sqrt((one**2).sum() * (two**2).sum()))
    return float((one * two).sum()) / size if size > 1e-6 else 0.0


def _slices(scene: Scene, explained: Explained) -> tuple[float | None, ...]:
    area = scene.body.sum((0, 1))
    return tuple(
        _agreement(explained.expected[:, :, z], scene.fake[:, :, z], scene.body[:, :, z])
        if area[z] >= 0.1 * area.max() and area[z] > 1
        else None
        for z in range(len(area))
    )


def _organs(
    scene: Scene, edges: tuple[Floats, Floats], moved: Displacement, voxel_ml: float
) -> dict[int, OrganMeasures]:
    score, out = moved.score, {}
    for organ, box in enumerate(ndimage.find_objects(scene.labels), start=1):
        if box is None:
            continue
        part = tuple(slice(max(0, s.start - _SHELL_VOXELS), s.stop + _SHELL_VOXELS) for s in box)
        mask = scene.labels[part] == organ
        ml = float(np.count_nonzero(mask)) * voxel_ml
        if ml < _LEAST_ML:
            continue
        near = ndimage.binary_dilation(mask, _IN_PLANE, _SHELL_VOXELS) & scene.body[part]
        if not near.any():
            continue
        top = int(np.argmax(np.where(near, score[part], -1)))
        out[organ] = OrganMeasures(
            ml,
            _agreement(edges[0][part], edges[1][part], near),
            float(moved.mm[part].flat[top]),
            float(score[part].flat[top]),
        )
    return out


def _edges(scene: Scene, explained: Explained) -> tuple[Floats, Floats]:
    """Edges of what is expected and of what is there; weak ones lifted as in anatomy space."""
    if scene.in_edges:
        return explained.expected, scene.fake
    one, two = (
        gradient_magnitude(smooth(array, _EDGE_MM, scene.spacing), scene.spacing)
        for array in (explained.expected, scene.fake)
    )
    return np.sqrt(one), np.sqrt(two)


def _structure(edges: tuple[Floats, Floats], scene: Scene) -> Floats:
    more = smooth((edges[1] - edges[0]) * scene.body, _MAP_MM, scene.spacing)
    inside = more[scene.body]
    usual = 1.4826 * float(np.median(np.abs(inside))) if inside.size else 0.0
    scaled = more * scene.body / np.float32(max(usual, 1e-4))
    return np.asarray(np.clip(scaled, -_MAP_MOST, _MAP_MOST), np.float32)


def _rounded(values: tuple[float | None, ...]) -> list[float | None]:
    return [None if value is None else round(value, 3) for value in values]
