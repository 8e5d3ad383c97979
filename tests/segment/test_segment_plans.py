"""Networks and plans are nnU-Net's (Tables 1 and 2)."""

import pytest
import torch

from labelferry.organs import FLARE
from labelferry.segment.config import NetworkConfig, TrainConfig
from labelferry.segment.network import build_network
from labelferry.segment.plans import architecture, make_dataset, make_plans, topology

PAPER_SPACING = (2.5, 0.81, 0.81)


def test_paper_network_has_the_numbers_of_table_2():
    strides, _, patch = topology(NetworkConfig(), PAPER_SPACING)
    assert patch == [40, 224, 192]
    assert len(strides) == 6, "5 downsamplings"
    entry = architecture(NetworkConfig(), PAPER_SPACING)["arch_kwargs"]
    assert entry["features_per_stage"] == [32, 64, 128, 256, 320, 320]
    assert entry["n_conv_per_stage"] == [2] * 6


def test_small_network_has_the_numbers_of_table_1():
    small = NetworkConfig(channels=16, downsamplings=4)
    strides, _, _ = topology(small, PAPER_SPACING)
    assert len(strides) == 5, "4 downsamplings"
    entry = architecture(small, PAPER_SPACING)["arch_kwargs"]
    assert entry["features_per_stage"] == [16, 32, 64, 128, 256]


def test_thick_slices_are_not_pooled_at_first():
    strides, kernels, _ = topology(NetworkConfig(), PAPER_SPACING)
    assert strides[1] == [1, 2, 2], "z is three times coarser than the plane"
    assert kernels[0] == [1, 3, 3]


def test_training_has_the_numbers_of_table_4():
    config = TrainConfig()
    assert (config.epochs, config.iterations_per_epoch, config.batch) == (1000, 250, 2)
    assert (config.optimizer, config.learning_rate, config.poly) == ("sgd", 0.01, 0.9)
    assert config.deep_supervision and not config.mirror and config.foreground == 1 / 3


def test_weights_are_drawn_from_the_seed_alone():
    config = NetworkConfig(dimensions=2, patch=(16, 16), channels=4, downsamplings=2)
    state = torch.get_rng_state()
    one, again, other = (
        build_network(config, 1, 3, spacing=(5, 3, 3), seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(state, torch.get_rng_state()), "the global generator is left alone"
    pairs = list(zip(one.parameters(), again.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    changed = zip(one.parameters(), other.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in changed)


def test_plans_and_dataset_are_read_by_nnunet():
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans = make_plans(NetworkConfig(), PAPER_SPACING, 1, batch=2)
    manager = PlansManager(plans)
    configuration = manager.get_configuration("3d_fullres")
    assert configuration.patch_size == [40, 224, 192]
    labels = manager.get_label_manager(make_dataset(FLARE, ("image",)))
    assert labels.num_segmentation_heads == 14


@pytest.mark.parametrize("patch", [(16, 16), (2, 16, 16)])
def test_a_patch_that_does_not_fit_is_refused(patch):
    with pytest.raises(ValueError, match="patch"):
        NetworkConfig(dimensions=3, patch=patch)
