"""The training loop. Sample n is drawn from (seed, n): a killed run goes on bitwise the same."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from labelferry.errors import UserError
from labelferry.pace import Limit, Pace
from labelferry.replicas import ALONE, Team, check_devices, helped
from labelferry.segment.augment import build_transforms
from labelferry.segment.config import TrainConfig
from labelferry.segment.examples import PatchSampler, Prepared
from labelferry.segment.loading import dead_workers_told, load_batches
from labelferry.segment.loss import PartialLoss
from labelferry.segment.samples import Batch, PatchDataset, log_contrasts
from labelferry.segment.state import TrainingState
from labelferry.translate.precision import autocast, in_bf16

Progress = Callable[[int, int], None]


def fit(
    network: nn.Module,
    prepared: Sequence[Prepared],
    config: TrainConfig,
    folder: Path,
    *,
    patch: Sequence[int],
    context: int = 0,
    strides: Sequence[Sequence[int]],
    classes: int,
    seed: int,
    device: str,
    devices: int = 1,
    limit: Limit | None = None,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """Train ``network`` and return its weights (the averaged ones where asked for), on the CPU.

    Writes ``losses.jsonl`` (one line per epoch) and ``checkpoint.pt`` in ``folder`` and goes on
    from there; ``contrasts.jsonl`` shows the first contrasts of painted CT. With a ``limit`` the
    rate falls over as many epochs as fit the time, which ``steps.json`` keeps. With more
    ``devices`` each batch is divided among as many processes (see :mod:`.replicas`). Raises
    ``UserError`` when the loss is no longer a number, or a process of the training has died.
    """
    job = Job(network, prepared, config, patch, context, strides, classes, seed, device)
    if devices == 1:
        return _fit(job, folder, ALONE, limit, progress)
    check_devices(devices, config.batch, torch.device(device))
    _check_loss(config)
    with helped(_follow, (job,), devices, torch.device(device)) as team:
        return _fit(job, folder, team, limit, progress)


@dataclass(frozen=True, eq=False)
class Job:
    """What every process of a training is told; see :func:`fit`."""

    network: nn.Module
    prepared: Sequence[Prepared]
    config: TrainConfig
    patch: Sequence[int]
    context: int
    strides: Sequence[Sequence[int]]
    classes: int
    seed: int
    device: str

    @cached_property
    def dataset(self) -> PatchDataset:
        """The samples."""
        transform, initial = build_transforms(
            self.patch, self.config, self._scales, slices=self.context > 0
        )
        foreground, balanced = self.config.foreground, self.config.balanced
        sampler = PatchSampler(self.prepared, initial, foreground, balanced, self.context)
        return PatchDataset(sampler, transform, self.config, classes=self.classes, seed=self.seed)

    def loss(self, team: Team) -> PartialLoss:
        """The loss, over the batches of the whole team."""
        sizes = _sizes(self.prepared) if self.config.rarity else {}
        resolutions = len(self._scales) if self._scales else 1
        return PartialLoss(self.classes, self.config, resolutions, sizes, gather=team.size > 1)

    @property
    def _scales(self) -> list[list[float]] | None:
        return _scales(self.strides) if self.config.deep_supervision else None


def _fit(
    job: Job, folder: Path, team: Team, limit: Limit | None, progress: Progress | None
) -> dict[str, Tensor]:
    config, where = job.config, team.device(torch.device(job.device))
    network, loss = job.network.to(where), job.loss(team).to(where)
    _lay_out(network, config, where)
    log_contrasts(job.dataset, config, folder / "contrasts.jsonl")
    state = TrainingState(network, config, folder)
    start = state.resume()
    team.give({"start": start, **state.content()})
    pace = Pace(folder, config.iterations, config.iterations_per_epoch, start, limit)
    step, last_save = start, time.monotonic()
    with dead_workers_told(), closing(load_batches(job.dataset, config, start, team)) as batches:
        while step < (total := pace.total(step)):
            team.tell(step, total)
            state.set_rate(step, total)
            loss.set_progress(step / total)
            value = train_step(network, loss, next(batches), state.optimizer, config, where, team)
            if not np.isfinite(value):
                raise UserError(
                    "the training loss is not a number",
                    path=folder,
                    seen=f"step {step}: {value}",
                    fix="lower the learning rate, or train with amp = 'fp32'",
                )
            state.average(step)
            state.log(step, value)
            step += 1
            pace.made(step)
            if progress:
                progress(step, pace.total(step))
            if time.monotonic() - last_save > config.checkpoint_seconds:
                state.save(step)
                last_save = time.monotonic()
    state.save(step)
    return state.final_weights()


def _follow(team: Team, job: Job) -> None:
    """A process that helps: the same steps on its share of every batch. It writes nothing."""
    where = team.device(torch.device(job.device))
    # on a CPU torch hands tensors over as shared memory: a step here would move the first one's too
    network, loss = copy.deepcopy(job.network).to(where), job.loss(team).to(where)
    _lay_out(network, job.config, where)
    state = TrainingState(network, job.config, Path())
    given = team.get()
    state.take(given)
    with closing(load_batches(job.dataset, job.config, given["start"], team)) as batches:
        for step, total in team.orders():
            state.set_rate(step, total)
            loss.set_progress(step / total)
            train_step(network, loss, next(batches), state.optimizer, job.config, where, team)


def train_step(
    network: nn.Module,
    loss: PartialLoss,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    device: torch.device,
    team: Team = ALONE,
) -> float:
    """One optimiser step on a batch; returns its loss, the team's mean."""
    network.train()
    optimizer.zero_grad(set_to_none=True)
    data = batch.data.to(device, non_blocking=True)
    with autocast(device, config.amp):
        outputs = network(data.contiguous(memory_format=_layout(data.ndim, config, device)))
    outputs = outputs if isinstance(outputs, list) else [outputs]
    targets = [target.to(device, non_blocking=True) for target in batch.targets]
    value: Tensor = loss(outputs, targets, batch.annotated.to(device))
    value.backward()  # type: ignore[no-untyped-call]
    value = team.average(network.parameters(), value.view(1))
    nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip)
    optimizer.step()
    return float(value.detach())


