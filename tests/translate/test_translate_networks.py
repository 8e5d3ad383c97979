from __future__ import annotations

from functools import partial

import pytest
import torch

from labelferry.translate.networks import Discriminator, Generator, Stem, build


@pytest.mark.parametrize("stem", ["resnet", "subpixel"])
@pytest.mark.parametrize("size", [(8, 8), (12, 32)])
def test_a_translator_keeps_shape_and_range(stem: Stem, size: tuple[int, int]) -> None:
    network = build(partial(Generator, 4, 1, stem), torch.Generator().manual_seed(0))
    out = network(torch.rand(2, 1, *size) * 2 - 1)
    assert out.shape == (2, 1, *size)
    assert out.abs().max() <= 1


def test_cyclegan_has_the_published_number_of_weights() -> None:
    # 9 blocks, 64 filters: 11.378 M with a bias in every layer; those before a norm do nothing
    with torch.device("meta"):
        network = Generator(64, 9, "resnet")
        judge = Discriminator(64, 3)
    assert sum(p.numel() for p in network.parameters()) == 11_378_179 - 4 * 3136 - _biases()
    assert sum(p.numel() for p in judge.parameters()) == 2_764_737 - 2 * 1024 - (128 + 256 + 512)


def _biases() -> int:
    # published: 3 channels in and out (7x7x64 x 2 more each way, 2 more output biases)
    hidden = 64 + 128 + 256 + 18 * 256 + 128 + 64
    return hidden + 2


@pytest.mark.parametrize(("layers", "field"), [(2, 34), (3, 70)])
def test_a_discriminator_judges_patches(layers: int, field: int) -> None:
    """The gradient of one score reaches 70x70 pixels with three halvings."""
    judge = build(partial(Discriminator, 2, layers), torch.Generator().manual_seed(0))
    # a norm would spread it over the whole slice
    for name, part in judge.layers.named_children():
        if isinstance(part, torch.nn.InstanceNorm2d):
            setattr(judge.layers, name, torch.nn.Identity())
    image = torch.rand(1, 1, 160, 160, requires_grad=True)
    scores = judge(image)
    scores[0, 0, scores.shape[2] // 2, scores.shape[3] // 2].backward()
    assert image.grad is not None
    rows = torch.nonzero(image.grad[0, 0].abs().sum(1))
    assert int(rows.max() - rows.min()) + 1 == field


def test_smallest_input_of_a_discriminator() -> None:
    for layers in (1, 2, 3):
        judge = build(partial(Discriminator, 2, layers), torch.Generator().manual_seed(0))
        assert judge(torch.rand(1, 1, judge.smallest, judge.smallest)).numel() >= 1


def test_first_weights_come_from_the_generator_alone() -> None:
    before = torch.get_rng_state()
    make = partial(Generator, 8, 2, "subpixel")
    one = build(make, torch.Generator().manual_seed(3)).state_dict()
    two = build(make, torch.Generator().manual_seed(3)).state_dict()
    other = build(make, torch.Generator().manual_seed(4)).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[k], two[k]) for k in one)
    weight = "layers.1.weight"
    assert not torch.equal(one[weight], other[weight])
    assert one[weight].std().item() == pytest.approx(0.02, rel=0.2)
