"""Training: the same twice, the same after a kill, partial annotation, bad input."""

import json
import multiprocessing
import time
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from labelferry.anatomy.config import AnatomyConfig
from labelferry.errors import UserError
from labelferry.files import write_json
from labelferry.io.nifti import write_volume
from labelferry.organs import Organ, OrganSet
from labelferry.pace import Decision, Limit
from labelferry.segment.bundle import read_bundle
from labelferry.segment.config import NetworkConfig, TrainConfig
from labelferry.segment.engine import Task, train_model
from labelferry.segment.examples import Example, PatchSampler, load_examples
from labelferry.segment.inherit import inherited
from labelferry.segment.loading import dead_workers_told
from labelferry.segment.plans import make_plans
from labelferry.segment.preprocess import add_context
from labelferry.volume import Grid, Segmentation, Volume

ORGANS = OrganSet((Organ(1, "liver"), Organ(2, "spleen")))
NETWORK = NetworkConfig(dimensions=2, patch=(16, 16), channels=4, downsamplings=2, context=1)
TRAIN = TrainConfig(
    epochs=3,
    iterations_per_epoch=2,
    batch=2,
    optimizer="adamw",
    learning_rate=1e-3,
    deep_supervision=True,
    average=0.9,
    balanced=True,
    curves_p=0.5,
    rarity=0.5,
    rarity_fades=True,
    checkpoint_seconds=1e-9,
)


@pytest.fixture
def examples(tmp_path):
    made = []
    grid = Grid((20, 18, 6), np.diag([3.0, 3.0, 5.0, 1.0]))
    for n in range(2):
        rng = np.random.default_rng(n)
        image = rng.random(grid.shape).astype(np.float32) + 0.1
        labels = np.zeros(grid.shape, np.uint8)
        labels[2:8, 2:8, 1:4] = 1
        labels[12:17, 10:15, 2:5] = 2
        write_volume(tmp_path / f"{n}.nii.gz", Volume(image, grid))
        write_volume(tmp_path / f"{n}_label.nii.gz", Segmentation(labels, grid))
        known = frozenset({1, 2}) if n else frozenset({1})
        made.append(
            Example(
                f"case{n}",
                (tmp_path / f"{n}.nii.gz",),
                tmp_path / f"{n}_label.nii.gz",
                known,
                randomise="curves",
            )
        )
    return made


def train(examples, folder, config=TRAIN, network=NETWORK, **kw):
    task = Task("test", ORGANS, "plain", AnatomyConfig(spacing=(3, 3, 5)), network)
    model = train_model(examples, task, config, folder, seed=5, device="cpu", **kw)
    return read_bundle(model)[1]


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("amp", ["fp32", "bf16"])
def test_same_result_twice_and_after_kills(examples, tmp_path, amp):
    config = TRAIN.model_copy(update={"amp": amp})  # in bf16 slices lie channels last
    whole = train(examples, tmp_path / "whole", config)
    assert same(whole, train(examples, tmp_path / "again", config))

    class KilledError(Exception):
        pass

    for stop in (2, 4, 5):

        def kill(step, _, stop=stop):
            if step == stop:
                raise KilledError

        with pytest.raises(KilledError):
            train(examples, tmp_path / "killed", config, progress=kill)
    assert same(whole, train(examples, tmp_path / "killed", config))
    lines = (tmp_path / "killed" / "losses.jsonl").read_text()
    assert lines == (tmp_path / "whole" / "losses.jsonl").read_text()
    assert not (tmp_path / "killed" / "checkpoint.pt").exists()


def test_time_enough_changes_nothing(examples, tmp_path):
    whole = train(examples, tmp_path / "whole")
    assert not (tmp_path / "whole" / "steps.json").exists()
    ample = Limit(time.monotonic() + 1e6)
    assert same(whole, train(examples, tmp_path / "ample", limit=ample))
    bundle, _ = read_bundle(tmp_path / "ample" / "model")
    assert bundle.provenance["time_limit"]["steps"] == TRAIN.iterations


def test_a_training_that_is_cut_decays_to_its_own_end(examples, tmp_path):
    told = []
    late = Limit(time.monotonic() - 1, told.append)
    cut = train(examples, tmp_path / "cut", limit=late)
    assert [d.too_short for d in told] == [True]
    (line,) = (tmp_path / "cut" / "losses.jsonl").read_text().splitlines()
    assert json.loads(line)["step"] == 2 and json.loads(line)["lr"] == TRAIN.learning_rate
    # two of three epochs, decided after the first: the rate of the second is (1 - 1/2)^0.9
    folder = tmp_path / "two"
    write_decision(folder, steps=4)
    train(examples, folder, limit=late)
    rates = [json.loads(row)["lr"] for row in (folder / "losses.jsonl").read_text().splitlines()]
    assert rates == pytest.approx([TRAIN.learning_rate, TRAIN.learning_rate * 0.5**0.9])
    assert not same(cut, read_bundle(folder / "model")[1])


def test_a_cut_training_is_the_same_after_kills(examples, tmp_path):
    class KilledError(Exception):
        pass

    write_decision(tmp_path / "whole", steps=4)
    whole = train(examples, tmp_path / "whole")
    write_decision(tmp_path / "killed", steps=4)
    for stop in (1, 3):

        def kill(step, _, stop=stop):
            if step == stop:
                raise KilledError

        with pytest.raises(KilledError):
            train(examples, tmp_path / "killed", progress=kill)
    ample = Limit(time.monotonic() + 1e6)
    assert same(whole, train(examples, tmp_path / "killed", limit=ample))


