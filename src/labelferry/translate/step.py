"""One step of the two translators and the two discriminators (paper 2.1, eq. 1-4).

Symbols: T_t ``to_target``, T_s ``to_source``, D_t ``d_t``, D_s ``d_s``. The names of the losses are
those of the log: ``gan_t``, ``gan_s``, ``cyc``, ``identity``, ``d_t``, ``d_s``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from labelferry.replicas import ALONE, Team
from labelferry.translate import losses, pool
from labelferry.translate.checks import Rngs
from labelferry.translate.config import TranslateConfig
from labelferry.translate.precision import autocast
from labelferry.translate.slices import Slices
from labelferry.translate.state import State


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


def one_step(
    state: State,
    sides: tuple[Slices, Slices],
    size: tuple[int, int],
    config: TranslateConfig,
    step: int,
    rngs: Rngs,
    team: Team = ALONE,
) -> dict[str, float]:
    """One step of the translators, then one of the discriminators; the losses by name.

    With a team: on this process's share of the batch, with the gradients and losses of all of it.
    """
    device = next(state.to_target.parameters()).device
    source, target = (_batch(side, size, rngs, device, team) for side in sides)
    for optimizer in (state.optimizer_t, state.optimizer_d):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * rate(step, config)

    # the translators learn: the discriminators stand still, and no gradient is spent on them
    _learn(False, state.d_t, state.d_s)
    with autocast(device, config.amp):
        made = forward(state, source, target, config)
        found = backward_t(state, made, config)
    found = _averaged(team, (state.to_target, state.to_source), found)
    state.optimizer_t.step()
    state.optimizer_t.zero_grad()
    if state.average is not None:
        follow(state.average, state.to_target, config.average, step)

    _learn(True, state.d_t, state.d_s)
    with autocast(device, config.amp):
        judged = backward_d(state, made, config, rngs, team)
    found |= _averaged(team, (state.d_t, state.d_s), judged)
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


def backward_d(
    state: State, made: Made, config: TranslateConfig, rngs: Rngs, team: Team = ALONE
) -> dict[str, Tensor]:
    """Eq. 1 for D_t and D_s: leave its gradient in their weights; both by name.

    Halved as in CycleGAN, which slows the discriminators against the translators. Every process of
    a team keeps the pools of all.
    """
    false_source = made.false_source(config.source_adversary)
    found = {}
    for name, judge, real, fake, kept in (
        ("d_t", state.d_t, made.target, made.fake_target, state.pool_t),
        ("d_s", state.d_s, made.source, false_source, state.pool_s),
    ):
        shown = pool.draw(kept, team.whole(fake), config.pool, rngs)
        on_real, on_fake = judge(torch.cat([real, team.share(shown)])).float().chunk(2)
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


def _batch(
    side: Slices, size: tuple[int, int], rngs: Rngs, device: torch.device, team: Team
) -> Tensor:
    # all are drawn by every process: what the pools do with a slice is drawn after it
    slices = np.stack(team.share([side.draw(rng, size) for rng in rngs]))
    batch = torch.from_numpy(slices)[:, None].to(device) * 2 - 1
    return batch.contiguous(memory_format=torch.channels_last)


def _learn(on: bool, *networks: nn.Module) -> None:
    for network in networks:
        network.requires_grad_(on)


def _averaged(
    team: Team, networks: tuple[nn.Module, nn.Module], found: dict[str, Tensor]
) -> dict[str, Tensor]:
    weights = (weight for network in networks for weight in network.parameters())
    values = team.average(weights, torch.stack(list(found.values())))
    return dict(zip(found, values, strict=True))
