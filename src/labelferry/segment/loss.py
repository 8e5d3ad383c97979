"""Dice and cross-entropy (Table 4), with organs that a case does not annotate merged away."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from labelferry.segment.config import TrainConfig

_RAREST = 10.0  # a few noisy voxels must not outweigh everything else
_NEVER = -1e4  # a logit that no softmax gives any weight to, safe in bf16


def merge_unannotated(logits: Tensor, annotated: Tensor, target: Tensor) -> Tensor:
    """Add the probability of organs that a case does not annotate to its background.

    ``logits`` (B, classes, …), ``annotated`` (B, classes) bool with background always true,
    ``target`` (B, 1, …). Where a case is silent on an organ, "background" in its label map means
    "background or that organ": the loss must not punish either. Nor may it praise the organ there:
    a network that tells the cases apart would call their background by what each is silent on.
    So on background a silent organ gets no gradient; elsewhere it is known to be absent. Returns
    logits of the same shape.
    """
    if bool(annotated.all()):
        return logits
    shape = (*annotated.shape, *[1] * (logits.ndim - 2))
    known = annotated.view(shape)
    logits = torch.where(~known & (target == 0), logits.detach(), logits)
    silent = ~known
    silent[:, 0] = True  # background itself is part of the sum
    background = torch.where(silent, logits, torch.full_like(logits, _NEVER)).logsumexp(1)
    merged = torch.where(known, logits, torch.full_like(logits, _NEVER))
    return torch.cat([background[:, None], merged[:, 1:]], 1)


class PresentDiceLoss(nn.Module):
    """Batch Dice over the organs that the batch shows; takes the place of nnU-Net's Dice.

    nnU-Net also scores organs that are not there, where any voxel of probability costs much; with
    few steps that teaches a network to forget small organs.
    """

    def __init__(self, apply_nonlin: Callable[[Tensor], Tensor], smooth: float, **_: bool) -> None:
        super().__init__()
        self.apply_nonlin, self.smooth = apply_nonlin, smooth

    def forward(self, logits: Tensor, target: Tensor, loss_mask: Tensor | None = None) -> Tensor:
        """Minus the mean Dice; ``target`` is (B, 1, …). 0 where the batch shows no organ."""
        assert loss_mask is None, "unannotated organs are merged, not masked"
        probability = self.apply_nonlin(logits)[:, 1:]
        shown = torch.zeros_like(logits).scatter_(1, target.long(), 1)[:, 1:]
        axes = (0, *range(2, logits.ndim))
        overlap = (probability * shown).sum(axes)
        truth = shown.sum(axes)
        dice = (2 * overlap + self.smooth) / (truth + probability.sum(axes) + self.smooth)
        present = truth > 0
        return -(dice * present).sum() / present.sum().clamp_min(1)


class PartialLoss(nn.Module):
    """nnU-Net's Dice + cross-entropy over all resolutions, on merged logits.

    ``gather``: Dice over a batch is over the batches of all processes of a training.
    """

    def __init__(
        self,
        classes: int,
        config: TrainConfig,
        resolutions: int,
        sizes: Mapping[int, int] | None = None,
        *,
        gather: bool = False,
    ) -> None:
        super().__init__()
        from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
        from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

        self.config, self.sizes = config, dict(sizes or {})
        weight = class_weights(classes, config, self.sizes)
        self.loss = DC_and_CE_loss(
            {
                "batch_dice": config.batch_dice,
                "smooth": config.dice_smooth,
                "do_bg": False,
                "ddp": gather,
            },
            {"weight": weight if bool((weight != 1).any()) else None},
            weight_ce=1,
            weight_dice=1,
            dice_class=PresentDiceLoss if config.dice_present else MemoryEfficientSoftDiceLoss,
        )
        self.weights = resolution_weights(resolutions)

    def set_progress(self, done: float) -> None:
        """Tell how much of the training is done, in [0, 1): the rarity may fade with it."""
        if self.config.rarity_fades and self.loss.ce.weight is not None:
            now = class_weights(len(self.loss.ce.weight), self.config, self.sizes, 1 - done)
            self.loss.ce.weight.copy_(now)

    def forward(
        self, outputs: Sequence[Tensor], targets: Sequence[Tensor], annotated: Tensor
    ) -> Tensor:
        """Weighted sum over resolutions. Dice enters with its sign, so the best loss is -1."""
        total = outputs[0].new_zeros((), dtype=torch.float32)
        for weight, output, target in zip(self.weights, outputs, targets, strict=True):
            if weight:
                merged = merge_unannotated(output.float(), annotated, target)
                total = total + weight * self.loss(merged, target)
        return total


def class_weights(
    classes: int, config: TrainConfig, sizes: Mapping[int, int], share: float = 1.0
) -> Tensor:
    """Weights of background and organs in the cross-entropy, (classes,).

    ``sizes``: voxels of each organ in the training set. An organ that is nowhere counts as the
    commonest one. ``share``: how much of the rarity counts.
    """
    weight = torch.full((classes,), float(config.class_weight))
    weight[0] = 1.0
    largest = max(sizes.values(), default=0)
    for organ, size in sizes.items():
        if size:
            weight[organ] *= min((largest / size) ** (share * config.rarity), _RAREST)
    return weight


def resolution_weights(resolutions: int) -> list[float]:
    """nnU-Net's weights of deep supervision: halved at each step, the coarsest unused, sum 1."""
    weights = [1 / 2**i for i in range(resolutions)]
    if resolutions > 1:
        weights[-1] = 0.0
    total = sum(weights)
    return [w / total for w in weights]
