"""The state of a training between two steps: what a checkpoint holds, and how to go on from one."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from labelferry.files import atomic_path
from labelferry.segment.config import TrainConfig

log = logging.getLogger(__name__)


class TrainingState:
    """Everything that a checkpoint holds, and how to go on from one."""

    def __init__(self, network: nn.Module, config: TrainConfig, folder: Path) -> None:
        self.network, self.config = network, config
        self.path = folder / "checkpoint.pt"
        self.log_path = folder / "losses.jsonl"
        self.optimizer = _optimizer(network, config)
        self.averaged = (
            {k: v.detach().clone() for k, v in network.state_dict().items()}
            if config.average
            else None
        )
        self.running: list[float] = []
        self.lines: list[str] = []

    def resume(self) -> int:
        """Load the checkpoint if there is one; returns the step to go on with."""
        if not self.path.exists():
            return 0
        saved = torch.load(self.path, map_location="cpu", weights_only=True)
        self.take(saved)
        if self.averaged is not None:
            self.averaged = {k: v.to(self.averaged[k].device) for k, v in saved["averaged"].items()}
        self.running, self.lines = list(saved["running"]), list(saved["lines"])
        log.info("training goes on from step %d", saved["step"])
        return int(saved["step"])

    def content(self) -> dict[str, Any]:
        """What decides the next step."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def take(self, content: Mapping[str, Any]) -> None:
        """Become what another process, or this one before a kill, was."""
        self.network.load_state_dict(content["network"])
        self.optimizer.load_state_dict(content["optimizer"])

    def save(self, step: int) -> None:
        """Write a checkpoint atomically."""
        saved = {
            "step": step,
            **self.content(),
            "averaged": self.averaged,
            "running": self.running,
            "lines": self.lines,
        }
        with atomic_path(self.path) as part:
            torch.save(saved, part)

    def set_rate(self, step: int, total: int) -> None:
        """Table 4: (1 − epoch/epochs)^0.9, with a linear rise over the first steps if asked."""
        epoch, epochs = (n // self.config.iterations_per_epoch for n in (step, total))
        rate = self.config.learning_rate * (1 - epoch / epochs) ** self.config.poly
        if step < self.config.warmup:
            rate *= (step + 1) / self.config.warmup
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    @torch.no_grad()
    def average(self, step: int) -> None:
        """Exponential moving average, shorter at the beginning."""
        if self.averaged is None:
            return
        decay = min(self.config.average, (step + 1) / (step + 10))
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.averaged[name].lerp_(value, 1 - decay)
            else:
                self.averaged[name].copy_(value)

    def log(self, step: int, value: float) -> None:
        """One line per epoch with the mean loss."""
        self.running.append(value)
        if (step + 1) % self.config.iterations_per_epoch == 0:
            rate = self.optimizer.param_groups[0]["lr"]
            mean = sum(self.running) / len(self.running)
            self.lines.append(json.dumps({"step": step + 1, "loss": round(mean, 6), "lr": rate}))
            self.running = []
            with atomic_path(self.log_path) as part:
                part.write_text("\n".join(self.lines) + "\n", encoding="utf-8")

    def final_weights(self) -> dict[str, Tensor]:
        """The weights to keep."""
        kept = self.network.state_dict() if self.averaged is None else self.averaged
        return {k: v.detach().cpu().contiguous().clone() for k, v in kept.items()}


def _optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            network.parameters(),
            config.learning_rate,
            momentum=0.99,
            nesterov=True,
            weight_decay=config.weight_decay,
        )
    return torch.optim.AdamW(
        network.parameters(), config.learning_rate, weight_decay=config.weight_decay
    )
