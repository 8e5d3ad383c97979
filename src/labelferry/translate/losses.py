"""The losses of the paper, eq. 1-4, as functions of tensors. An L1 norm is a mean over pixels."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional

GanLoss = Literal["lsgan", "vanilla"]
Reading = Literal["cyclegan", "paper"]


def gan_loss_discriminator(real: Tensor, fake: Tensor, kind: GanLoss) -> Tensor:
    """Eq. 1 for D: what it gives up by mistaking real for fake slices; D makes it small.

    ``real`` and ``fake`` are scores (logits) of any shape. ``vanilla`` is the negative of eq. 1,
    -log D(real) - log(1 - D(fake)); ``lsgan`` is (D(real) - 1)² + D(fake)².
    """
    if kind == "vanilla":
        # -log sigmoid(a) = softplus(-a), and -log(1 - sigmoid(a)) = softplus(a)
        return functional.softplus(-real).mean() + functional.softplus(fake).mean()
    return (real - 1).square().mean() + fake.square().mean()


def gan_loss_generator(fake: Tensor, kind: GanLoss) -> Tensor:
    """Eq. 1 for T: how little its slices pass for real; T makes it small.

    ``vanilla`` is -log D(fake), which has the fixed point of eq. 1's log(1 - D(fake)) and does not
    flatten where D is sure (Goodfellow et al. 2014); ``lsgan`` is (D(fake) - 1)².
    """
    if kind == "vanilla":
        return functional.softplus(-fake).mean()
    return (fake - 1).square().mean()


def cycle_loss(source: Tensor, source_back: Tensor, target: Tensor, target_back: Tensor) -> Tensor:
    """Eq. 2: ‖T_s(T_t(X^s)) - X^s‖₁ + ‖T_t(T_s(X^t)) - X^t‖₁."""
    return (source_back - source).abs().mean() + (target_back - target).abs().mean()


def identity_inputs(source: Tensor, target: Tensor, reading: Reading) -> tuple[Tensor, Tensor]:
    """The images that eq. 3 gives to T_t and to T_s."""
    return (source, target) if reading == "paper" else (target, source)


def identity_loss(
    source: Tensor, target: Tensor, by_to_target: Tensor, by_to_source: Tensor, reading: Reading
) -> Tensor:
    """Eq. 3, where ``by_to_target`` and ``by_to_source`` are what T_t and T_s made of
    :func:`identity_inputs`.

    ``paper``: ‖T_t(X^s) - X^s‖₁ + ‖T_s(X^t) - X^t‖₁, as printed, which holds T back from
    translating. ``cyclegan``: ‖T_t(X^t) - X^t‖₁ + ‖T_s(X^s) - X^s‖₁.
    """
    given_to_target, given_to_source = identity_inputs(source, target, reading)
    first = (by_to_target - given_to_target).abs().mean()
    return first + (by_to_source - given_to_source).abs().mean()


def full_loss(
    gan_s: Tensor,
    gan_t: Tensor,
    cyc: Tensor,
    identity: Tensor,
    lambda_cycle: float,
    lambda_identity: float,
) -> Tensor:
    """Eq. 4: L_gan^s + L_gan^t + λ1 L_cyc + λ2 L_identity."""
    return gan_s + gan_t + lambda_cycle * cyc + lambda_identity * identity
