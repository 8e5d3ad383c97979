"""Eq. 1-4, each with numbers worked by hand."""

from __future__ import annotations

from math import log

import pytest
import torch

from labelferry.translate import losses

# sigmoid(log 3) = 3/4 and sigmoid(-log 3) = 1/4
SURE = log(3)


def test_eq1_vanilla() -> None:
    real = torch.tensor([SURE, 0.0])  # D says 3/4 and 1/2
    fake = torch.tensor([-SURE, SURE])  # D says 1/4 and 3/4
    want = -(log(3 / 4) + log(1 / 2)) / 2 - (log(3 / 4) + log(1 / 4)) / 2
    assert losses.gan_loss_discriminator(real, fake, "vanilla").item() == pytest.approx(want)
    want = -(log(1 / 4) + log(3 / 4)) / 2
    assert losses.gan_loss_generator(fake, "vanilla").item() == pytest.approx(want)


def test_eq1_least_squares() -> None:
    real = torch.tensor([0.5, 2.0])
    fake = torch.tensor([0.0, 3.0])
    want = (0.25 + 1) / 2 + 9 / 2
    assert losses.gan_loss_discriminator(real, fake, "lsgan").item() == pytest.approx(want)
    assert losses.gan_loss_generator(fake, "lsgan").item() == pytest.approx((1 + 4) / 2)


@pytest.mark.parametrize("kind", ["vanilla", "lsgan"])
def test_eq1_has_the_right_sign(kind: losses.GanLoss) -> None:
    high, low = torch.tensor([0.9]), torch.tensor([0.1])
    right = losses.gan_loss_discriminator(high, low, kind)
    wrong = losses.gan_loss_discriminator(low, high, kind)
    assert right < wrong
    assert losses.gan_loss_generator(high, kind) < losses.gan_loss_generator(low, kind)


def test_eq1_vanilla_stays_finite() -> None:
    far = torch.tensor([200.0, -200.0])
    assert torch.isfinite(losses.gan_loss_discriminator(far, far, "vanilla"))


X_S = torch.tensor([0.0, 1.0])
X_T = torch.tensor([2.0, 2.0])


def test_eq2() -> None:
    # |0.5 - 0| and |1 - 1| -> 0.25; |2 - 2| and |5 - 2| -> 1.5
    found = losses.cycle_loss(X_S, torch.tensor([0.5, 1.0]), X_T, torch.tensor([2.0, 5.0]))
    assert found.item() == pytest.approx(1.75)


def test_eq3_as_printed() -> None:
    to_target, to_source = losses.identity_inputs(X_S, X_T, "paper")
    assert to_target is X_S
    assert to_source is X_T
    # T adds 1 to a source and takes 3 from a target image
    found = losses.identity_loss(X_S, X_T, X_S + 1, X_T - 3, "paper")
    assert found.item() == pytest.approx(4)


def test_eq3_as_cyclegan() -> None:
    to_target, to_source = losses.identity_inputs(X_S, X_T, "cyclegan")
    assert to_target is X_T
    assert to_source is X_S
    # T_t leaves the target but for one pixel by 1; T_s takes 2 from the source
    kept = torch.tensor([2.0, 3.0])
    assert losses.identity_loss(X_S, X_T, kept, X_S - 2, "cyclegan").item() == pytest.approx(2.5)


def test_eq4() -> None:
    terms = [torch.tensor(v) for v in (1.0, 2.0, 3.0, 4.0)]
    assert losses.full_loss(*terms, 10.0, 5.0).item() == pytest.approx(1 + 2 + 30 + 20)
