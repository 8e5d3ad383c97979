"""Training of the two translators against the two discriminators (paper 2.1, eq. 1-4)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from labelferry.pace import Limit, Pace
from labelferry.replicas import ALONE, Team, check_devices, helped
from labelferry.translate import state as states
from labelferry.translate.apply import Architecture, save_translator
from labelferry.translate.checks import Draws, check_losses, check_weights
from labelferry.translate.config import TranslateConfig
from labelferry.translate.networks import MULTIPLE, Discriminator, Generator, build
from labelferry.translate.samples import write_samples
from labelferry.translate.slices import Slices, gather, rounded_up
from labelferry.translate.state import State
from labelferry.translate.step import one_step
from labelferry.translate.stopping import is_over

_EPOCH = 25
"""Steps in whose multiples a training is cut to the time there is."""


def train(
    source: Sequence[Path],
    target: Sequence[Path],
    config: TranslateConfig,
    folder: Path,
    *,
    seed: int,
    device: str,
    devices: int = 1,
    names: tuple[Sequence[str], Sequence[str]] | None = None,
    samples: Path | None = None,
    limit: Limit | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Train on prepared images (x, y, z) in [0, 1] and write the translators into ``folder``.

    Writes ``translator.safetensors``, ``translator.json`` and ``losses.jsonl``. After a kill, the
    same call goes on from ``checkpoint.pt`` and ends as if nothing had happened, bit by bit on a
    CPU with the same number of threads. No global random state is read or changed.
    With more ``devices`` each batch is divided among as many processes, a GPU each; the result is
    that of one up to rounding.
    ``names`` of the cases of both sides are for messages; pictures (``config.samples_every``) go
    into the folder ``samples``, where there is one. ``progress(done, total)`` is called after
    every step. With a ``limit`` the rate falls over as many steps as fit the time, which
    ``steps.json`` keeps. Returns the number of steps, less than ``config.iterations`` where
    training has ended early. Raises ``UserError`` where a side has no image, an image has no usable
    slice, a loss or a weight is not finite (the last checkpoint then holds the last good state), or
    a process of the training has died.
    """
    folder.mkdir(parents=True, exist_ok=True)
    job = Job(source, target, config, folder, seed, device, names or (None, None))
    if devices == 1:
        return _train(job, ALONE, samples, limit, progress)
    check_devices(devices, config.batch, torch.device(device))
    with helped(_follow, (job,), devices, torch.device(device)) as team:
        return _train(job, team, samples, limit, progress)


@dataclass(frozen=True, eq=False)
class Job:
    """What every process of a training is told; see :func:`train`."""

    source: Sequence[Path]
    target: Sequence[Path]
    config: TranslateConfig
    folder: Path
    seed: int
    device: str
    names: tuple[Sequence[str] | None, Sequence[str] | None]

    def begin(self, team: Team) -> tuple[State, Draws]:
        """The first state on this process's device, and what its batches are drawn from."""
        state = start(self.config, self.seed, team.device(torch.device(self.device)))
        sides = (
            gather(self.source, "source", self.folder, self.names[0]),
            gather(self.target, "target", self.folder, self.names[1]),
        )
        size = slice_size(sides, self.config, state.d_t.smallest)
        return state, Draws(sides, size, self.config, self.seed)


def _train(
    job: Job,
    team: Team,
    samples: Path | None,
    limit: Limit | None,
    progress: Callable[[int, int], None] | None,
) -> int:
    config, folder = job.config, job.folder
    state, draws = job.begin(team)
    sign = states.signature(job.source, job.target, config, job.seed)
    first = states.restore(folder, state, sign)
    done = first
    team.give(state.content())
    pace = Pace(folder, config.iterations, _EPOCH, first, limit)
    with states.Losses(folder, first) as log:
        while done < (total := pace.total(done)) and not is_over(log.cycles, config):
            team.tell(done, total)
            found = _step(state, draws, done, total, team)
            check_losses(found, draws, done)
            log.write(done, found)
            done += 1
            pace.made(done)
            over = done == pace.total(done) or is_over(log.cycles, config)
            if over or done % config.checkpoint_every == 0:
                check_weights(state, draws, done - 1)
                log.flush()
                states.save(folder, state, done, sign)
            if samples and config.samples_every and (over or done % config.samples_every == 0):
                write_samples(samples, state, draws.sides, draws.size, config, done)
            if progress is not None:
                progress(done, pace.total(done))
    save_translator(folder, state.average or state.to_target, state.to_source, config)
    states.remove(folder)
    return done


def _follow(team: Team, job: Job) -> None:
    """A process that helps: the same steps on its share of every batch. It writes nothing."""
    state, draws = job.begin(team)
    state.take(team.get())
    for done, total in team.orders():
        _step(state, draws, done, total, team)


def _step(state: State, draws: Draws, done: int, total: int, team: Team) -> dict[str, float]:
    now = draws.config.model_copy(update={"iterations": total})
    return one_step(state, draws.sides, draws.size, now, done, draws.of(done), team)


def start(config: TranslateConfig, seed: int, device: torch.device) -> State:
    """Networks with their first weights, drawn from ``seed``; optimisers; empty pools."""
    numbers = torch.Generator().manual_seed(seed)
    architecture = Architecture.of(config)

    def discriminator() -> Discriminator:
        return Discriminator(config.discriminator_channels, config.discriminator_layers)

    to_target: Generator = build(architecture.make, numbers).to(device)
    to_source: Generator = build(architecture.make, numbers).to(device)
    d_t: Discriminator = build(discriminator, numbers).to(device)
    d_s: Discriminator = build(discriminator, numbers).to(device)
    average = copy.deepcopy(to_target).requires_grad_(False) if config.average else None

    def adam(one: nn.Module, other: nn.Module) -> torch.optim.Adam:
        weights = [*one.parameters(), *other.parameters()]
        return torch.optim.Adam(weights, config.learning_rate, config.betas)

    return State(
        to_target, to_source, d_t, d_s, average, adam(to_target, to_source), adam(d_t, d_s)
    )


def slice_size(
    sides: tuple[Slices, Slices], config: TranslateConfig, smallest: int
) -> tuple[int, int]:
    """(y, x) of the training slices: ``config.crop``, or less where no slice is as large."""
    y, x = (
        min(wanted, max(side.largest[axis] for side in sides))
        for axis, wanted in enumerate(reversed(config.crop))
    )
    return rounded_up(y, MULTIPLE, smallest), rounded_up(x, MULTIPLE, smallest)
