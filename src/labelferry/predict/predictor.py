"""A loaded model: images in, labels on their own grids out (paper 2.4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional

from labelferry.anatomy.prepare import Prepared, prepare
from labelferry.cases import Modality
from labelferry.errors import UserError
from labelferry.organs import OrganSet
from labelferry.predict.borders import sharp_image
from labelferry.predict.budget import Budget, Footprint
from labelferry.predict.config import Amp, EngineName, Export, PredictConfig
from labelferry.predict.engines import open_engine
from labelferry.predict.entropy import EntropyMeter, Prediction, Watch, unwatched
from labelferry.predict.export import (
    argmax_labels,
    export_slabs,
    join_labels,
    threshold_labels,
)
from labelferry.predict.inputs import ImageLike, as_volume
from labelferry.predict.region import region_of, within_region
from labelferry.predict.tidy import tidy
from labelferry.predict.window import Window, background, join_slabs, place_slabs, scan
from labelferry.prior.model import Prior
from labelferry.segment.bundle import Bundle, open_network, read_bundle
from labelferry.segment.preprocess import add_context, preprocess
from labelferry.volume import Grid, Segmentation, reorient, uncrop

Made = TypeVar("Made")

_MODELS_OF_A_RUN = ("model", "distil/model", "refine/model", "teach/model")
"""Where a run or a stage keeps its model, the best first."""


class Model:
    """A network with everything that it needs to label an image."""

    def __init__(
        self, bundle: Bundle, network: nn.Module, device: torch.device, config: PredictConfig
    ) -> None:
        self.bundle = bundle
        self.device = device
        self.config = config
        channels = bundle.network.channels_in(bundle.channels)
        self.engine = open_engine(network, device, config, channels=channels, patch=bundle.patch)
        footprint = Footprint(
            bundle.classes,
            channels,
            bundle.network.channels,
            bundle.patch,
            bundle.anatomy.spacing[::-1],
            device,
        )
        self.budget = Budget.of(config, footprint)

    @property
    def organs(self) -> OrganSet:
        """What its label values mean."""
        return self.bundle.organs

    @property
    def modality(self) -> Modality:
        """What it is for."""
        return self.bundle.modality

    @property
    def prior(self) -> Prior | None:
        """What the source labels of its run say about organs, where it knows them."""
        return self.bundle.prior

    def predict(self, image: ImageLike, *, case: str | None = None) -> Segmentation:
        """Organ ids on the image's own grid, of any orientation; outside the body 0.

        ``image``: a NIfTI path, a nibabel or SimpleITK image, or a ``Volume``. Raises ``UserError``
        (naming ``case``) for an image that cannot be read or holds nothing to see.
        """
        return self._label(image, case, unwatched)

    def prediction(self, image: ImageLike, *, case: str | None = None) -> Prediction:
        """The same labels, and how sure the network is of each organ."""
        meter = EntropyMeter(self.bundle.classes)
        return Prediction(self._label(image, case, meter.watch), meter.means())

    def _label(self, image: ImageLike, case: str | None, watch: Watch) -> Segmentation:
        volume = as_volume(image)
        way = self.budget.within(volume.grid, case)
        config = self.bundle.anatomy
        if self.bundle.space == "plain":  # nobody looks at the edges
            config = config.model_copy(update={"sobel": "none"})
        prepared = prepare(volume, self.bundle.modality, config, case=case)
        if not self.config.borders_mm:  # nobody looks at it
            prepared = replace(prepared, scaled=None)
        return self._on_grid(prepared, volume.grid, watch, way)

    def logits(self, prepared: Prepared) -> Tensor:
        """Scores (classes, z, y, x) on the working grid; on the model's device where they fit."""
        planes = prepared.image.grid.shape[2]
        return self._scored(prepared, lambda slabs: join_slabs(slabs, planes), self.config)

    def _scored(
        self,
        prepared: Prepared,
        consume: Callable[[Iterator[Tensor]], Made],
        way: PredictConfig,
    ) -> Made:
        """What ``consume`` makes of the same in slabs of planes, each overwritten when the next one
        is asked for. It is called again where a region was too small (see :mod:`.region`).
        """
        channels = _channels(prepared, self.bundle.space)
        shape = channels.shape[1:]
        if not channels.any():
            return consume(iter([background(self.bundle.classes, shape)]))
        found, box = preprocess(channels, self.bundle.plans)
        data = torch.from_numpy(add_context(found, self.bundle.network.context))
        inside = prepared.body.array.transpose(2, 1, 0)[tuple(slice(*part) for part in box)]
        body = torch.from_numpy(np.ascontiguousarray(inside)) if self.config.skip_empty else None
        if not way.coarse:
            return consume(place_slabs(self._scan(data, body, way), box, shape))
        spacing = self.bundle.anatomy.spacing[::-1]
        margin = [math.ceil(way.coarse_margin_mm / mm) for mm in spacing]

        def scores(region: Window) -> Iterator[Tensor]:
            wanted = torch.zeros(data.shape[1:], dtype=torch.bool)
            wanted[region] = True if body is None else body[region]
            return self._scan(data, wanted, way)

        return within_region(
            self._look(data, body, margin, way),
            data.shape[1:],
            margin,
            scores,
            lambda slabs: consume(place_slabs(slabs, box, shape)),
        )

    def _scan(self, data: Tensor, body: Tensor | None, way: PredictConfig) -> Iterator[Tensor]:
        return scan(
            data,
            self.engine,
            patch=self.bundle.patch,
            classes=self.bundle.classes,
            config=way,
            device=self.device,
            body=body,
        )

    def _look(
        self, data: Tensor, body: Tensor | None, margin: Sequence[int], way: PredictConfig
    ) -> Window:
        """Where the organs of ``data`` (c, z, y, x) are, as larger voxels show them."""
        shape = data.shape[1:]
        size = [max(1, round(n / way.coarse)) for n in shape]
        small = functional.interpolate(data[None], size, mode="trilinear", align_corners=False)[0]
        seen = None
        if body is not None:
            seen = functional.adaptive_max_pool3d(body[None].float(), size)[0] > 0
        aside = way.model_copy(update={"step": 1.0})
        found = join_labels(self._scan(small, seen, aside), argmax_labels) > 0
        return region_of(found.cpu().numpy(), shape, margin)

    def working_labels(self, prepared: Prepared, grid: Grid | None = None) -> Segmentation:
        """Organ ids on the working grid (x, y, z): pseudo-labels.

        Or on another ``grid`` over the same extent, where the model has voxels of its own.
        """
        if grid is not None:
            return self._exported(prepared, grid, unwatched, self.config)
        chosen = threshold_labels if self.config.export == "paper" else argmax_labels
        labels = self._scored(prepared, lambda slabs: join_labels(slabs, chosen), self.config)
        return self._tidied(labels.cpu().numpy(), prepared, prepared.image.grid)

    def working_probabilities(self, prepared: Prepared) -> NDArray[np.float16]:
        """Softmax probabilities (classes, x, y, z) on the working grid."""
        logits = self.logits(prepared).float()
        probabilities = torch.softmax(logits, 0).half().cpu().numpy()
        return np.ascontiguousarray(probabilities.transpose(0, 3, 2, 1))

    def _on_grid(
        self, prepared: Prepared, grid: Grid, watch: Watch, way: PredictConfig
    ) -> Segmentation:
        part = prepared.canonical.cropped(prepared.box)
        inside = self._exported(prepared, part, watch, way)
        return reorient(uncrop(inside, prepared.canonical, prepared.box), grid)

    def _exported(
        self, prepared: Prepared, grid: Grid, watch: Watch, way: PredictConfig
    ) -> Segmentation:
        """Organ ids on a grid over the extent of the working grid."""

        def export(slabs: Iterator[Tensor]) -> NDArray[np.uint8]:
            return export_slabs(
                watch(slabs),
                prepared.image.grid.shape[::-1],
                grid.shape[::-1],
                self.config.export,
                spacing=self.bundle.anatomy.spacing[::-1],
                new_spacing=grid.spacing[::-1],
            )

        labels = self._scored(prepared, export, way)
        return self._tidied(labels, prepared, grid)

    def _tidied(self, labels: NDArray[np.uint8], prepared: Prepared, grid: Grid) -> Segmentation:
        """Labels (z, y, x) on ``grid``, as the rest of the house has them."""
        turned = np.ascontiguousarray(labels.transpose(2, 1, 0))
        sharp = sharp_image(prepared) if self.config.borders_mm else None
        tidied = tidy(turned, prepared.image, self.organs, self.config, sharp)
        return Segmentation(tidied, grid)


