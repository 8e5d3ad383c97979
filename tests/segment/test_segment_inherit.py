"""A small network that begins as a thinned copy of a larger one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labelferry.segment.config import NetworkConfig
from labelferry.segment.inherit import inherited
from labelferry.segment.network import build_network


def network(
    channels=4,
    downsamplings=2,
    most=64,
    dimensions=2,
    seed=0,
    inputs=1,
    classes=3,
    convolutions=2,
):
    config = NetworkConfig(
        dimensions=dimensions,
        patch=(16, 32, 32)[-dimensions:],
        channels=channels,
        max_channels=most,
        downsamplings=downsamplings,
        convolutions=convolutions,
    )
    return build_network(config, inputs, classes, spacing=(2, 2, 2), seed=seed)


def widened(state, times, inputs, classes):
    """Every feature ``times`` over: a wider network that computes the same."""
    out = {}
    for name, weight in state.items():
        kept = (inputs, classes)
        axes = [a for a in range(min(weight.ndim, 2)) if weight.shape[a] not in kept]
        if weight.ndim > 2:
            fan_in = 0 if "transpconvs" in name else 1
            weight = weight / times if fan_in in axes else weight
        for axis in axes:
            weight = weight.repeat_interleave(times, axis)
        out[name] = weight
    return out


def test_every_second_feature_is_kept_and_sums_stay_as_large():
    """Worked by hand: 4 of 4 inputs would be scaled by 1, 2 of 4 are by 2."""
    given_ = {
        "encoder.conv.weight": torch.arange(16.0).reshape(4, 4, 1, 1),
        "encoder.conv.bias": torch.tensor([1.0, 2, 3, 4]),
        "decoder.transpconvs.0.weight": torch.arange(8.0).reshape(4, 2, 1, 1),
    }
    wanted = {
        "encoder.conv.weight": torch.empty(2, 2, 1, 1),
        "encoder.conv.bias": torch.empty(2),
        "decoder.transpconvs.0.weight": torch.empty(2, 1, 1, 1),
    }
    found = inherited(given_, wanted)
    assert found["encoder.conv.weight"].flatten().tolist() == [0, 4, 16, 20]
    assert found["encoder.conv.bias"].tolist() == [1, 3]
    assert found["decoder.transpconvs.0.weight"].flatten().tolist() == [0, 8]


def test_a_network_inherits_itself():
    state = network().state_dict()
    found = inherited(state, network(seed=1).state_dict())
    assert all(torch.equal(found[name], state[name]) for name in state)


@settings(max_examples=8, deadline=None)
@given(times=st.integers(2, 3), dimensions=st.sampled_from([2, 3]), seed=st.integers(0, 9))
def test_a_network_of_repeated_features_gives_back_the_one_that_was_repeated(
    times, dimensions, seed
):
    """It computes the same as that one, through every skip connection."""
    small = network(5, dimensions=dimensions, seed=seed)
    large = network(5 * times, most=64 * times, dimensions=dimensions)
    large.load_state_dict(widened(small.state_dict(), times, 1, 3))
    image = torch.rand(1, 1, *(16, 32, 32)[-dimensions:])
    torch.testing.assert_close(large(image), small(image), rtol=1e-3, atol=1e-4)
    found = inherited(large.state_dict(), small.state_dict())
    for name, weight in small.state_dict().items():
        torch.testing.assert_close(found[name], weight, rtol=1e-5, atol=1e-7)


def test_of_a_deeper_network_the_deepest_levels_are_left_out():
    deep, flat = network(downsamplings=3).state_dict(), network(seed=1).state_dict()
    found = inherited(deep, flat)
    assert torch.equal(found["decoder.seg_layers.1.weight"], deep["decoder.seg_layers.2.weight"])
    assert torch.equal(found["decoder.transpconvs.0.weight"], deep["decoder.transpconvs.1.weight"])
    name = "encoder.stages.2.0.convs.1.conv.weight"
    assert torch.equal(found[name], deep[name])
    network().load_state_dict(found)


@pytest.mark.parametrize(
    "large",
    [
        network(channels=2),
        network(downsamplings=1),
        network(dimensions=3),
        network(classes=2),
        network(classes=4),
        network(inputs=2),
        network(convolutions=1),
    ],
    ids=["narrower", "flatter", "3-D", "fewer", "more classes", "more inputs", "fewer layers"],
)
def test_nothing_comes_from_a_network_of_another_form(large):
    assert inherited(large.state_dict(), network().state_dict()) is None
