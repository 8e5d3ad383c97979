from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from translate_small import SMALL as SMALLEST

from labelferry.errors import UserError
from labelferry.files import write_json
from labelferry.io.nifti import read_image
from labelferry.pace import Decision, Limit
from labelferry.translate import losses as loss_functions
from labelferry.translate import step, training
from labelferry.translate.apply import load_translator
from labelferry.translate.config import TranslateConfig
from labelferry.translate.step import rate
from labelferry.translate.training import train

Write = Callable[[str, tuple[int, int, int], bool], Path]
SMALL = SMALLEST.model_copy(update={"average": 0.9})


class KillError(Exception):
    """Stands for a kill."""


@pytest.fixture
def images(write: Write) -> tuple[list[Path], list[Path]]:
    source = [write("s0", (40, 36, 3), True), write("s1", (33, 41, 2), True)]
    return source, [write("t0", (30, 44, 3), False)]


def run(
    images: tuple[list[Path], list[Path]],
    folder: Path,
    config: TranslateConfig = SMALL,
    kill_after: int | None = None,
    seed: int = 5,
) -> dict[str, bytes]:
    def progress(done: int, total: int) -> None:
        assert total == config.iterations
        if done == kill_after:
            raise KillError

    train(*images, config, folder, seed=seed, device="cpu", progress=progress)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


FILES = {"translator.safetensors", "translator.json", "losses.jsonl"}


def test_the_same_result_twice_and_another_with_another_seed(
    images: tuple[list[Path], list[Path]], tmp_path: Path
) -> None:
    one, two = run(images, tmp_path / "a"), run(images, tmp_path / "b")
    assert set(one) == FILES
    assert one == two
    assert run(images, tmp_path / "c", seed=6)["losses.jsonl"] != one["losses.jsonl"]
    lines = [json.loads(line) for line in one["losses.jsonl"].splitlines()]
    assert [line["step"] for line in lines] == list(range(12))
    assert list(lines[0]) == ["step", "gan_t", "gan_s", "cyc", "identity", "d_t", "d_s"]


@pytest.mark.parametrize("kills", [(2,), (6,), (8,), (4, 7, 12)])
def test_killed_and_resumed_is_bitwise_the_same(
    images: tuple[list[Path], list[Path]], tmp_path: Path, kills: tuple[int, ...]
) -> None:
    whole = run(images, tmp_path / "whole")
    for kill in kills:
        with pytest.raises(KillError):
            run(images, tmp_path / "killed", kill_after=kill)
    assert (tmp_path / "killed" / "checkpoint.pt").exists() == (kills[0] >= 3)
    assert run(images, tmp_path / "killed") == whole


def test_a_translation_without_time_makes_its_least_number_of_steps(
    images: tuple[list[Path], list[Path]], tmp_path: Path
) -> None:
    told: list[Decision] = []
    config = SMALL.model_copy(update={"iterations": 60})
    late = Limit(time.monotonic() - 1, told.append)
    steps = train(*images, config, tmp_path / "a", seed=5, device="cpu", limit=late)
    assert steps == 25 == told[0].steps and told[0].too_short
    ample = Limit(time.monotonic() + 1e6)
    train(*images, SMALL, tmp_path / "b", seed=5, device="cpu", limit=ample)
    made = run(images, tmp_path / "c")
    kept = {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}
    assert kept.pop("steps.json") and kept == made, "time enough changes nothing"


