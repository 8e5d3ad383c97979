from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from translate_small import SMALL

from labelferry.errors import UserError
from labelferry.translate import step, training
from labelferry.translate.stopping import is_over
from labelferry.translate.training import train

Write = Callable[[str, tuple[int, int, int], bool], Path]


@pytest.fixture
def images(write: Write) -> tuple[list[Path], list[Path]]:
    source = [write("s0", (40, 36, 3), True), write("s1", (33, 41, 2), True)]
    return source, [write("t0", (30, 44, 3), False)]


def test_the_end_by_hand() -> None:
    config = SMALL.model_copy(update={"stop_window": 2, "stop_patience": 2, "stop_gain": 0.1})
    # window means 4, 2, 1.9 (no gain of 10 %), 1.85 (none): two idle windows
    cycles = [5, 3, 2, 2, 2, 1.8, 1.85, 1.85]
    assert [is_over(cycles[:n], config) for n in range(9)] == [False] * 8 + [True]
    # 1.5 is a gain: the count begins anew
    assert not is_over([*cycles[:6], 1.5, 1.5], config)
    assert not is_over([1.0] * 100, SMALL)


def test_training_ends_early_and_a_resumed_one_at_the_same_step(
    images: tuple[list[Path], list[Path]], tmp_path: Path
) -> None:
    settings = {"stop_window": 2, "stop_patience": 2, "stop_gain": 0.5}
    config = SMALL.model_copy(update=settings)
    steps = train(*images, config, tmp_path / "whole", seed=5, device="cpu")
    assert steps == 6  # the cycle loss cannot halve within two steps
    whole = {p.name: p.read_bytes() for p in (tmp_path / "whole").iterdir()}
    assert len(whole["losses.jsonl"].splitlines()) == steps

    kills = [4, 6]

    def kill(done: int, _: int) -> None:
        if kills and done == kills[0]:
            kills.pop(0)
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train(*images, config, tmp_path / "cut", seed=5, device="cpu", progress=kill)
    train(*images, config, tmp_path / "cut", seed=5, device="cpu")
    assert {p.name: p.read_bytes() for p in (tmp_path / "cut").iterdir()} == whole


def test_pictures_change_no_weight(images: tuple[list[Path], list[Path]], tmp_path: Path) -> None:
    config = SMALL.model_copy(update={"samples_every": 5, "average": 0.9})
    samples = tmp_path / "samples"
    train(*images, config, tmp_path / "with", seed=5, device="cpu", samples=samples)
    without = config.model_copy(update={"samples_every": 0})
    train(*images, without, tmp_path / "without", seed=5, device="cpu", samples=tmp_path / "none")
    for name in ("translator.safetensors", "losses.jsonl"):
        one, two = (tmp_path / folder / name for folder in ("with", "without"))
        assert one.read_bytes() == two.read_bytes()
    assert not (tmp_path / "none").exists()
    found = sorted(path.name for path in samples.iterdir())
    assert found == ["step_000005.png", "step_000010.png", "step_000012.png"]
    again = tmp_path / "again"
    train(*images, config, tmp_path / "twice", seed=5, device="cpu", samples=again)
    assert [(again / n).read_bytes() for n in found] == [(samples / n).read_bytes() for n in found]
    sheets = [np.asarray(Image.open(samples / name)) for name in found]
    assert sheets[0].shape == (5 * 34 - 2, 6 * 34 - 2)
    assert np.array_equal(sheets[0][:32], sheets[2][:32])  # the same source slices
    assert not np.array_equal(sheets[0][34:66], sheets[2][34:66])


def test_a_loss_that_is_no_number_names_the_slices(
    images: tuple[list[Path], list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    real = step.losses.cycle_loss

    def broken(*values: torch.Tensor) -> torch.Tensor:
        drawn.append("")
        return real(*values) * (float("inf") if len(drawn) == 8 else 1.0)

    monkeypatch.setattr(step.losses, "cycle_loss", broken)
    with pytest.raises(UserError) as told:
        names = (["ct7", "ct9"], ["mr3"])
        train(*images, SMALL, tmp_path / "out", seed=5, device="cpu", names=names)
    text = str(told.value)
    assert "not finite at iteration 7" in text
    sides = (
        training.gather(images[0], "source", tmp_path, names[0]),
        training.gather(images[1], "target", tmp_path, names[1]),
    )
    rngs = [np.random.default_rng((5, sample)) for sample in (14, 15)]
    for side in sides:
        for rng in rngs:
            assert side.draw_named(rng, (32, 32))[1] in text
    content = torch.load(tmp_path / "out" / "checkpoint.pt", weights_only=True)
    assert content["done"] == 6


def test_a_broken_weight_never_takes_the_place_of_the_last_good_checkpoint(
    images: tuple[list[Path], list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    real = step.losses.cycle_loss

    def broken(*values: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        # a loss of the right size whose gradient is no number: sqrt at 0
        harm = (values[1] * 0).sum().sqrt() if len(calls) == 6 else 0
        return real(*values) + harm

    monkeypatch.setattr(step.losses, "cycle_loss", broken)
    with pytest.raises(UserError, match=r"a weight .* not finite after iteration 5; seen: source"):
        train(*images, SMALL, tmp_path / "out", seed=5, device="cpu")
    content = torch.load(tmp_path / "out" / "checkpoint.pt", weights_only=True)
    assert content["done"] == 3
    assert all(v.isfinite().all() for v in content["parts"]["to_target"].values())
    assert len(json.loads((tmp_path / "out" / "losses.jsonl").read_text().splitlines()[0])) == 7