def write_decision(folder, steps):
    folder.mkdir()
    decided = Decision(steps, TRAIN.iterations, 2, 1.0, False)
    write_json(folder / "steps.json", {"schema_version": 1, **asdict(decided)})


def test_global_random_state_is_left_alone(examples, tmp_path):
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()
    train(examples, tmp_path / "run")
    assert np.array_equal(numpy_state, np.random.get_state()[1])
    assert torch.equal(torch_state, torch.get_rng_state())


def test_warm_start_begins_with_the_given_weights(examples, tmp_path):
    first = train(examples, tmp_path / "first")
    frozen = TRAIN.model_copy(update={"learning_rate": 1e-30, "weight_decay": 0.0})
    second = train(examples, tmp_path / "second", frozen, warm_start=tmp_path / "first" / "model")
    for key in first:
        torch.testing.assert_close(first[key], second[key], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("change", "begins"), [({"channels": 2}, True), ({"context": 0}, False)])
def test_a_smaller_network_begins_with_a_part_and_another_one_anew(
    change, begins, examples, tmp_path
):
    first = train(examples, tmp_path / "first")
    small = NETWORK.model_copy(update=change)
    frozen = TRAIN.model_copy(update={"learning_rate": 1e-30, "weight_decay": 0.0})
    given = {"warm_start": tmp_path / "first" / "model"}
    found = train(examples, tmp_path / "second", frozen, small, **given)
    anew = train(examples, tmp_path / "third", frozen, small)
    expected = inherited(first, anew) if begins else anew
    for key in expected:
        torch.testing.assert_close(found[key], expected[key], atol=1e-6, rtol=1e-5)
    bundle, _ = read_bundle(tmp_path / "second" / "model")
    assert bundle.provenance["warm_start"] is begins


def test_unannotated_labels_are_not_shown_to_training(examples, tmp_path):
    plans = make_plans(NETWORK, (5, 3, 3), 1, batch=2)
    first, second = load_examples(examples, ORGANS, plans, tmp_path / "cache")
    assert set(np.unique(first.labels)) <= {-1, 0, 1}, "organ 2 is not annotated in case 0"
    assert set(first.locations) == {1} and set(second.locations) == {1, 2}


def test_context_of_a_patch_is_that_of_prediction(examples, tmp_path):
    plans = make_plans(NETWORK, (5, 3, 3), 1, batch=2)
    (case, _) = load_examples(examples, ORGANS, plans, tmp_path / "cache")
    sampler = PatchSampler([case], case.labels.shape[1:], 0.0, False, context=1)
    stacked = add_context(np.asarray(case.data), 1)
    for z in (0, 2, 5):
        patch = sampler._cut(case, [z, *(n // 2 for n in case.labels.shape[1:])])
        np.testing.assert_array_equal(patch.data, stacked[:, z])


def test_patches_pad_images_that_are_smaller(examples, tmp_path):
    plans = make_plans(NETWORK, (5, 3, 3), 1, batch=2)
    (case, _) = load_examples(examples, ORGANS, plans, tmp_path / "cache")
    patch = PatchSampler([case], (64, 64), 1.0, True).draw(np.random.default_rng(0))
    assert patch.data.shape == (1, 64, 64) and patch.labels.min() == -1


@pytest.mark.slow  # torch may raise its error once more, later, in pytest's own code
def test_a_dead_worker_ends_in_a_message_within_a_minute(examples, tmp_path):
    workers = TRAIN.model_copy(update={"workers": 1, "epochs": 10_000})
    killed = []

    def kill(step, _):
        if not killed:
            multiprocessing.active_children()[0].kill()
            killed.append(time.monotonic())

    with pytest.raises(UserError, match=r"has died.*train\.workers"):
        train(examples, tmp_path / "run", workers, progress=kill)
    assert killed and time.monotonic() - killed[0] < 60


class Slow:
    """A data set whose samples take longer than torch's look at its workers."""

    def __len__(self):
        return 1

    def __getitem__(self, n):
        time.sleep(6)
        return n


def test_a_slow_worker_is_waited_for():
    loader = DataLoader(Slow(), num_workers=1, multiprocessing_context="spawn")
    with dead_workers_told():
        assert [int(value) for value in loader] == [0]


def test_other_faults_are_not_taken_for_a_dead_worker():
    with pytest.raises(RuntimeError, match="of our own"), dead_workers_told():
        raise RuntimeError("a fault of our own")


def test_nothing_to_train_on_is_told(tmp_path):
    with pytest.raises(UserError, match="nothing to train on"):
        train([], tmp_path / "run")


def test_loss_that_is_not_a_number_is_told(examples, tmp_path):
    wild = TRAIN.model_copy(update={"learning_rate": 1e30, "gradient_clip": 1e30})
    with pytest.raises(UserError, match="not a number"):
        train(examples, tmp_path / "run", wild)


def test_voxels_of_each_organ_are_counted(examples, tmp_path):
    plans = make_plans(NETWORK, (5, 3, 3), 1, batch=2)
    prepared = load_examples(examples, ORGANS, plans, tmp_path / "cache")
    # 6×6×3 voxels of the liver; the spleen, 5×5×3, is annotated in the second case alone
    assert [p.counts for p in prepared] == [{1: 108}, {1: 108, 2: 75}]
