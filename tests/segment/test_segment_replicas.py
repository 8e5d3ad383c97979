"""Several processes train as one does, up to rounding; one that dies is told."""

import multiprocessing
import sys

import numpy as np
import pytest
import torch

from labelferry import replicas
from labelferry.anatomy.config import AnatomyConfig
from labelferry.errors import UserError
from labelferry.io.nifti import write_volume
from labelferry.organs import Organ, OrganSet
from labelferry.replicas import ALONE, Team, check_devices
from labelferry.segment.bundle import read_bundle
from labelferry.segment.config import NetworkConfig, TrainConfig
from labelferry.segment.engine import Task, train_model
from labelferry.segment.examples import Example
from labelferry.segment.network import build_network
from labelferry.volume import Grid, Segmentation, Volume

ORGANS = OrganSet((Organ(1, "liver"), Organ(2, "spleen")))
NETWORK = NetworkConfig(dimensions=2, patch=(16, 16), channels=4, downsamplings=2)
TRAIN = TrainConfig(
    epochs=3,
    iterations_per_epoch=2,
    batch=4,
    batch_dice=True,
    average=0.9,
    amp="fp32",
    checkpoint_seconds=1e-9,
)
CPU = torch.device("cpu")


@pytest.fixture
def examples(tmp_path):
    grid = Grid((20, 18, 6), np.diag([3.0, 3.0, 5.0, 1.0]))
    image = np.random.default_rng(0).random(grid.shape).astype(np.float32) + 0.1
    labels = np.zeros(grid.shape, np.uint8)
    labels[2:8, 2:8, 1:4], labels[12:17, 10:15, 2:5] = 1, 2
    write_volume(tmp_path / "image.nii.gz", Volume(image, grid))
    write_volume(tmp_path / "label.nii.gz", Segmentation(labels, grid))
    files = (tmp_path / "image.nii.gz",), tmp_path / "label.nii.gz"
    return [Example(f"case{n}", *files, frozenset({1, 2})) for n in range(2)]


def train(examples, folder, devices, config=TRAIN, progress=None):
    task = Task("test", ORGANS, "plain", AnatomyConfig(spacing=(3, 3, 5)), NETWORK)
    model = train_model(
        examples, task, config, folder, seed=5, device="cpu", devices=devices, progress=progress
    )
    return read_bundle(model)[1]


def test_all_draw_the_batches_of_one():
    # from step 1 of 3 on, batches of 4: samples 4…7 and 8…11, every second one each
    samples = range(4, 12)
    assert list(Team(0, 2).share(samples)) == [4, 6, 8, 10]
    assert list(Team(1, 2).share(samples)) == [5, 7, 9, 11]
    assert list(ALONE.share(samples)) == list(samples)


def test_alone_nothing_is_exchanged():
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    weight.grad = torch.tensor([3.0, 4.0])
    assert ALONE.average([weight], torch.tensor([5.0])).tolist() == [5.0]
    assert weight.grad.tolist() == [3.0, 4.0]
    assert ALONE.whole(torch.tensor([[6.0]])).tolist() == [[6.0]]


def test_two_processes_train_as_one_also_after_a_kill(examples, tmp_path):
    class KilledError(Exception):
        pass

    def kill(step, _):
        if step == 3:
            raise KilledError

    one = train(examples, tmp_path / "one", 1)
    with pytest.raises(KilledError):
        train(examples, tmp_path / "two", 2, progress=kill)
    assert not multiprocessing.active_children()
    two = train(examples, tmp_path / "two", 2)
    first = build_network(NETWORK, 1, 3, spacing=(5, 3, 3), deep_supervision=True, seed=5)
    start = first.state_dict()
    moved = max(float((one[name] - start[name]).abs().max()) for name in one)
    apart = max(float((one[name] - two[name]).abs().max()) for name in one)
    assert apart < 1e-4 * moved
    losses = [
        (tmp_path / name / "losses.jsonl").read_text().splitlines() for name in ("one", "two")
    ]
    assert len(losses[0]) == len(losses[1]) == 3


def test_dice_per_patch_is_divided_as_well(examples, tmp_path):
    config = TRAIN.model_copy(update={"batch_dice": False, "epochs": 1})
    one, two = (train(examples, tmp_path / str(n), n, config) for n in (1, 2))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-6, rtol=1e-5)


def test_a_process_that_dies_is_told(examples, tmp_path):
    def kill(step, _):
        for other in multiprocessing.active_children():
            other.kill()

    with pytest.raises(UserError, match="a process of this training has died"):
        train(examples, tmp_path / "run", 2, progress=kill)
    assert not multiprocessing.active_children()


def dies_at_once(*_):
    sys.exit(7)


def test_a_process_that_never_begins_is_told(monkeypatch):
    monkeypatch.setattr(replicas, "_help", dies_at_once)
    with (
        pytest.raises(UserError, match=r"has died.*exit code 7"),
        replicas.helped(dies_at_once, (), 2, CPU),
    ):
        raise AssertionError("never begun")


@pytest.mark.parametrize("change", [{"class_weight": 2.0}, {"rarity": 0.5}, {"dice_present": True}])
def test_a_loss_that_cannot_be_divided_is_told(examples, tmp_path, change):
    with pytest.raises(UserError, match="weighs or leaves out"):
        train(examples, tmp_path, 2, TRAIN.model_copy(update=change))


def test_a_batch_that_cannot_be_divided_is_told():
    with pytest.raises(UserError, match=r"a batch cannot be divided.*batch 4, devices 3"):
        check_devices(3, 4, CPU)
    check_devices(2, 4, CPU)
