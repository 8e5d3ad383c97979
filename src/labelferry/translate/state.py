"""All that a training of the translators is made of between two steps, and its way to the disk."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from labelferry.files import atomic_path, hash_file, hash_value
from labelferry.translate.config import TranslateConfig
from labelferry.translate.networks import Discriminator, Generator

_LOG = logging.getLogger(__name__)
SCHEMA = 1
CHECKPOINT = "checkpoint.pt"
LOSSES = "losses.jsonl"
_NOT_DECISIVE = {"enabled", "space", "per_domain", "checkpoint_every", "samples_every", "audit"}


@dataclass(frozen=True, eq=False)
class State:
    """Networks, optimisers and pools; they change in place."""

    to_target: Generator
    """T_t"""
    to_source: Generator
    """T_s"""
    d_t: Discriminator
    d_s: Discriminator
    average: Generator | None
    """Averaged weights of T_t, where the configuration asks for them."""
    optimizer_t: torch.optim.Adam
    """Of both translators."""
    optimizer_d: torch.optim.Adam
    """Of both discriminators."""
    pool_t: list[Tensor] = field(default_factory=list)
    """Earlier fakes for D_t."""
    pool_s: list[Tensor] = field(default_factory=list)
    """Earlier fakes for D_s."""

    @property
    def parts(self) -> dict[str, nn.Module | torch.optim.Optimizer]:
        """Everything with a ``state_dict``, by name."""
        parts: dict[str, nn.Module | torch.optim.Optimizer] = {
            "to_target": self.to_target,
            "to_source": self.to_source,
            "d_t": self.d_t,
            "d_s": self.d_s,
            "optimizer_t": self.optimizer_t,
            "optimizer_d": self.optimizer_d,
        }
        return parts if self.average is None else parts | {"average": self.average}

    def content(self) -> dict[str, Any]:
        """All of it as tensors and numbers."""
        parts = {name: part.state_dict() for name, part in self.parts.items()}
        return {"parts": parts, "pools": [self.pool_t, self.pool_s]}

    def take(self, content: Mapping[str, Any]) -> None:
        """Become what :meth:`content` was."""
        for name, part in self.parts.items():
            part.load_state_dict(content["parts"][name])
        device = next(self.to_target.parameters()).device
        for pool, kept in zip((self.pool_t, self.pool_s), content["pools"], strict=True):
            pool[:] = [fake.to(device) for fake in kept]


def signature(
    source: Sequence[Path], target: Sequence[Path], config: TranslateConfig, seed: int
) -> str:
    """A hash of all that decides the result: a checkpoint of another signature is not used."""
    settings = config.model_dump(mode="json", exclude=_NOT_DECISIVE)
    images = [[hash_file(path) for path in paths] for paths in (source, target)]
    return hash_value({"settings": settings, "images": images, "seed": seed})


def save(folder: Path, state: State, done: int, sign: str) -> None:
    """Write ``checkpoint.pt`` atomically: ``done`` steps have been made."""
    content = {"schema_version": SCHEMA, "signature": sign, "done": done, **state.content()}
    with atomic_path(folder / CHECKPOINT) as part:
        torch.save(content, part)


def restore(folder: Path, state: State, sign: str) -> int:
    """Bring ``state`` to the checkpoint in ``folder``; the number of steps that it has made.

    0 where there is none, or one that belongs to other images or settings or cannot be read.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return 0
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        fits = content["schema_version"] == SCHEMA and content["signature"] == sign
    except (RuntimeError, EOFError, OSError, KeyError, TypeError, pickle.UnpicklingError) as error:
        _LOG.warning("%s cannot be read, starting anew: %s", path.name, error)
        return 0
    if not fits:
        _LOG.warning("%s belongs to other images or settings, starting anew", path.name)
        return 0
    state.take(content)
    done = int(content["done"])
    _LOG.info("going on after step %d", done)
    return done


def is_finite(state: State) -> bool:
    """Whether every weight of the networks is a number."""
    networks = (part for part in state.parts.values() if isinstance(part, nn.Module))
    values = (value for network in networks for value in network.parameters())
    return all(bool(torch.isfinite(value).all()) for value in values)


def remove(folder: Path) -> None:
    """Remove the checkpoint of a finished training."""
    (folder / CHECKPOINT).unlink(missing_ok=True)


class Losses:
    """``losses.jsonl``: one line of JSON a step. Opening keeps the first ``done`` lines only."""

    def __init__(self, folder: Path, done: int) -> None:
        path = folder / LOSSES
        kept = path.read_bytes().splitlines(keepends=True)[:done] if path.exists() else []
        self.cycles: list[float] = [json.loads(line)["cyc"] for line in kept]
        """The cycle loss of every step so far."""
        with atomic_path(path) as part:
            part.write_bytes(b"".join(kept))
        self._stream = path.open("a", encoding="utf-8", newline="\n")

    def write(self, step: int, values: dict[str, float]) -> None:
        """Add the line of one step."""
        self._stream.write(json.dumps({"step": step} | values) + "\n")
        self.cycles.append(values["cyc"])

    def flush(self) -> None:
        """Hand what was written to the operating system."""
        self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self._stream.close()
