"""The training loop. Sample n is drawn from (seed, n): a killed run goes on bitwise the same."""

from __future__ import annotations

import copy
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from queue import Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from labelferry.errors import UserError
from labelferry.files import atomic_path
from labelferry.pace import Limit, Pace
from labelferry.segment.augment import Transform, apply, build_transforms
from labelferry.segment.config import TrainConfig
from labelferry.segment.contrast import Contrast, draw_contrast, paint
from labelferry.segment.convolutions import convolve, draw_convolutions
from labelferry.segment.curves import draw_curve, draw_scanner, repaint
from labelferry.segment.examples import Patch, PatchSampler, Prepared
from labelferry.segment.loss import PartialLoss
from labelferry.segment.replicas import Team, check_devices, device_of, helped
from labelferry.translate.precision import autocast

Progress = Callable[[int, int], None]
Item = TypeVar("Item")
log = logging.getLogger(__name__)
_LOGGED_CONTRASTS = 50


@dataclass(frozen=True, eq=False)
class Batch:
    """A step's patches: data (B, c, …), labels per resolution (B, 1, …), annotated (B, classes)."""

    data: Tensor
    targets: list[Tensor]
    annotated: Tensor


class PatchDataset(Dataset[tuple[Tensor, list[Tensor], Tensor]]):
    """Sample n of a training, whichever process asks for it."""

    def __init__(
        self,
        sampler: PatchSampler,
        transform: Transform,
        config: TrainConfig,
        *,
        classes: int,
        seed: int,
    ) -> None:
        self.sampler, self.transform, self.config = sampler, transform, config
        self.classes, self.seed = classes, seed
        # an organ that no example annotates is nowhere, else the network may call any background it
        examples = [p.example for p in sampler.prepared]
        taught = {organ for example in examples for organ in example.annotated}
        self.paints = any(example.randomise == "paint" for example in examples)
        self.untaught = sorted(set(range(1, classes)) - taught)

    def __getitem__(self, n: int) -> tuple[Tensor, list[Tensor], Tensor]:
        rng = np.random.default_rng((self.seed, n))
        patch = self.sampler.draw(rng)
        source = patch.source
        data = self._randomised(patch, rng)
        image, targets = apply(self.transform, data, patch.labels, rng)
        annotated = torch.zeros(self.classes, dtype=torch.bool)
        annotated[[0, *sorted(source.example.annotated), *self.untaught]] = True
        return image, targets, annotated

    def _randomised(self, patch: Patch, rng: np.random.Generator) -> NDArray[np.float32]:
        source, data = patch.source, patch.data
        how = source.example.randomise
        if how == "curves" and rng.random() < self.config.curves_p:
            scanner = draw_scanner(rng, data.ndim - 1)
            return repaint(data, source.range, source.histogram, draw_curve(rng), scanner)
        if how == "convolutions":
            network = draw_convolutions(rng)
            scanner = draw_scanner(rng, data.ndim - 1)
            return convolve(data, source.range, patch.labels[0] >= 0, network, scanner)
        if how == "paint":
            assert patch.classes is not None and source.composition is not None
            return paint(data, patch.classes, source.composition, _contrast(patch, rng))
        return data

    def contrast(self, n: int) -> Contrast | None:
        """What sample n is painted with; None where its image is not painted."""
        rng = np.random.default_rng((self.seed, n))
        patch = self.sampler.draw(rng)
        return _contrast(patch, rng) if patch.source.example.randomise == "paint" else None


def _contrast(patch: Patch, rng: np.random.Generator) -> Contrast:
    assert patch.source.composition is not None
    return draw_contrast(rng, len(patch.source.composition.share), patch.data.ndim - 1)


def _log_contrasts(dataset: PatchDataset, config: TrainConfig, path: Path) -> None:
    """Write the first contrasts, one line a sample; any other follows from the seed as well."""
    if not dataset.paints:
        return
    samples = range(min(_LOGGED_CONTRASTS, config.iterations * config.batch))
    drawn = {n: dataset.contrast(n) for n in samples}
    lines = [json.dumps({"sample": n, **c.to_json()}) for n, c in drawn.items() if c is not None]
    if lines:
        with atomic_path(path) as part:
            part.write_text("\n".join(lines) + "\n", encoding="utf-8")


def collate(samples: Sequence[tuple[Tensor, list[Tensor], Tensor]]) -> Batch:
    """Stack samples to a batch."""
    images, targets, annotated = zip(*samples, strict=True)
    return Batch(
        torch.stack(images),
        [torch.stack(level) for level in zip(*targets, strict=True)],
        torch.stack(annotated),
    )


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
        return _fit(job, folder, None, limit, progress)
    check_devices(devices, config, torch.device(device))
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

    def loss(self, team: Team | None) -> PartialLoss:
        """The loss, over the batches of the whole team."""
        sizes = _sizes(self.prepared) if self.config.rarity else {}
        resolutions = len(self._scales) if self._scales else 1
        return PartialLoss(self.classes, self.config, resolutions, sizes, gather=team is not None)

    @property
    def _scales(self) -> list[list[float]] | None:
        return _scales(self.strides) if self.config.deep_supervision else None


