"""A model that nnU-Net trained: images in, labels on their own grids out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from labelferry.anatomy.intensity import check_contrast
from labelferry.cases import Modality
from labelferry.io.numbering import numbering_of
from labelferry.organs import LabelScheme, OrganSet
from labelferry.predict.budget import Budget, Footprint
from labelferry.predict.config import Amp, EngineName, Export, PredictConfig
from labelferry.predict.engines import open_engine
from labelferry.predict.entropy import EntropyMeter, Prediction, Watch, unwatched
from labelferry.predict.export import exact_labels
from labelferry.predict.inputs import ImageLike, as_volume
from labelferry.predict.predictor import choose_device, load_model
from labelferry.predict.sums import Weighing
from labelferry.predict.window import scan
from labelferry.prior.model import Prior
from labelferry.segment.foreign import Foreign, build_networks, is_foreign, read_foreign
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

    @property
    def budget(self) -> Budget:
        """The memory that it may use."""

    @property
    def prior(self) -> Prior | None:
        """What its source labels say about organs; None where it does not know."""

    def prediction(self, image: ImageLike, *, case: str | None = None) -> Prediction:
        """The same labels, and how sure the network is of each organ."""


class ForeignModel:
    """A model folder of nnU-Net, applied to whole images as nnU-Net applies it."""

    def __init__(self, foreign: Foreign, device: torch.device, config: PredictConfig) -> None:
        self.foreign, self.device = foreign, device
        # in the precision of nnU-Net itself, unless another one is asked for
        own = "fp16" if device.type == "cuda" else "fp32"
        self.config = config.model_copy(update={"amp": own}) if config.amp == "auto" else config
        self.engines = [
            open_engine(network, device, self.config, channels=1, patch=foreign.recipe.patch)
            for network in build_networks(foreign)
        ]
        recipe, sizes = foreign.recipe, foreign.architecture["arch_kwargs"]["features_per_stage"]
        footprint = Footprint(
            len(foreign.organs) + 1,
            1,
            sizes[0],
            recipe.patch,
            recipe.spacing,
            device,
            half_sums=True,
            folds=len(self.engines),
        )
        self.budget = Budget.of(self.config, footprint)

    @property
    def organs(self) -> OrganSet:
        """The structures of its ``dataset.json``, with its own label values."""
        return self.foreign.organs

    @property
    def modality(self) -> Modality:
        """CT where it scales by the data set's Hounsfield units, else MR."""
        return self.foreign.modality

    @property
    def prior(self) -> Prior | None:
        """None: nnU-Net keeps no statistics of where organs lie."""
        return None

    def numbering(self, organs: OrganSet) -> LabelScheme:
        """Which of ``organs`` each label value means, by name; ``UserError`` where none does."""
        return numbering_of({o.name: o.id for o in self.organs}, organs, "dataset.json")

    def predict(self, image: ImageLike, *, case: str | None = None) -> Segmentation:
        """Label values on the image's own grid, as nnU-Net gives them without mirroring.

        ``image``: see :func:`labelferry.predict.inputs.as_volume`. Raises ``UserError`` for an
        image that cannot be read or has no contrast.
        """
        return self._label(image, case, unwatched)

    def prediction(self, image: ImageLike, *, case: str | None = None) -> Prediction:
        """The same labels, and how sure the network is of each organ."""
        meter = EntropyMeter(len(self.organs) + 1)
        return Prediction(self._label(image, case, meter.watch), meter.means())

    def _label(self, image: ImageLike, case: str | None, watch: Watch) -> Segmentation:
        volume = as_volume(image)
        way = self.budget.within(volume.grid, case)
        check_contrast(volume.array, self.modality, case)
        seen = canonical(volume) if self.foreign.reorients else volume
        array = np.ascontiguousarray(seen.array.transpose(2, 1, 0), np.float32)
        ready = self.foreign.recipe.prepare(array, seen.grid.spacing[::-1])
        labels = exact_labels(
            watch(self._slabs(torch.from_numpy(ready.data), way)),
            ready.data.shape[1:],
            ready.shape,
            ready.spacing,
            ready.old_spacing,
            self.foreign.recipe.scores,
        )
        found = ready.restore(labels).transpose(2, 1, 0)
        return reorient(Segmentation(np.ascontiguousarray(found), seen.grid), volume.grid)

    def _slabs(self, data: Tensor, way: PredictConfig) -> Iterator[Tensor]:
        """Scores in half precision, the mean over the folds, summed bit by bit as nnU-Net does."""
        recipe = self.foreign.recipe
        folds = [
            scan(
                data,
                engine,
                patch=recipe.patch,
                classes=len(self.foreign.organs) + 1,
                config=way,
                device=self.device,
                weighing=Weighing.of_nnunet(recipe.patch),
            )
            for engine in self.engines
        ]
        if len(folds) == 1:
            return folds[0]
        # the folds go on side by side: no more than a slab of each is held
        sides = zip(*folds, strict=True)
        return (reduce(torch.add, slabs).div_(len(slabs)) for slabs in sides)


def load_foreign(
    folder: Path, *, device: str = "auto", config: PredictConfig | None = None
) -> ForeignModel:
    """Open a model folder of nnU-Net; see :func:`labelferry.segment.foreign.read_foreign`.

    Of ``config`` count the step, the batch, the engine, the precision and the limit of memory.
    """
    return ForeignModel(read_foreign(folder), choose_device(device), config or PredictConfig())


def load_labeller(
    path: Path,
    *,
    device: str = "auto",
    export: Export | None = None,
    engine: EngineName | None = None,
    amp: Amp | None = None,
    max_ram_gb: float | None = None,
) -> Labeller:
    """The model at ``path``, whoever trained it; ``export`` is for models of ours."""
    if path.is_dir() and not (path / "bundle.json").exists() and is_foreign(path):
        config = PredictConfig(engine=engine or "auto", amp=amp or "auto", max_ram_gb=max_ram_gb)
        return load_foreign(path, device=device, config=config)
    return load_model(
        path, device=device, export=export, engine=engine, amp=amp, max_ram_gb=max_ram_gb
    )
