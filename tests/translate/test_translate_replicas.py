"""Several processes translate as one does, up to rounding: weights, losses and pools."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from translate_small import SMALL

from labelferry.errors import UserError
from labelferry.pipeline.config import load_config
from labelferry.pipeline.stages.translate import _devices
from labelferry.translate import training
from labelferry.translate.training import train

Write = Callable[[str, tuple[int, int, int], bool], Path]
CONFIG = SMALL.model_copy(
    update={"batch": 4, "pool": 6, "average": 0.9, "amp": "fp32", "checkpoint_every": 2}
)


class KillError(Exception):
    """Stands for a kill."""


@pytest.fixture
def images(write: Write) -> tuple[list[Path], list[Path]]:
    source = [write("s0", (40, 36, 3), True), write("s1", (33, 41, 2), True)]
    return source, [write("t0", (30, 44, 3), False)]


def made(folder: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    lines = (folder / "losses.jsonl").read_text(encoding="utf-8").splitlines()
    return load_file(folder / "translator.safetensors"), [json.loads(line) for line in lines]


def test_two_processes_translate_as_one_also_after_a_kill(images, tmp_path):
    def kill(done: int, _: int) -> None:
        if done == 5:
            raise KillError

    def learn(name: str, devices: int, progress=None) -> None:
        train(*images, CONFIG, tmp_path / name, seed=5, device="cpu", devices=devices,
              progress=progress)  # fmt: skip

    learn("one", 1)
    with pytest.raises(KillError):
        learn("two", 2, kill)
    assert not multiprocessing.active_children()
    learn("two", 2)
    (one, losses), (two, others) = made(tmp_path / "one"), made(tmp_path / "two")
    first = training.start(CONFIG, 5, torch.device("cpu")).to_target.state_dict()
    named = [(name, name.rpartition("to_target.")[2]) for name in one]
    moved = max(float((one[n] - first[k]).abs().max()) for n, k in named if k in first)
    apart = max(float((one[name] - two[name]).abs().max()) for name in one)
    assert moved > 0 and apart < 0.02 * moved
    for line, other in zip(losses, others, strict=True):
        assert line == pytest.approx(other, rel=1e-3)


def test_a_process_that_dies_is_told(images, tmp_path):
    def kill(*_: int) -> None:
        for other in multiprocessing.active_children():
            other.kill()

    with pytest.raises(UserError, match="a process of this training has died"):
        train(*images, CONFIG, tmp_path, seed=5, device="cpu", devices=2, progress=kill)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("batch", "devices", "used"), [(1, 4, 1), (4, 2, 2), (4, 3, 2), (6, 4, 3), (8, 8, 8)]
)
def test_a_translation_takes_the_devices_that_divide_its_batch(batch, devices, used):
    given = (f"translate.batch={batch}", f"devices={devices}")
    assert _devices(load_config("default", "demo", given)) == used
