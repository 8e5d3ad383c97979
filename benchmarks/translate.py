"""A training step and a whole volume, beside a plain PyTorch CycleGAN of the same size.

``python -m benchmarks.translate``: the peer below is the textbook's (ResNet generator, PatchGAN,
instance norm, float32, one call a loss), written for this comparison, with the same channels,
blocks and layers. Both see the same slices in the same order and take turns, step by step, in one
process with one number of threads; the ratio is what counts. Losses are printed side by side. The
last line is the verdict, the exit code 1 where a ratio falls short or the loss curves part.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import random
import statistics
import sys
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from labelferry.translate import training
from labelferry.translate.apply import Translator
from labelferry.translate.checks import Draws
from labelferry.translate.config import TranslateConfig
from labelferry.translate.faults import trial_scene
from labelferry.translate.networks import to_place
from labelferry.translate.slices import Slices
from labelferry.translate.state import State
from labelferry.translate.step import one_step

ASKED = 1.3
"""Least ratio of the times of a step and of a volume."""
APART = 0.1
"""Largest relative difference of the cycle losses, in the mean of the last half."""
LOSSES = ("gan_t", "gan_s", "cyc", "identity", "d_t", "d_s")


class Block(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(c, c, 3),
            nn.InstanceNorm2d(c),
            nn.ReLU(True),
            nn.ReflectionPad2d(1),
            nn.Conv2d(c, c, 3),
            nn.InstanceNorm2d(c),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def generator(c: int, blocks: int) -> nn.Module:
    down = [nn.ReflectionPad2d(3), nn.Conv2d(1, c, 7), nn.InstanceNorm2d(c), nn.ReLU(True)]
    up: list[nn.Module] = []
    for n in (c, 2 * c):
        down += [nn.Conv2d(n, 2 * n, 3, 2, 1), nn.InstanceNorm2d(2 * n), nn.ReLU(True)]
    for n in (2 * c, c):
        up += [nn.ConvTranspose2d(2 * n, n, 3, 2, 1, 1), nn.InstanceNorm2d(n), nn.ReLU(True)]
    middle = [Block(4 * c) for _ in range(blocks)]
    return nn.Sequential(*down, *middle, *up, nn.ReflectionPad2d(3), nn.Conv2d(c, 1, 7), nn.Tanh())


def discriminator(c: int, layers: int) -> nn.Module:
    parts: list[nn.Module] = [nn.Conv2d(1, c, 4, 2, 1), nn.LeakyReLU(0.2, True)]
    width = c
    for depth in range(1, layers + 1):
        wider = c * min(2**depth, 8)
        stride = 2 if depth < layers else 1
        parts += [nn.Conv2d(width, wider, 4, stride, 1), nn.InstanceNorm2d(wider)]
        parts += [nn.LeakyReLU(0.2, True)]
        width = wider
    return nn.Sequential(*parts, nn.Conv2d(width, 1, 4, 1, 1))


class Pool:
    def __init__(self, size: int) -> None:
        self.size, self.kept, self.dice = size, [], random.Random(0)  # type: ignore[var-annotated]

    def __call__(self, fakes: Tensor) -> Tensor:
        out = []
        for fake in fakes.detach():
            if len(self.kept) < self.size:
                self.kept.append(fake.clone())
                out.append(fake)
            elif self.dice.random() < 0.5:
                place = self.dice.randrange(self.size)
                out.append(self.kept[place].clone())
                self.kept[place] = fake.clone()
            else:
                out.append(fake)
        return torch.stack(out)


class Peer:
    """CycleGAN as in the paper's pseudo-code."""

    def __init__(self, config: TranslateConfig) -> None:
        self.config = config
        torch.manual_seed(0)
        c, blocks = config.channels, config.blocks
        self.to_target, self.to_source = generator(c, blocks), generator(c, blocks)
        width, layers = config.discriminator_channels, config.discriminator_layers
        self.d_t, self.d_s = discriminator(width, layers), discriminator(width, layers)
        for network in (self.to_target, self.to_source, self.d_t, self.d_s):
            for layer in network.modules():
                if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                    nn.init.normal_(layer.weight, 0.0, 0.02)
                    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        makers = itertools.chain(self.to_target.parameters(), self.to_source.parameters())
        judges = itertools.chain(self.d_t.parameters(), self.d_s.parameters())
        self.adam_t = torch.optim.Adam(makers, config.learning_rate, config.betas)
        self.adam_d = torch.optim.Adam(judges, config.learning_rate, config.betas)
        self.pools = Pool(config.pool), Pool(config.pool)

    def step(self, source: Tensor, target: Tensor) -> dict[str, float]:
        config = self.config
        for judge in (self.d_t, self.d_s):
            judge.requires_grad_(False)
        self.adam_t.zero_grad()
        fake_t, fake_s = self.to_target(source), self.to_source(target)
        back_s, back_t = self.to_source(fake_t), self.to_target(fake_s)
        kept_t, kept_s = self.to_target(target), self.to_source(source)
        gan_t, gan_s = (
            functional.mse_loss(score, torch.ones_like(score))
            for score in (self.d_t(fake_t), self.d_s(fake_s))
        )
        cyc = functional.l1_loss(back_s, source) + functional.l1_loss(back_t, target)
        identity = functional.l1_loss(kept_t, target) + functional.l1_loss(kept_s, source)
        total = gan_t + gan_s + config.lambda_cycle * cyc + config.lambda_identity * identity
        total.backward()
        self.adam_t.step()
        for judge in (self.d_t, self.d_s):
            judge.requires_grad_(True)
        self.adam_d.zero_grad()
        found = []
        pairs = (self.d_t, target, fake_t), (self.d_s, source, fake_s)
        for pool, (judge, real, fake) in zip(self.pools, pairs, strict=True):
            good, bad = judge(real), judge(pool(fake))
            one = functional.mse_loss(good, torch.ones_like(good))
            loss = (one + functional.mse_loss(bad, torch.zeros_like(bad))) / 2
            loss.backward()
            found.append(loss)
        self.adam_d.step()
        values = (gan_t, gan_s, cyc, identity, *found)
        return {name: value.item() for name, value in zip(LOSSES, values, strict=True)}

    def volume(self, array: np.ndarray) -> np.ndarray:
        """Slice by slice."""
        out = np.empty_like(array)
        with torch.no_grad():
            for z in range(array.shape[2]):
                image = torch.from_numpy(np.ascontiguousarray(array[:, :, z].T))[None, None]
                height, width = image.shape[2:]
                pad = (0, -width % 4, 0, -height % 4)
                made = self.to_target(functional.pad(image * 2 - 1, pad, mode="reflect"))
                out[:, :, z] = ((made[0, 0, :height, :width] + 1) / 2).numpy().T
        return out


