"""The loss, against cases worked by hand."""

import math

import pytest
import torch

from labelferry.segment.config import TrainConfig
from labelferry.segment.loss import (
    PartialLoss,
    PresentDiceLoss,
    class_weights,
    merge_unannotated,
    resolution_weights,
)


def test_unannotated_organ_is_merged_with_background():
    # probabilities 0.2, 0.3, 0.5; organ 2 is not annotated → background has 0.2 + 0.5 = 0.7
    logits = torch.tensor([[0.2, 0.3, 0.5]]).log().view(1, 3, 1, 1)
    target = torch.zeros(1, 1, 1, 1)
    merged = merge_unannotated(logits, torch.tensor([[True, True, False]]), target)
    merged = merged.softmax(1).flatten()
    assert merged.tolist() == pytest.approx([0.7, 0.3, 0.0], abs=1e-6)


def test_everything_annotated_changes_nothing():
    logits = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    every = torch.ones(2, 4, dtype=torch.bool)
    assert torch.equal(merge_unannotated(logits, every, torch.zeros(2, 1, 3, 3)), logits)


def test_annotation_is_per_case():
    logits = torch.zeros(2, 2, 1, 1)
    annotated = torch.tensor([[True, True], [True, False]])
    target = torch.zeros(2, 1, 1, 1)
    probabilities = merge_unannotated(logits, annotated, target).softmax(1)[:, :, 0, 0]
    assert probabilities[0].tolist() == pytest.approx([0.5, 0.5])
    assert probabilities[1].tolist() == pytest.approx([1.0, 0.0], abs=1e-6)


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        # background: -log((e0 + e2) / (e0 + e1 + e2)) at 0, with e2 held: 1/3 - 1/2, 1/3, and
        # nothing for the silent organ: it may be there or not
        (0, [-1 / 6, 1 / 3, 0.0]),
        # organ 1: -log(e1 / (e0 + e1 + e2)): the silent organ is known not to be there
        (1, [1 / 3, 1 / 3 - 1, 1 / 3]),
    ],
)
def test_a_silent_organ_is_taught_nothing_on_background(label, expected):
    logits = torch.zeros(1, 3, 1, 1, requires_grad=True)
    target = torch.full((1, 1, 1, 1), float(label))
    merged = merge_unannotated(logits, torch.tensor([[True, True, False]]), target)
    (-merged.log_softmax(1)[0, label, 0, 0]).backward()
    assert logits.grad[0, :, 0, 0].tolist() == pytest.approx(expected, abs=1e-6)


def test_dice_and_cross_entropy_by_hand():
    # two voxels, two classes, p(organ) = 0.8 and 0.4, labels organ and background
    p = torch.tensor([0.8, 0.4])
    logits = torch.stack([(1 - p).log(), p.log()])[None, :, None, :]
    target = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    config = TrainConfig(deep_supervision=False)
    loss = PartialLoss(2, config, 1)([logits], [target], torch.ones(1, 2, dtype=torch.bool))
    dice = (2 * 0.8 + 1e-5) / (1 + 1.2 + 1e-5)
    cross_entropy = -(math.log(0.8) + math.log(0.6)) / 2
    assert float(loss) == pytest.approx(cross_entropy - dice, abs=1e-5)


def test_class_weight_counts_organs_more():
    p = torch.tensor([0.8, 0.4])
    logits = torch.stack([(1 - p).log(), p.log()])[None, :, None, :]
    target = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    config = TrainConfig(deep_supervision=False, class_weight=3.0)
    loss = PartialLoss(2, config, 1)([logits], [target], torch.ones(1, 2, dtype=torch.bool))
    dice = (2 * 0.8 + 1e-5) / (1 + 1.2 + 1e-5)
    cross_entropy = -(3 * math.log(0.8) + 1 * math.log(0.6)) / 4
    assert float(loss) == pytest.approx(cross_entropy - dice, abs=1e-5)


def test_resolution_weights_of_nnunet():
    # 1, 1/2, 1/4, and 0 for the coarsest, divided by their sum
    assert resolution_weights(4) == pytest.approx([4 / 7, 2 / 7, 1 / 7, 0])
    assert resolution_weights(1) == [1.0]


def test_dice_over_present_organs_by_hand():
    # organ 1 is shown, organ 2 is not: only organ 1 counts, whatever organ 2 claims
    p = torch.tensor([[0.1, 0.8, 0.1], [0.5, 0.2, 0.3]]).T.reshape(1, 3, 1, 2)
    target = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    loss = PresentDiceLoss(lambda logits: logits.softmax(1), smooth=1.0)
    expected = (2 * 0.8 + 1) / (1 + 1.0 + 1)
    assert float(loss(p.log(), target)) == pytest.approx(-expected, abs=1e-6)


def test_dice_of_a_batch_without_organs_is_nothing():
    logits = torch.zeros(1, 3, 2, 2, requires_grad=True)
    loss = PresentDiceLoss(lambda values: values.softmax(1), smooth=1.0)
    value = loss(logits, torch.zeros(1, 1, 2, 2))
    value.backward()
    assert float(value.detach()) == 0 and not logits.grad.any()


def test_rare_organs_weigh_more():
    # 900 / 100 voxels: 9^0.5 = 3; 900 / 1: 30, at most 10; organ 4 is nowhere
    config = TrainConfig(class_weight=2.0, rarity=0.5)
    weights = class_weights(5, config, {1: 900, 2: 100, 3: 1, 4: 0})
    assert weights.tolist() == [1.0, 2.0, 6.0, 20.0, 2.0]


def test_rarity_fades_over_the_training():
    config = TrainConfig(class_weight=2.0, rarity=0.5, rarity_fades=True)
    loss = PartialLoss(3, config, 1, {1: 900, 2: 100})
    loss.set_progress(0.5)  # 9^0.25 = √3
    assert loss.loss.ce.weight.tolist() == pytest.approx([1.0, 2.0, 2 * math.sqrt(3)])
    loss.set_progress(0.999)
    assert loss.loss.ce.weight.tolist() == pytest.approx([1.0, 2.0, 2.0], abs=0.01)


def test_rarity_stays_unless_it_is_told_to_fade():
    loss = PartialLoss(3, TrainConfig(rarity=0.5), 1, {1: 900, 2: 100})
    loss.set_progress(0.9)
    assert loss.loss.ce.weight.tolist() == [1.0, 1.0, 3.0]


def test_without_rarity_all_organs_weigh_the_same():
    weights = class_weights(3, TrainConfig(class_weight=2.0), {1: 900, 2: 1})
    assert weights.tolist() == [1.0, 2.0, 2.0]
