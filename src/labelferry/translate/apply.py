"""Whole volumes through the trained translators, slice by slice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from labelferry.errors import UserError
from labelferry.files import atomic_path, read_json, write_json
from labelferry.translate.config import TranslateConfig
from labelferry.translate.networks import MULTIPLE, SMALLEST, Generator, Stem, to_place
from labelferry.translate.precision import autocast
from labelferry.translate.slices import is_usable, pad_to, rounded_up

SCHEMA = 1
WEIGHTS = "translator.safetensors"
RECORD = "translator.json"
_PIXELS_AT_ONCE = 300_000


class Architecture(BaseModel):
    """All that is needed to build the translators; the class is always :class:`Generator`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    stem: Stem
    channels: int
    blocks: int

    @classmethod
    def of(cls, config: TranslateConfig) -> Architecture:
        """The translators that a configuration asks for."""
        return cls(stem=config.stem, channels=config.channels, blocks=config.blocks)

    def make(self) -> Generator:
        """A translator with torch's own random weights."""
        return Generator(self.channels, self.blocks, self.stem)


@dataclass(frozen=True, eq=False)
class Translator:
    """The two translators T_t and T_s, ready to use.

    A slice without contrast, which no training has seen, stays as it is.
    """

    networks: dict[str, Generator]
    device: torch.device
    amp: Literal["auto", "bf16", "fp32"]

    def to_target(self, array: NDArray[Any]) -> NDArray[np.float32]:
        """T_t of every axial slice of a source image (x, y, z) in [0, 1]: the same shape, range."""
        return self._run(self.networks["to_target"], array)

    def to_source(self, array: NDArray[Any]) -> NDArray[np.float32]:
        """T_s of every axial slice of a target image (x, y, z) in [0, 1]: the same shape, range."""
        return self._run(self.networks["to_source"], array)

    def _run(self, network: Generator, array: NDArray[Any]) -> NDArray[np.float32]:
        slices = np.ascontiguousarray(array.transpose(2, 1, 0), np.float32)
        height, width = slices.shape[1:]
        size = (rounded_up(height, MULTIPLE, SMALLEST), rounded_up(width, MULTIPLE, SMALLEST))
        slices = pad_to(slices, size)
        out = np.empty(slices.shape, np.float32)
        at_once = max(1, _PIXELS_AT_ONCE // (size[0] * size[1]))
        for first in range(0, len(slices), at_once):
            part = torch.from_numpy(slices[first : first + at_once])[:, None].to(self.device)
            part = (part * 2 - 1).contiguous(memory_format=torch.channels_last)
            with torch.inference_mode(), autocast(self.device, self.amp):
                made = network(part)
            unit = ((made.float() + 1) / 2).clamp(0, 1)
            out[first : first + at_once] = unit[:, 0].cpu().numpy()
        for z, image in enumerate(slices):
            if not is_usable(image):  # instance norm would make grey of air
                out[z] = image
        return np.ascontiguousarray(out[:, :height, :width].transpose(2, 1, 0))


def save_translator(
    folder: Path, to_target: Generator, to_source: Generator, config: TranslateConfig
) -> None:
    """Write ``translator.safetensors`` and ``translator.json`` atomically, the record last."""
    weights = {
        f"{name}.{key}": value.detach().cpu().contiguous()
        for name, network in (("to_target", to_target), ("to_source", to_source))
        for key, value in network.state_dict().items()
    }
    with atomic_path(folder / WEIGHTS) as part:
        save_file(weights, part)
    record = {
        "schema_version": SCHEMA,
        "architecture": Architecture.of(config).model_dump(),
        "config": config.model_dump(mode="json"),
    }
    write_json(folder / RECORD, record)


def load_translator(folder: Path, device: str) -> Translator:
    """Open what :func:`labelferry.translate.training.train` wrote.

    Raises ``UserError`` for a missing, damaged or unfitting file. Nothing in the files is run.
    """
    path = folder / RECORD
    record = read_json(path, schema=SCHEMA)
    try:
        architecture = Architecture.model_validate(record.get("architecture"))
        config = TranslateConfig.model_validate(record.get("config"))
    except ValidationError as error:
        raise UserError("not a translator's record", path=path, seen=str(error)) from error
    weights_path = folder / WEIGHTS
    if not weights_path.exists():
        raise UserError("file not found", path=weights_path)
    place = torch.device(device)
    networks = {}
    try:
        weights = load_file(weights_path)
        for name in ("to_target", "to_source"):
            with torch.device("meta"):
                network = architecture.make()
            state = {k.split(".", 1)[1]: v for k, v in weights.items() if k.startswith(f"{name}.")}
            network.load_state_dict(state, assign=True)
            network.requires_grad_(False).eval()
            networks[name] = to_place(network, place)
    except (SafetensorError, RuntimeError, OSError) as error:
        raise UserError(
            "the translator's weights are damaged or belong to another network",
            path=weights_path,
            seen=f"{type(error).__name__}: {str(error).splitlines()[0]}",
        ) from error
    return Translator(networks, place, config.amp)