@dataclass
class Timed:
    name: str
    steps: list[float]
    losses: list[dict[str, float]]
    volume: list[float]


def slices(volumes: list[np.ndarray]) -> Slices:
    parts, cases, places, count = [], [], [], 0
    for number, volume in enumerate(volumes):
        found = []
        for z in range(volume.shape[2]):
            image = volume[:, :, z].T.astype(np.float16)
            found.append((count, (image.shape[0], image.shape[1])))
            parts.append(image.ravel())
            count += image.size
        cases.append(tuple(found))
        places.append((f"c{number}", tuple(range(volume.shape[2]))))
    return Slices(np.concatenate(parts), tuple(cases), tuple(places))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--channels", type=int, default=24)
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--batch", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    config = TranslateConfig(
        channels=given.channels,
        blocks=given.blocks,
        discriminator_channels=given.channels,
        batch=given.batch,
        crop=(96, 64),
        iterations=10 * given.steps,
    )
    scenes = [trial_scene((9, n), "plain") for n in range(4)]
    sides = slices([s.image for s in scenes[:2]]), slices([s.fake for s in scenes[2:]])
    size = training.slice_size(sides, config, 32)
    variants = {"ours": config, "ours, fp32": config.model_copy(update={"amp": "fp32"})}
    variants["ours, subpixel stem"] = config.model_copy(update={"stem": "subpixel"})
    peer = Peer(config)
    states = {name: training.start(c, 0, torch.device("cpu")) for name, c in variants.items()}
    timed = {name: Timed(name, [], [], []) for name in ("plain PyTorch", *variants)}
    for step in range(given.steps):
        rngs = Draws(sides, size, config, 0).of(step)
        source, target = (
            torch.from_numpy(np.stack([s.draw(r, size) for r in rngs]))[:, None] * 2 - 1
            for s in sides
        )
        start = time.perf_counter()
        found = peer.step(source, target)
        _keep(timed["plain PyTorch"], start, found)
        for name, c in variants.items():
            rngs = Draws(sides, size, c, 0).of(step)
            start = time.perf_counter()
            found = one_step(states[name], sides, size, c, step, rngs)
            _keep(timed[name], start, found)
    _volumes(peer, states, variants, timed, scenes[0].image)
    _print(timed, given, config)
    sys.exit(_verdict(timed["plain PyTorch"], timed["ours"]))