def load_model(
    path: Path | str,
    *,
    device: str = "auto",
    config: PredictConfig | None = None,
    export: Export | None = None,
    engine: EngineName | None = None,
    amp: Amp | None = None,
    max_ram_gb: float | None = None,
) -> Model:
    """Load a model from a bundle folder, a bundle ``.zip``, or the folder of a run or a stage.

    ``device``: ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``. Without
    ``config`` the model is applied as in the run that made it; ``export``, ``engine``, ``amp`` and
    ``max_ram_gb`` change that alone. Raises ``UserError`` where there is no model (yet), one that
    is damaged or not to be trusted, or an engine that is not there.
    """
    place = find_bundle(Path(path))
    bundle, weights = read_bundle(place)
    network = open_network(bundle, weights)
    chosen = config or inference_of(bundle, place)
    changed = {"export": export, "engine": engine, "amp": amp, "max_ram_gb": max_ram_gb}
    chosen = chosen.model_copy(update={k: v for k, v in changed.items() if v is not None})
    return Model(bundle, network, choose_device(device), chosen)


def inference_of(bundle: Bundle, path: Path) -> PredictConfig:
    """How a bundle says that it is to be applied."""
    try:
        return PredictConfig.model_validate(bundle.inference)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            "the bundle's way of inference is not valid",
            path=path,
            seen=f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}",
        ) from error


