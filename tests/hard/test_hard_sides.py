"""An image whose anatomy contradicts its header is named as soon as a network labels it."""

from __future__ import annotations

import numpy as np
import pytest
from hard_scene import labels, line_of, mr, save

from labelferry.io.nifti import write_volume
from labelferry.organs import FLARE
from labelferry.pipeline.plausible import judge
from labelferry.pipeline.prepared import PreparedCase
from labelferry.predict.entropy import Prediction
from labelferry.predict.predictor import Model
from labelferry.prior.learn import learn_prior
from labelferry.volume import Grid, Segmentation

TURNS = {
    "mirrored": (np.s_[::-1], "left and right are swapped"),
    "upside_down": (np.s_[:, :, ::-1], "head and foot are swapped"),
    "back_to_front": (np.s_[:, ::-1], "front and back are swapped"),
}


@pytest.mark.parametrize("how", TURNS)
def test_predict_names_it(tmp_path, call, model, monkeypatch, how):
    """The network sees the voxels alone: it labels the organs where they are stored."""
    part, words = TURNS[how]

    def seen(self, volume, case):
        array = labels()[part] if case == how else labels()
        return Prediction(Segmentation(np.ascontiguousarray(array), volume.grid), {})

    monkeypatch.setattr(Model, "prediction", seen)
    for name in (how, "good"):
        save(tmp_path / "in" / f"{name}.nii.gz", mr())
    code, text = call("predict", tmp_path / "in", tmp_path / "out", "--model", model)
    assert code == 0
    assert words in line_of(text, f"{how}.nii.gz")
    assert not line_of(text, "good.nii.gz")


def test_pseudo_labels_name_it(tmp_path):
    grid = Grid(labels().shape, np.diag([10.0, 10, 10, 1]))
    good = Segmentation(labels(), grid)
    prior = learn_prior([(good, good.held)] * 3, FLARE)
    cases: list[PreparedCase] = []
    said: list[str] = []
    odd = labels()[::-1].copy()
    odd[(odd > 0) & (odd < 10)] = 0  # nothing but organs of a size that nobody has
    odd[::4, ::4, ::4] = 3
    for name, array in (
        ("good", labels()),
        ("mirrored", np.ascontiguousarray(labels()[::-1])),
        ("noise", odd),
    ):
        made = Segmentation(array, grid)
        write_volume(tmp_path / f"{name}.nii.gz", made)
        about = ("target", name, "T1", "T1", frozenset())
        cases.append(PreparedCase(name, *about, tmp_path / name))
    assert set(judge(cases, tmp_path, prior, FLARE, said.append)) == {"good", "mirrored", "noise"}
    (text,) = said
    assert text.startswith("mirrored: by the header, the liver lies left of the")
    assert "left and right are swapped" in text
