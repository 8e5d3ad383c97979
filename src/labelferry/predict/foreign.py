"""A model that nnU-Net trained: images in, labels on their own grids out."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from labelferry.anatomy.intensity import check_contrast
from labelferry.cases import Modality
from labelferry.io.numbering import numbering_of
from labelferry.organs import LabelScheme, OrganSet
from labelferry.predict.config import Export, PredictConfig
from labelferry.predict.inputs import ImageLike, as_volume
from labelferry.predict.predictor import choose_device, load_model
from labelferry.segment.foreign import Foreign, ForeignNetwork, is_foreign, read_foreign
from labelferry.volume import Segmentation, canonical, reorient


class Labeller(Protocol):
    """Anything that labels images: a model of ours, or one of nnU-Net."""

    @property
    def organs(self) -> OrganSet:
        """What its label values mean."""

    @property
    def modality(self) -> Modality:
        """What it is for."""

    def predict(self, image: ImageLike, *, case: str | None = None) -> Segmentation:
        """Organ ids on the image's own grid."""


class ForeignModel:
    """A model folder of nnU-Net, applied to whole images as nnU-Net applies it."""

    def __init__(self, foreign: Foreign, network: ForeignNetwork) -> None:
        self.foreign, self.network = foreign, network

    @property
    def organs(self) -> OrganSet:
        """The structures of its ``dataset.json``, with its own label values."""
        return self.foreign.organs

    @property
    def modality(self) -> Modality:
        """CT where it scales by the data set's Hounsfield units, else MR."""
        return self.foreign.modality

    def numbering(self, organs: OrganSet) -> LabelScheme:
        """Which of ``organs`` each label value means, by name; ``UserError`` where none does."""
        return numbering_of({o.name: o.id for o in self.organs}, organs, "dataset.json")

    def predict(self, image: ImageLike, *, case: str | None = None) -> Segmentation:
        """Label values on the image's own grid, as nnU-Net gives them without mirroring.

        ``image``: see :func:`labelferry.predict.inputs.as_volume`. Raises ``UserError`` for an
        image that cannot be read or has no contrast.
        """
        volume = as_volume(image)
        check_contrast(volume.array, self.modality, case)
        seen = canonical(volume) if self.foreign.reorients else volume
        array = np.ascontiguousarray(seen.array.transpose(2, 1, 0), np.float32)
        labels = self.network.label(array, seen.grid.spacing[::-1])
        found = Segmentation(np.ascontiguousarray(labels.transpose(2, 1, 0)), seen.grid)
        return reorient(found, volume.grid)


def load_foreign(
    folder: Path, *, device: str = "auto", config: PredictConfig | None = None
) -> ForeignModel:
    """Open a model folder of nnU-Net; see :func:`labelferry.segment.foreign.read_foreign`."""
    foreign = read_foreign(folder)
    step = (config or PredictConfig()).step
    return ForeignModel(foreign, ForeignNetwork(foreign, choose_device(device), step=step))


def load_labeller(path: Path, *, device: str = "auto", export: Export | None = None) -> Labeller:
    """The model at ``path``, whoever trained it; ``export`` is for models of ours."""
    if path.is_dir() and not (path / "bundle.json").exists() and is_foreign(path):
        return load_foreign(path, device=device)
    return load_model(path, device=device, export=export)
