"""Training of the two translators against the two discriminators (paper 2.1, eq. 1-4).

Symbols: T_t ``to_target``, T_s ``to_source``, D_t ``d_t``, D_s ``d_s``. The names of the losses are
those of the log: ``gan_t``, ``gan_s``, ``cyc``, ``identity``, ``d_t``, ``d_s``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from labelferry.pace import Limit, Pace
from labelferry.translate import losses, pool
from labelferry.translate import state as states
from labelferry.translate.apply import Architecture, save_translator
from labelferry.translate.checks import Draws, Rngs, check_losses, check_weights
from labelferry.translate.config import TranslateConfig
from labelferry.translate.networks import MULTIPLE, Discriminator, Generator, build
from labelferry.translate.precision import autocast
from labelferry.translate.samples import write_samples
from labelferry.translate.slices import Slices, gather, rounded_up
from labelferry.translate.state import State
from labelferry.translate.stopping import is_over

_EPOCH = 25
"""Steps in whose multiples a training is cut to the time there is."""


@dataclass(frozen=True, eq=False)
class Made:
    """What the translators made of one batch; every tensor is (batch, 1, y, x) in [-1, 1]."""

    source: Tensor
    target: Tensor
    fake_target: Tensor
    """T_t(X^s)"""
    fake_source: Tensor
    """T_s(X^t)"""
    source_back: Tensor
    """T_s(T_t(X^s))"""
    target_back: Tensor
    """T_t(T_s(X^t))"""
    kept_by_to_target: Tensor
    """T_t of the image that eq. 3 gives it"""
    kept_by_to_source: Tensor
    """T_s of the image that eq. 3 gives it"""

    def false_source(self, reading: losses.Reading) -> Tensor:
        """What D_s must tell from a source image: X^{s'} as printed, T_s(X^t) in CycleGAN."""
        return self.source_back if reading == "paper" else self.fake_source


def train(
    source: Sequence[Path],
    target: Sequence[Path],
    config: TranslateConfig,
    folder: Path,
    *,
    seed: int,
    device: str,
    names: tuple[Sequence[str], Sequence[str]] | None = None,
    samples: Path | None = None,
    limit: Limit | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Train on prepared images (x, y, z) in [0, 1] and write the translators into ``folder``.

    Writes ``translator.safetensors``, ``translator.json`` and ``losses.jsonl``. After a kill, the
    same call goes on from ``checkpoint.pt`` and ends as if nothing had happened, bit by bit on a
    CPU with the same number of threads. No global random state is read or changed.
    ``names`` of the cases of both sides are for messages; pictures (``config.samples_every``) go
    into the folder ``samples``, where there is one. ``progress(done, total)`` is called after
    every step. With a ``limit`` the rate falls over as many steps as fit the time, which
    ``steps.json`` keeps. Returns the number of steps, less than ``config.iterations`` where
    training has ended early. Raises ``UserError`` where a side has no image, an image has no usable
    slice, or a loss or a weight is not finite: the last checkpoint then holds the last good state.
    """
    folder.mkdir(parents=True, exist_ok=True)
    called = names or (None, None)
    sides = (
        gather(source, "source", folder, called[0]),
        gather(target, "target", folder, called[1]),
    )
    state = start(config, seed, torch.device(device))
    size = slice_size(sides, config, state.d_t.smallest)
    draws = Draws(sides, size, config, seed)
    sign = states.signature(source, target, config, seed)
    first = states.restore(folder, state, sign)
    done = first
    pace = Pace(folder, config.iterations, _EPOCH, first, limit)
    with states.Losses(folder, first) as log:
        while done < (total := pace.total(done)) and not is_over(log.cycles, config):
            now = config.model_copy(update={"iterations": total})
            found = one_step(state, sides, size, now, done, draws.of(done))
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
                write_samples(samples, state, sides, size, config, done)
            if progress is not None:
                progress(done, pace.total(done))
    save_translator(folder, state.average or state.to_target, state.to_source, config)
    states.remove(folder)
    return done


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


def one_step(
    state: State,
    sides: tuple[Slices, Slices],
    size: tuple[int, int],
    config: TranslateConfig,
    step: int,
    rngs: Rngs,
) -> dict[str, float]:
    """One step of the translators, then one of the discriminators; the losses by name."""
    device = next(state.to_target.parameters()).device
    source, target = (_batch(side, size, rngs, device) for side in sides)
    for optimizer in (state.optimizer_t, state.optimizer_d):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * rate(step, config)

    # the translators learn: the discriminators stand still, and no gradient is spent on them
    _learn(False, state.d_t, state.d_s)
    with autocast(device, config.amp):
        made = forward(state, source, target, config)
        found = backward_t(state, made, config)
    state.optimizer_t.step()
    state.optimizer_t.zero_grad()
    if state.average is not None:
        follow(state.average, state.to_target, config.average, step)

    _learn(True, state.d_t, state.d_s)
    with autocast(device, config.amp):
        found |= backward_d(state, made, config, rngs)
    state.optimizer_d.step()
    state.optimizer_d.zero_grad()

    values = torch.stack(list(found.values())).tolist()  # one wait for the device, not six
    return dict(zip(found, values, strict=True))


def forward(state: State, source: Tensor, target: Tensor, config: TranslateConfig) -> Made:
    """There and back again, for both sides, and what eq. 3 asks for."""
    to_target, to_source = state.to_target, state.to_source
    kept_by_to_target, kept_by_to_source = target, source  # eq. 3 is 0 where its weight is
    if config.lambda_identity and config.identity == "cyclegan":
        # instance norm keeps slices apart: one call for two batches gives the same, sooner
        fake_target, kept_by_to_target = to_target(torch.cat([source, target])).chunk(2)
        fake_source, kept_by_to_source = to_source(torch.cat([target, source])).chunk(2)
    else:
        fake_target, fake_source = to_target(source), to_source(target)
    if config.identity == "paper":
        kept_by_to_target, kept_by_to_source = fake_target, fake_source
    return Made(
        source,
        target,
        fake_target.float(),
        fake_source.float(),
        to_source(fake_target).float(),
        to_target(fake_source).float(),
        kept_by_to_target.float(),
        kept_by_to_source.float(),
    )


def backward_t(state: State, made: Made, config: TranslateConfig) -> dict[str, Tensor]:
    """Eq. 4 for T_t and T_s: leave its gradient in their weights; its terms by name."""
    false_source = made.false_source(config.source_adversary)
    gan_t = losses.gan_loss_generator(state.d_t(made.fake_target).float(), config.gan_loss)
    gan_s = losses.gan_loss_generator(state.d_s(false_source).float(), config.gan_loss)
    cyc = losses.cycle_loss(made.source, made.source_back, made.target, made.target_back)
    identity = losses.identity_loss(
        made.source, made.target, made.kept_by_to_target, made.kept_by_to_source, config.identity
    )
    total = losses.full_loss(
        gan_s, gan_t, cyc, identity, config.lambda_cycle, config.lambda_identity
    )
    total.backward()  # type: ignore[no-untyped-call]
    found = {"gan_t": gan_t, "gan_s": gan_s, "cyc": cyc, "identity": identity}
    return {name: value.detach() for name, value in found.items()}


def backward_d(state: State, made: Made, config: TranslateConfig, rngs: Rngs) -> dict[str, Tensor]:
    """Eq. 1 for D_t and D_s: leave its gradient in their weights; both by name.

    Halved as in CycleGAN, which slows the discriminators against the translators.
    """
    false_source = made.false_source(config.source_adversary)
    found = {}
    for name, judge, real, fake, kept in (
        ("d_t", state.d_t, made.target, made.fake_target, state.pool_t),
        ("d_s", state.d_s, made.source, false_source, state.pool_s),
    ):
        shown = pool.draw(kept, fake, config.pool, rngs)
        on_real, on_fake = judge(torch.cat([real, shown])).float().chunk(2)
        loss = losses.gan_loss_discriminator(on_real, on_fake, config.gan_loss) / 2
        loss.backward()  # type: ignore[no-untyped-call]
        found[name] = loss.detach()
    return found


def rate(step: int, config: TranslateConfig) -> float:
    """Share of the learning rate at a step: 1, then falling linearly to 0 at the end."""
    flat = config.decay_from * config.iterations
    if step < flat:
        return 1.0
    return (config.iterations - step) / (config.iterations - flat)


def follow(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move averaged weights towards the newest; faster at first, when these are still far off."""
    share = 1 - min(decay, (step + 1) / (step + 10))
    with torch.no_grad():
        for slow, new in zip(average.parameters(), network.parameters(), strict=True):
            slow.lerp_(new, share)


def slice_size(
    sides: tuple[Slices, Slices], config: TranslateConfig, smallest: int
) -> tuple[int, int]:
    """(y, x) of the training slices: ``config.crop``, or less where no slice is as large."""
    y, x = (
        min(wanted, max(side.largest[axis] for side in sides))
        for axis, wanted in enumerate(reversed(config.crop))
    )
    return rounded_up(y, MULTIPLE, smallest), rounded_up(x, MULTIPLE, smallest)


def _batch(side: Slices, size: tuple[int, int], rngs: Rngs, device: torch.device) -> Tensor:
    slices = np.stack([side.draw(rng, size) for rng in rngs])
    batch = torch.from_numpy(slices)[:, None].to(device) * 2 - 1
    return batch.contiguous(memory_format=torch.channels_last)


def _learn(on: bool, *networks: nn.Module) -> None:
    for network in networks:
        network.requires_grad_(on)
