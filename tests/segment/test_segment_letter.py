"""Preset ``paper`` at size ``full``, against nnU-Net's own planner, trainer and loss."""

import json
import types

import numpy as np
import pytest
import torch

from labelferry.organs import FLARE, Organ, OrganSet
from labelferry.pipeline.config import load_config
from labelferry.segment.augment import build_transforms
from labelferry.segment.config import NetworkConfig, TrainConfig
from labelferry.segment.foreign import read_foreign
from labelferry.segment.loss import PartialLoss
from labelferry.segment.network import build_network
from labelferry.segment.plans import make_dataset, make_plans
from labelferry.segment.samples import Batch
from labelferry.segment.state import TrainingState
from labelferry.segment.training import _scales, train_step

PAPER = load_config("paper", "full")
SPACING = PAPER.prepare.spacing[::-1]
TRAININGS = (PAPER.teach.train, PAPER.refine.train, PAPER.refine.later, PAPER.distil.train)
ANSWER = (40, 224, 192)
_SHAPE = (96, 512, 440)  # of a median case; nnU-Net fits its patch to it


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """nnU-Net's three folders, with a data set that has a fingerprint and no voxels."""
    root = tmp_path_factory.mktemp("nnunet")
    name = "Dataset001_Letter"
    dataset = make_dataset(FLARE, ("image",)) | {"numTraining": 300}
    fingerprint = {"spacings": [list(SPACING)] * 300, "shapes_after_crop": [list(_SHAPE)] * 300}
    for place, file, value in (
        ("raw", "dataset.json", dataset),
        ("preprocessed", "dataset_fingerprint.json", fingerprint),
    ):
        (root / place / name).mkdir(parents=True)
        (root / place / name / file).write_text(json.dumps(value))
    for folder in ("imagesTr", "labelsTr"):
        (root / "raw" / name / folder).mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for place in ("raw", "preprocessed", "results"):
            patch.setenv(f"nnUNet_{place}", str(root / place))
        yield name


@pytest.fixture(scope="module")
def planned(folders):
    """The configuration that nnU-Net's planner makes for such a data set, by itself."""
    from nnunetv2.experiment_planning.experiment_planners import default_experiment_planner as own

    build = own.get_network_from_plans

    def without_memory(*args, **more):  # the planner only counts feature maps
        with torch.device("meta"):
            return build(*args, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own, "get_network_from_plans", without_memory)
        planner = own.ExperimentPlanner(folders)
        # a low resolution comes before where a patch is small; Dice is then over the batch
        cascaded = np.prod(ANSWER) / np.prod(_SHAPE) < planner.lowres_creation_threshold
        patch.setattr(
            planner,
            "determine_normalization_scheme_and_whether_mask_is_used_for_norm",
            lambda: (["ZScoreNormalization"], [False]),
        )
        made = planner.get_plans_for_configuration(
            np.array(SPACING), list(_SHAPE), "letter", 300 * np.prod(_SHAPE, dtype=float), {}
        )
        return made | {"batch_dice": bool(cascaded)}


def built_by_nnunet(entry):
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    with torch.device("meta"):
        return get_network_from_plans(
            entry["network_class_name"],
            entry["arch_kwargs"],
            entry["_kw_requires_import"],
            1,
            14,
            allow_init=False,
            deep_supervision=True,
        )


def built_by_us(network):
    with torch.device("meta"):
        return build_network(
            network, 1, 14, spacing=SPACING, deep_supervision=True, initialise=False
        )


def layers(network):
    """Name, class and settings of every layer, and the shape of every parameter."""
    keys = ("kernel_size", "stride", "padding", "eps", "affine", "negative_slope")
    told = {
        name: (type(layer).__name__, *(getattr(layer, key, None) for key in keys))
        for name, layer in network.named_modules()
        if not list(layer.children())
    }
    return told, {name: tuple(value.shape) for name, value in network.state_dict().items()}


