from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

from labelferry.anatomy.config import AnatomyConfig
from labelferry.organs import Organ, OrganSet
from labelferry.predict.config import PredictConfig
from labelferry.predict.predictor import Model
from labelferry.segment.bundle import Bundle
from labelferry.segment.config import NetworkConfig
from labelferry.segment.plans import make_dataset, make_plans
from labelferry.volume import Grid, Volume

ORGANS = OrganSet((Organ(1, "liver"), Organ(2, "spleen")))


class Steps(nn.Module):
    """Three classes by intensity alone; looks at nothing but the voxel."""

    def forward(self, x: Tensor) -> Tensor:
        level = x[:, :1]
        return torch.cat([0.2 - level * 0, level, 3 * level - 3.0], 1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def make_bundle() -> Callable[..., Bundle]:
    def make(**network: Any) -> Bundle:
        sizes: dict[str, Any] = {"patch": (8, 16, 16), "channels": 2, "downsamplings": 1}
        config = NetworkConfig(**{**sizes, "convolutions": 1, **network})
        anatomy = AnatomyConfig(spacing=(4.0, 4.0, 5.0))
        return Bundle(
            name="student",
            organs=ORGANS,
            space="plain",
            anatomy=anatomy,
            modality="MR",
            network=config,
            plans=make_plans(config, anatomy.spacing[::-1], 1, batch=2),
            dataset=make_dataset(ORGANS, ["image"]),
            provenance={"seed": 0},
        )

    return make


@pytest.fixture
def fake_model(make_bundle: Callable[..., Bundle]) -> Callable[..., Model]:
    """A model whose network is ``Steps``."""

    def make(config: PredictConfig | None = None, **network: Any) -> Model:
        bundle = make_bundle(**network)
        chosen = config or PredictConfig(amp="fp32")
        return Model(bundle, Steps(), torch.device("cpu"), chosen)

    return make


@pytest.fixture
def scan() -> Volume:
    """An MRI of an elliptic body with a bright organ; RAS, 3×3×4 mm."""
    shape = (48, 36, 14)
    x, y, z = np.ogrid[: shape[0], : shape[1], : shape[2]]
    body = np.broadcast_to(((x - 24) / 19) ** 2 + ((y - 18) / 14) ** 2 < 1, shape)
    organ = ((x - 16) / 6) ** 2 + ((y - 20) / 5) ** 2 + ((z - 5) / 4) ** 2 < 1
    noise = np.random.default_rng(0).normal(0, 8, shape)
    image = body * (150.0 + noise) + organ * 200.0
    affine = np.diag([3.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = (-70, -50, 20)
    return Volume(ndimage.gaussian_filter(image, 0.6).astype(np.float32), Grid(shape, affine))
