"""A random subject: the tissue map that a renderer paints, and its organ labels."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from labelferry.phantom.draws import Point, uniform
from labelferry.phantom.frame import Frame, PhantomGrid, draw_frame
from labelferry.phantom.organs import KIDNEYS, OrganShapes, draw_organs
from labelferry.phantom.shapes import Mask, tube
from labelferry.phantom.tissues import ORGANS, Tissue
from labelferry.phantom.trunk import Trunk, draw_trunk, paint_spine
from labelferry.volume import Grid, Segmentation

# where shapes overlap, the later organ takes the voxel
_ORDER = (
    Tissue.STOMACH, Tissue.LIVER, Tissue.SPLEEN, Tissue.DUODENUM, Tissue.PANCREAS,
    Tissue.GALLBLADDER, Tissue.OESOPHAGUS, Tissue.RIGHT_KIDNEY, Tissue.LEFT_KIDNEY,
    Tissue.RIGHT_ADRENAL, Tissue.LEFT_ADRENAL, Tissue.VENA_CAVA, Tissue.AORTA,
)  # fmt: skip
# an adrenal gland is squeezed by its neighbours, except by these
_ADRENAL_MAY_TAKE = (0, Tissue.LIVER, Tissue.PANCREAS)
_ANY_NEIGHBOUR = np.ones((3, 3, 3), np.bool_)

_PORTAL: list[Point] = [(20, 2, -10), (26, -4, 20), (52, 0, 36), (80, 0, 44)]
_SPLENIC: list[Point] = [(14, 4, 4), (-30, -4, 16), (-75, -26, 36)]
_HEPATIC: list[list[Point]] = [
    [(24, -16, 74), (60, 20, 50)],
    [(24, -16, 76), (90, -20, 52)],
    [(22, -14, 76), (20, 40, 56)],
]


@dataclass(frozen=True, eq=False)
class Subject:
    """One patient of the phantom."""

    tissues: NDArray[np.uint8] = field(repr=False)
    """Values of ``Tissue``; axes (x, y, z), RAS."""
    labels: Segmentation
    """Organ ids on the same grid; an organ that is not there is absent from the patient."""
    raster: PhantomGrid
    absent: frozenset[int]
    """Ids of the organs that the patient lacks."""

    @property
    def grid(self) -> Grid:
        """Where the voxels lie in the world."""
        return self.labels.grid


def draw_subject(rng: np.random.Generator, raster: PhantomGrid) -> Subject:
    """A random subject. The same generator gives the same subject at every spacing."""
    centre = (uniform(rng, -20, 20), uniform(rng, -20, 20), uniform(rng, -100, 100))
    frame = draw_frame(rng, raster)
    trunk = draw_trunk(rng, frame)
    shapes = draw_organs(rng, frame, trunk)
    bubble = 12 + uniform(rng, 0, 25) if rng.random() < 0.6 else None

    labels = _compose(shapes, frame.shape)
    tissues = trunk.tissues
    paint_spine(tissues, labels, trunk, frame)
    _drop_fragments(labels)
    tissues[labels > 0] = labels[labels > 0]
    _paint_inside(tissues, labels, shapes, frame, bubble)
    _paint_veins(tissues, labels, trunk, frame)
    absent = frozenset(int(organ) for organ in ORGANS) - set(np.unique(labels).tolist())
    return Subject(tissues, Segmentation(labels, raster.placed(centre)), raster, absent)


def _compose(shapes: OrganShapes, grid_shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    labels = np.zeros(grid_shape, np.uint8)
    for organ in _ORDER:
        if organ in shapes.absent:
            continue
        mask: Mask = shapes.masks[organ]
        if organ in (Tissue.RIGHT_ADRENAL, Tissue.LEFT_ADRENAL):
            squeezed = mask & np.isin(labels, _ADRENAL_MAY_TAKE)
            # a kidney displaces the gland, it does not swallow it
            if 2 * np.count_nonzero(squeezed) >= np.count_nonzero(mask):
                mask = squeezed
        elif organ is Tissue.DUODENUM:
            mask = mask & (labels != Tissue.LIVER)
        labels[mask] = organ
    return labels


def _drop_fragments(labels: NDArray[np.uint8]) -> None:
    """Leave each organ its largest component: neighbours may have cut off crumbs."""
    for organ, box in enumerate(ndimage.find_objects(labels, max_label=len(ORGANS)), start=1):
        if box is None:
            continue
        part = labels[box]
        pieces, count = ndimage.label(part == organ, structure=_ANY_NEIGHBOUR)
        if count > 1:
            sizes = np.bincount(pieces.ravel())
            sizes[0] = 0
            part[(pieces > 0) & (pieces != int(sizes.argmax()))] = 0


def _paint_inside(
    tissues: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    shapes: OrganShapes,
    frame: Frame,
    bubble: float | None,
) -> None:
    """Sinus of the kidneys; content of the stomach, with gas above the level ``bubble`` (mm)."""
    for organ in KIDNEYS:
        tissues[(labels == organ) & shapes.sinuses[organ]] = Tissue.RENAL_SINUS
    content = (labels == Tissue.STOMACH) & shapes.lumen
    tissues[content] = Tissue.STOMACH_CONTENT
    if bubble is not None:  # the patient lies on the back: gas rises to the front
        tissues[content & (frame.y > bubble)] = Tissue.STOMACH_GAS


def _paint_veins(
    tissues: NDArray[np.uint8], labels: NDArray[np.uint8], trunk: Trunk, frame: Frame
) -> None:
    """Portal, splenic and hepatic veins; the label map counts them to the organ round them."""
    free = labels == 0
    liver = labels == Tissue.LIVER
    portal = tube(frame, _PORTAL, [6, 6.5, 5.5, 4])
    tissues[portal & (free | liver | (labels == Tissue.PANCREAS)) & trunk.cavity] = Tissue.VEIN
    tissues[tube(frame, _SPLENIC, [4.5, 4, 3.5]) & free & trunk.cavity] = Tissue.VEIN
    for vein in _HEPATIC:
        tissues[tube(frame, vein, [4.5, 3]) & liver] = Tissue.VEIN