def find_bundle(path: Path) -> Path:
    """The bundle at ``path``, or the best one that a run or a stage at ``path`` has made."""
    if not path.exists():
        raise UserError("no such model", path=path, fix="give a model folder, its .zip or a run")
    if path.is_file() or (path / "bundle.json").exists():
        return path
    for place in _MODELS_OF_A_RUN:
        if (path / place / "bundle.json").exists():
            return path / place
    if any((path / stage).is_dir() for stage in ("prepare", "translate", "teach")):
        raise UserError(
            "the run has no model yet",
            path=path,
            fix=f"give the same 'labelferry adapt {path} …' again, it goes on from where it is; "
            f"'labelferry status {path}' says how far that is",
        )
    if any(path.glob("fold_*")) or any(path.glob("*.pth")):
        raise UserError(
            "a model folder of nnU-Net, not a bundle",
            path=path,
            fix="'labelferry predict' labels images with it, 'labelferry adapt --teacher' goes on "
            "from its labels",
        )
    raise UserError(
        "no model in this folder",
        path=path,
        allowed="a folder with bundle.json, a bundle .zip, or a run of 'labelferry adapt'",
    )


def choose_device(name: str) -> torch.device:
    """The device of a name; ``auto`` is CUDA where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError("unknown device", seen=name, allowed="auto, cpu, cuda, cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            "no such CUDA device here",
            seen=f"{name}, with {torch.cuda.device_count()} CUDA devices",
            allowed="auto, cpu",
            fix="use the device cpu, or install a CUDA build of torch",
        )
    return device


def _channels(prepared: Prepared, space: str) -> NDArray[np.float32]:
    """The network's input (c, z, y, x)."""
    volumes = {
        "plain": (prepared.image,),
        "anatomy": (prepared.anatomy,),
        "both": (prepared.image, prepared.anatomy),
    }[space]
    stacked = np.stack([volume.array.transpose(2, 1, 0) for volume in volumes])
    return np.ascontiguousarray(stacked, np.float32)