def _lay_out(network: nn.Module, config: TrainConfig, device: torch.device) -> None:
    """Lay the weights out as the batches are: convolutions need not turn them at each step."""
    for weight in network.parameters():
        if weight.ndim > 3:
            format = _layout(weight.ndim, config, device)
            weight.data = weight.data.contiguous(memory_format=format)


def _layout(axes: int, config: TrainConfig, device: torch.device) -> torch.memory_format:
    """Channels last for slices in bfloat16: on a CPU a step took 0.60 CPU s instead of 0.71. In
    single precision it took 1.49 instead of 1.35, and volumes gain nothing."""
    if axes == 4 and in_bf16(device, config.amp):
        return torch.channels_last
    return torch.contiguous_format


def _check_loss(config: TrainConfig) -> None:
    if config.class_weight != 1 or config.rarity or config.dice_present:
        raise UserError(
            "a loss that weighs or leaves out organs cannot be divided among devices",
            seen=f"class_weight {config.class_weight}, rarity {config.rarity}, "
            f"dice_present {config.dice_present}",
            allowed="class_weight 1, rarity 0, dice_present false",
            fix="train with devices = 1",
        )


def _sizes(prepared: Sequence[Prepared]) -> dict[int, int]:
    """Voxels of each organ in the whole training set."""
    total: Counter[int] = Counter()
    for example in prepared:
        total.update(example.counts)
    return dict(total)


def _scales(strides: Sequence[Sequence[int]]) -> list[list[float]]:
    """Resolution of each output of the decoder relative to the patch, fine to coarse."""
    steps = np.cumprod(np.vstack(strides), axis=0)
    return [[float(v) for v in 1 / row] for row in steps[:-1]]
