from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from labelferry.errors import UserError
from labelferry.translate import training
from labelferry.translate.apply import Translator, load_translator, save_translator
from labelferry.translate.config import TranslateConfig

CONFIG = TranslateConfig(stem="subpixel", channels=4, blocks=1, discriminator_channels=4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    state = training.start(CONFIG, 3, torch.device("cpu"))
    save_translator(tmp_path, state.to_target, state.to_source, CONFIG)
    return tmp_path


@pytest.fixture
def translator(folder: Path) -> Translator:
    return load_translator(folder, "cpu")


@pytest.mark.parametrize("shape", [(17, 10, 3), (12, 8, 1), (1, 1, 2), (5, 70, 40)])
def test_shape_and_range_are_kept(translator: Translator, shape: tuple[int, int, int]) -> None:
    array = np.random.default_rng(0).random(shape).astype(np.float32)
    for made in (translator.to_target(array), translator.to_source(array)):
        assert made.shape == shape
        assert made.dtype == np.float32
        assert made.min() >= 0
        assert made.max() <= 1
    if shape[0] > 1:
        assert not np.array_equal(translator.to_target(array), translator.to_source(array))


def test_a_slice_without_contrast_stays_as_it_is(translator: Translator) -> None:
    array = np.random.default_rng(0).random((12, 12, 3)).astype(np.float32)
    array[:, :, 1] = 0.0
    made = translator.to_target(array)
    assert not made[:, :, 1].any()
    assert made[:, :, 0].std() > 0


def test_slices_are_axial_and_do_not_see_each_other(translator: Translator) -> None:
    array = np.random.default_rng(0).random((16, 20, 5)).astype(np.float32)
    made = translator.to_target(array)
    one = translator.to_target(array[:, :, 2:3])
    assert np.allclose(made[:, :, 2:3], one, atol=0.02)  # bfloat16


def test_the_same_as_the_network(folder: Path) -> None:
    state = training.start(CONFIG, 3, torch.device("cpu"))
    array = np.random.default_rng(0).random((16, 12, 2)).astype(np.float32)
    slices = torch.from_numpy(np.ascontiguousarray(array.transpose(2, 1, 0)))[:, None]
    with torch.no_grad():
        want = (state.to_target(slices * 2 - 1) + 1) / 2
    made = load_translator(folder, "cpu").to_target(array)
    assert np.allclose(made.transpose(2, 1, 0), want[:, 0].numpy(), atol=0.02)


def test_damaged_and_missing_files_are_told(folder: Path) -> None:
    record = folder / "translator.json"
    text = record.read_text()
    value = json.loads(text)
    value["architecture"]["channels"] = 8
    record.write_text(json.dumps(value))
    with pytest.raises(UserError, match="belong to another network"):
        load_translator(folder, "cpu")
    value["architecture"]["stem"] = "os.system"
    record.write_text(json.dumps(value))
    with pytest.raises(UserError, match="not a translator's record"):
        load_translator(folder, "cpu")
    record.write_text(json.dumps(value | {"schema_version": 0}))
    with pytest.raises(UserError, match="schema version"):
        load_translator(folder, "cpu")
    record.write_text(text)
    weights = folder / "translator.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UserError, match="damaged"):
        load_translator(folder, "cpu")
    weights.unlink()
    with pytest.raises(UserError, match="file not found"):
        load_translator(folder, "cpu")