def _fit(
    job: Job, folder: Path, team: Team | None, limit: Limit | None, progress: Progress | None
) -> dict[str, Tensor]:
    config, where = job.config, torch.device(job.device)
    if team:
        where = device_of(0, where)
    network, loss = job.network.to(where), job.loss(team).to(where)
    _log_contrasts(job.dataset, config, folder / "contrasts.jsonl")
    state = TrainingState(network, config, folder)
    start = state.resume()
    if team:
        team.give({"start": start, **state.content()})
    pace = Pace(folder, config.iterations, config.iterations_per_epoch, start, limit)
    step, last_save = start, time.monotonic()
    with dead_workers_told(), closing(_batches(job.dataset, config, start, team)) as batches:
        while step < (total := pace.total(step)):
            if team:
                team.tell(step, total)
            state.set_rate(step, total)
            loss.set_progress(step / total)
            value = _step(network, loss, next(batches), state.optimizer, config, where, team)
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
    where = device_of(team.rank, torch.device(job.device))
    # on a CPU torch hands tensors over as shared memory: a step here would move the first one's too
    network, loss = copy.deepcopy(job.network).to(where), job.loss(team).to(where)
    state = TrainingState(network, job.config, Path())
    given = team.get()
    state.take(given)
    with closing(_batches(job.dataset, job.config, given["start"], team)) as batches:
        for step, total in team.orders():
            state.set_rate(step, total)
            loss.set_progress(step / total)
            _step(network, loss, next(batches), state.optimizer, job.config, where, team)


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


def _step(
    network: nn.Module,
    loss: PartialLoss,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    config: TrainConfig,
    device: torch.device,
    team: Team | None = None,
) -> float:
    network.train()
    optimizer.zero_grad(set_to_none=True)
    with autocast(device, config.amp):
        outputs = network(batch.data.to(device, non_blocking=True))
    outputs = outputs if isinstance(outputs, list) else [outputs]
    targets = [target.to(device, non_blocking=True) for target in batch.targets]
    value: Tensor = loss(outputs, targets, batch.annotated.to(device))
    value.backward()  # type: ignore[no-untyped-call]
    if team:
        value = team.average(network, value)
    nn.utils.clip_grad_norm_(network.parameters(), config.gradient_clip)
    optimizer.step()
    return float(value.detach())


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


def _batches(
    dataset: PatchDataset, config: TrainConfig, start: int, team: Team | None
) -> Generator[Batch, None, None]:
    team = team or Team(0, 1)
    indices = team.samples(config, start)
    loader = DataLoader(
        dataset,
        batch_size=config.batch // team.size,
        sampler=indices,
        collate_fn=collate,
        num_workers=config.workers,
        generator=torch.Generator().manual_seed(0),
        multiprocessing_context="spawn" if config.workers else None,
    )
    if config.workers:
        yield from loader
        return
    with closing(ahead(loader)) as batches:
        yield from batches


@contextmanager
def dead_workers_told() -> Iterator[None]:
    """Say in words that a process of a ``DataLoader`` has died.

    Torch hears of it by a signal, wherever the training just is, or within five seconds when it
    waits for a batch. A process that is only slow is waited for.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):
            raise  # of another kind, or from within a sample
        raise UserError(
            "a process that prepares patches has died (out of memory?)",
            seen=str(error).splitlines()[0],
            fix="give the same command again with fewer of them (train.workers; 0 needs none)",
        ) from error


def ahead(items: Iterable[Item], slots: int = 2) -> Generator[Item, None, None]:
    """Let one thread make the next items while the caller works on the last.

    Patches draw from the global generators under a seed of their own (see ``augment.seeded``), and
    nothing else in training draws from them, so that the order of threads decides nothing.
    """
    queue: Queue[tuple[bool, Item | BaseException | None]] = Queue(slots)
    stop = Event()

    def put(value: tuple[bool, Item | BaseException | None]) -> None:
        while not stop.is_set():
            try:
                return queue.put(value, timeout=0.1)
            except Full:
                continue

    def work() -> None:
        try:
            for item in items:
                if stop.is_set():
                    return
                put((True, item))
            put((False, None))
        except BaseException as error:  # told in the caller's thread
            put((False, error))

    thread = Thread(target=work, name="patches", daemon=True)
    thread.start()
    try:
        while True:
            more, value = queue.get()
            if not more:
                if value is not None:
                    assert isinstance(value, BaseException)
                    raise value
                return
            yield value  # type: ignore[misc]
    finally:
        stop.set()
        thread.join()


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