def test_a_translation_that_is_cut_decays_to_its_end_also_after_a_kill(
    images: tuple[list[Path], list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []

    def kept_rate(step: int, config: TranslateConfig) -> float:
        rates.append(rate(step, config))
        return rates[-1]

    monkeypatch.setattr(step, "rate", kept_rate)
    made = []
    for name, kill in (("whole", None), ("killed", 7)):
        folder = tmp_path / name
        folder.mkdir()
        decided = Decision(8, SMALL.iterations, 2, 1.0, False)
        write_json(folder / "steps.json", {"schema_version": 1, **asdict(decided)})
        rates.clear()
        if kill:
            with pytest.raises(KillError):
                _train_until(images, folder, kill)
        assert train(*images, SMALL, folder, seed=5, device="cpu") == 8
        made.append((folder / "translator.safetensors").read_bytes())
        if not kill:  # two rates a step, one for each optimiser
            assert rates[::2] == [1, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    assert made[0] == made[1]


def _train_until(images: tuple[list[Path], list[Path]], folder: Path, kill: int) -> None:
    def progress(done: int, total: int) -> None:
        if done == kill:
            raise KillError

    train(*images, SMALL, folder, seed=5, device="cpu", progress=progress)


def test_every_part_of_the_state_is_restored(
    images: tuple[list[Path], list[Path]], tmp_path: Path
) -> None:
    saved = []
    for name, kill in (("whole", None), ("killed", 7)):
        folder = tmp_path / name
        if kill:
            with pytest.raises(KillError):
                run(images, folder, kill_after=kill)
        with pytest.raises(KillError):  # at the end, before the checkpoint is removed
            run(images, folder, kill_after=12)
        saved.append(torch.load(folder / "checkpoint.pt", weights_only=True))
    for name, part in saved[0]["parts"].items():
        _same(part, saved[1]["parts"][name])
    _same(saved[0]["pools"], saved[1]["pools"])
    assert len(saved[0]["pools"][0]) == SMALL.pool


def _same(one: Any, two: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one:
            _same(one[key], two[key])
    elif isinstance(one, list | tuple):
        for a, b in zip(one, two, strict=True):
            _same(a, b)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, two)
    else:
        assert one == two


def test_a_checkpoint_of_other_settings_or_a_damaged_one_is_not_used(
    images: tuple[list[Path], list[Path]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = run(images, tmp_path / "whole")
    with pytest.raises(KillError):
        run(images, tmp_path / "other", seed=9, kill_after=6)
    assert run(images, tmp_path / "other") == whole
    assert "belongs to other images or settings" in caplog.text
    with pytest.raises(KillError):
        run(images, tmp_path / "cut", kill_after=6)
    checkpoint = tmp_path / "cut" / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:2000])
    assert run(images, tmp_path / "cut") == whole
    assert "cannot be read" in caplog.text


def test_no_global_random_state_is_read_or_changed(
    images: tuple[list[Path], list[Path]], tmp_path: Path
) -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    before = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())
    one = run(images, tmp_path / "a")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]
    torch.manual_seed(2)
    np.random.seed(2)
    assert run(images, tmp_path / "b") == one


@pytest.mark.parametrize("gan_loss", ["lsgan", "vanilla"])
@pytest.mark.parametrize("reading", ["cyclegan", "paper"])
@pytest.mark.parametrize("stem", ["resnet", "subpixel"])
def test_every_reading_trains(
    images: tuple[list[Path], list[Path]], tmp_path: Path, gan_loss: str, reading: str, stem: str
) -> None:
    config = SMALL.model_copy(
        update={
            "gan_loss": gan_loss,
            "identity": reading,
            "source_adversary": reading,
            "stem": stem,
            "iterations": 2,
            "average": 0.0,
        }
    )
    assert set(run(images, tmp_path / "out", config)) == FILES


def test_what_the_readings_show_to_whom(images: tuple[list[Path], list[Path]]) -> None:
    config = SMALL.model_copy(update={"amp": "fp32"})
    state = training.start(config, 0, torch.device("cpu"))
    x_s, x_t = torch.rand(2, 1, 32, 32), torch.rand(2, 1, 32, 32)
    made = step.forward(state, x_s, x_t, config)
    close = torch.testing.assert_close
    close(made.fake_target, state.to_target(x_s))
    close(made.fake_source, state.to_source(x_t))
    close(made.source_back, state.to_source(made.fake_target))
    close(made.target_back, state.to_target(made.fake_source))
    close(made.kept_by_to_target, state.to_target(x_t))
    close(made.kept_by_to_source, state.to_source(x_s))
    assert made.false_source("cyclegan") is made.fake_source
    assert made.false_source("paper") is made.source_back
    printed = step.forward(state, x_s, x_t, config.model_copy(update={"identity": "paper"}))
    close(printed.kept_by_to_target, state.to_target(x_s))
    close(printed.kept_by_to_source, state.to_source(x_t))
    without = config.model_copy(update={"lambda_identity": 0.0})
    none = step.forward(state, x_s, x_t, without)
    kept = (none.kept_by_to_target, none.kept_by_to_source)
    assert loss_functions.identity_loss(x_s, x_t, *kept, "cyclegan") == 0


def test_the_translators_move_while_the_discriminators_stand_still(
    images: tuple[list[Path], list[Path]],
) -> None:
    state = training.start(SMALL, 0, torch.device("cpu"))
    for judge in (state.d_t, state.d_s):
        judge.requires_grad_(False)
    x = torch.rand(2, 1, 32, 32)
    step.backward_t(state, step.forward(state, x, x, SMALL), SMALL)
    assert all(p.grad is None for p in (*state.d_t.parameters(), *state.d_s.parameters()))
    assert all(p.grad is not None for p in state.to_target.parameters())


def test_learning_rate_by_hand() -> None:
    config = SMALL.model_copy(update={"iterations": 100, "decay_from": 0.5})
    assert [rate(step, config) for step in (0, 49, 50, 75, 99)] == [1, 1, 1, 0.5, 0.02]
    assert rate(99, config.model_copy(update={"decay_from": 1.0})) == 1


def test_a_single_slice_is_enough_and_small_ones_are_padded(write: Write, tmp_path: Path) -> None:
    pair = [write("one", (9, 13, 1), True)], [write("two", (70, 20, 1), False)]
    config = SMALL.model_copy(update={"iterations": 3, "crop": (256, 256)})
    assert set(run(pair, tmp_path / "out", config)) == FILES


def test_a_loss_that_is_not_finite_is_told_and_the_checkpoint_kept(
    images: tuple[list[Path], list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def broken(*values: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return values[1].sum() * (float("nan") if len(calls) == 8 else 0.0)

    monkeypatch.setattr(step.losses, "cycle_loss", broken)
    with pytest.raises(UserError, match="not finite at iteration 7"):
        run(images, tmp_path / "out")
    content = torch.load(tmp_path / "out" / "checkpoint.pt", weights_only=True)
    assert content["done"] == 6
    assert all(v.isfinite().all() for v in content["parts"]["to_target"].values())


def test_the_losses_fall(write: Write, tmp_path: Path) -> None:
    source = [write(f"s{n}", (48, 40, 6), True) for n in range(2)]
    target = [write(f"t{n}", (48, 40, 6), False) for n in range(2)]
    config = SMALL.model_copy(
        update={"channels": 8, "discriminator_channels": 8, "iterations": 60, "batch": 4}
    )
    found = run((source, target), tmp_path / "out", config)
    lines = [json.loads(line) for line in found["losses.jsonl"].splitlines()]
    for name in ("cyc", "identity"):  # bfloat16, where the CPU has it, falls a little slower
        late = float(np.mean([line[name] for line in lines[-10:]]))
        assert late < 0.8 * lines[0][name]
    image = read_image(source[0]).volume.array
    made = load_translator(tmp_path / "out", "cpu").to_target(image)
    assert abs(made.mean() - 0.45) < 0.25