def test_the_plan_is_nnunets_own(planned):
    ours = make_plans(PAPER.teach.network, SPACING, 1, batch=PAPER.teach.train.batch)
    ours = ours["configurations"]["3d_fullres"]
    assert tuple(planned["patch_size"]) == tuple(ours["patch_size"]) == ANSWER
    assert planned["batch_size"] == ours["batch_size"] == 2
    assert all(planned["batch_dice"] == train.batch_dice for train in TRAININGS)
    assert tuple(planned["spacing"]) == tuple(ours["spacing"]) == (2.5, 0.81, 0.81)
    plain = json.loads(json.dumps(planned["architecture"], default=int))
    assert json.loads(json.dumps(ours["architecture"])) == plain


def test_the_default_network_is_nnunets_own_layer_by_layer(planned):
    assert PAPER.teach.network == PAPER.refine.network == NetworkConfig()
    ours, theirs = built_by_us(PAPER.teach.network), built_by_nnunet(planned["architecture"])
    assert layers(ours) == layers(theirs)
    assert sum(p.numel() for p in ours.parameters()) > 30e6


def test_the_small_network_is_its_first_stages_with_half_the_channels(planned):
    kwargs = dict(planned["architecture"]["arch_kwargs"])
    kwargs |= {key: kwargs[key][:5] for key in ("kernel_sizes", "strides", "n_conv_per_stage")}
    kwargs |= {"n_stages": 5, "features_per_stage": [16, 32, 64, 128, 256]}
    kwargs |= {"n_conv_per_stage_decoder": [2] * 4}
    theirs = built_by_nnunet(planned["architecture"] | {"arch_kwargs": kwargs})
    assert layers(built_by_us(PAPER.distil.network)) == layers(theirs)