def _verdict(peer: Timed, ours: Timed) -> int:
    step, volume = faster(peer.steps[2:], ours.steps[2:]), faster(peer.volume[1:], ours.volume[1:])
    theirs, mine = (late_mean(row, "cyc") for row in (peer, ours))
    apart = abs(mine - theirs) / theirs
    good = min(step, volume) >= ASKED and apart <= APART
    print(
        f"{'PASS' if good else 'FAIL'}: step {step:.2f}, volume {volume:.2f} times faster "
        f"(asked {ASKED}); cycle losses {100 * apart:.0f} % apart (allowed {100 * APART:.0f} %)"
    )
    return 0 if good else 1


def faster(peer: list[float], ours: list[float]) -> float:
    """The median of the ratios of runs that took turns: load that changes slowly falls out."""
    return statistics.median(a / b for a, b in zip(peer, ours, strict=True))


def late_mean(row: Timed, name: str) -> float:
    return statistics.mean(v[name] for v in row.losses[len(row.losses) // 2 :])


def _volumes(
    peer: Peer,
    states: dict[str, State],
    variants: dict[str, TranslateConfig],
    timed: dict[str, Timed],
    image: np.ndarray,
) -> None:
    ready = {}
    for name, state in states.items():
        network = state.to_target.eval().requires_grad_(False)
        place = torch.device("cpu")
        networks = {"to_target": to_place(network, place)}
        ready[name] = Translator(networks, place, variants[name].amp)
    for _ in range(4):
        start = time.perf_counter()
        peer.volume(image)
        timed["plain PyTorch"].volume.append(time.perf_counter() - start)
        for name, translator in ready.items():
            start = time.perf_counter()
            translator.to_target(image)
            timed[name].volume.append(time.perf_counter() - start)


def _keep(row: Timed, start: float, found: dict[str, float]) -> None:
    row.steps.append(time.perf_counter() - start)
    row.losses.append(found)


def _print(timed: dict[str, Timed], given: argparse.Namespace, config: TranslateConfig) -> None:
    print(
        f"{platform.processor() or platform.machine()}, torch {torch.__version__}, "
        f"{given.threads} thread(s); {config.channels} channels, {config.blocks} blocks, "
        f"slices {config.crop}, batch {config.batch}, {given.steps} steps"
    )
    print(f"{'':<20} {'step ms':>8} {'ratio':>6} {'volume ms':>10} {'ratio':>6}", end="")
    print("".join(f"{name:>10}" for name in LOSSES), "  (mean of the last half)")
    first = timed["plain PyTorch"]
    for row in timed.values():
        # the first steps warm caches and kernels up
        step, volume = (statistics.median(v) for v in (row.steps[2:], row.volume[1:]))
        ratio = faster(first.steps[2:], row.steps[2:])
        whole = faster(first.volume[1:], row.volume[1:])
        print(f"{row.name:<20} {1000 * step:8.1f} {ratio:6.2f}", end="")
        print(f" {1000 * volume:10.1f} {whole:6.2f}", end="")
        print("".join(f"{late_mean(row, name):10.3f}" for name in LOSSES))


if __name__ == "__main__":
    main()