@pytest.fixture
def trainer(folders):
    """nnU-Net's trainer of a small network of ours, without data."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    def make(network, organs, **more):
        plans = make_plans(network, SPACING, 1, batch=2, **more) | {"continue_training": False}
        made = nnUNetTrainer(
            plans, "3d_fullres", 0, make_dataset(organs, ("image",)), torch.device("cpu")
        )
        made.network = build_network(
            network, 1, len(organs) + 1, spacing=SPACING, deep_supervision=True, seed=1
        )
        made.optimizer, made.lr_scheduler = made.configure_optimizers()
        made.loss = made._build_loss()
        return made

    return make


TWO = OrganSet((Organ(1, "liver"), Organ(2, "spleen")))
SMALL = NetworkConfig(patch=(8, 32, 32), channels=4, downsamplings=3)


def scales(network):
    plans = make_plans(network, SPACING, 1, batch=2)["configurations"]["3d_fullres"]
    return _scales(plans["architecture"]["arch_kwargs"]["strides"])


def test_two_steps_are_nnunets_own(trainer, tmp_path):
    # nnU-Net takes single precision on a CPU, whatever that can do
    config = PAPER.teach.train.model_copy(update={"amp": "fp32"})
    theirs = trainer(SMALL, TWO, batch_dice=config.batch_dice)
    ours = build_network(SMALL, 1, 3, spacing=SPACING, deep_supervision=True, seed=1)
    state = TrainingState(ours, config, tmp_path)
    loss = PartialLoss(3, config, len(scales(SMALL)))
    numbers = torch.Generator().manual_seed(0)
    for step in range(2):
        data = torch.randn(2, 1, 8, 32, 32, generator=numbers)
        whole = torch.randint(0, 3, (2, 1, 8, 32, 32), generator=numbers).float()
        targets = [
            torch.nn.functional.interpolate(whole, scale_factor=tuple(scale), mode="nearest")
            for scale in scales(SMALL)
        ]
        told = theirs.train_step({"data": data, "target": targets})["loss"]
        state.set_rate(step, config.iterations)
        known = torch.ones(2, 3, dtype=torch.bool)
        seen = train_step(
            ours, loss, Batch(data, targets, known), state.optimizer, config, torch.device("cpu")
        )
        assert seen == pytest.approx(float(told), abs=1e-6)
    for name, value in theirs.network.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, atol=1e-7, rtol=1e-6)


def test_the_rate_of_every_epoch_is_nnunets(trainer, tmp_path):
    theirs = trainer(SMALL, TWO)
    config = PAPER.teach.train
    assert (config.epochs, config.iterations_per_epoch) == (1000, 250)
    assert (theirs.num_epochs, theirs.num_iterations_per_epoch) == (1000, 250)
    state = TrainingState(torch.nn.Linear(1, 1), config, tmp_path)
    for epoch in (0, 1, 2, 500, 998, 999):
        theirs.lr_scheduler.step(epoch)
        for step in (250 * epoch, 250 * epoch + 249):
            state.set_rate(step, config.iterations)
            rate = state.optimizer.param_groups[0]["lr"]
            assert rate == theirs.optimizer.param_groups[0]["lr"]
    for key in ("momentum", "nesterov", "weight_decay", "dampening"):
        assert state.optimizer.param_groups[0][key] == theirs.optimizer.param_groups[0][key]


@pytest.mark.parametrize("section", ["teach", "refine", "distil"])
def test_augmentation_is_nnunets_but_for_elastic_deformation_and_mirroring(trainer, section):
    config: TrainConfig = getattr(PAPER, section).train
    theirs = trainer(NetworkConfig(), FLARE)
    rotation, flat, initial, _ = theirs.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    own = theirs.get_training_transforms(ANSWER, rotation, scales(NetworkConfig()), None, flat)
    built, size = build_transforms(ANSWER, config, scales(NetworkConfig()))
    assert tuple(size) == tuple(int(n) for n in initial)
    assert not config.mirror
    names = [[type(t).__name__ for t in made.transforms] for made in (built, own)]
    assert names[0] == [name for name in names[1] if name != "MirrorTransform"]
    for one, other in zip(built.transforms, own.transforms, strict=True):
        ours, expected = settings(one), settings(other)
        for key in ("p_elastic_deform", "benchmark"):  # 3.2 lists it; a clock of nnU-Net's blur
            ours.pop(key, None), expected.pop(key, None)
        assert ours == expected, type(one).__name__


def settings(transform):
    """The plain values of a transform and of the one that it holds."""
    inner = getattr(transform, "transform", None)
    found = {} if inner is None else settings(inner)
    for key, value in vars(transform).items():
        if not isinstance(value, types.FunctionType) and key != "transform":
            plain = isinstance(value, (int, float, str, tuple, np.ndarray))
            found[key] = json.dumps(value, default=list) if plain else None
    return found


def test_as_many_patches_are_centred_on_an_organ(trainer):
    from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader

    share = trainer(SMALL, TWO).oversample_foreground_percent
    loader = types.SimpleNamespace(batch_size=2, oversample_foreground_percent=share)
    forced = [nnUNetDataLoader._oversample_last_XX_percent(loader, n) for n in range(2)]
    assert all(train.foreground == np.mean(forced) for train in TRAININGS)


def test_what_its_trainer_saves_is_read_as_a_foreign_model(trainer, tmp_path):
    made = trainer(SMALL, TWO)
    for key, value in (("mean_fg_dice", np.float64(0.5)), ("ema_fg_dice", np.float32(0.5))):
        made.logger.log(key, value, 0)
    made._best_ema = np.float64(0.5)
    (tmp_path / "fold_0").mkdir()
    made.save_checkpoint(str(tmp_path / "fold_0" / "checkpoint_final.pth"))
    (tmp_path / "plans.json").write_text(json.dumps(made.plans_manager.plans))
    (tmp_path / "dataset.json").write_text(json.dumps(made.dataset_json))
    read = read_foreign(tmp_path)
    assert read.organs.names == ("liver", "spleen")
    for name, value in made.network.state_dict().items():
        assert torch.equal(read.folds[0][name], value)
