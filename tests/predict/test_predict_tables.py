"""volumes.csv and quality.csv of a folder, over reruns, failures and models without a prior."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labelferry.cli.predict import predict
from labelferry.io.nifti import read_labels, write_volume
from labelferry.io.notes import Note
from labelferry.predict import files, foreign
from labelferry.predict.files import predict_files
from labelferry.predict.predictor import Model
from labelferry.predict.tables import read_quality
from labelferry.prior.learn import learn_prior
from labelferry.volume import Volume

Make = Callable[..., Model]


@pytest.fixture
def images(tmp_path: Path, scan: Volume) -> list[Path]:
    for number in range(3):
        write_volume(tmp_path / "in" / f"p{number}.nii.gz", scan)
    return sorted((tmp_path / "in").glob("*"))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def cases(folder: Path) -> list[list[str]]:
    return [
        sorted({row["case"] for row in rows(folder / name)})
        for name in ("volumes.csv", "quality.csv")
    ]


def test_one_line_a_case_and_one_an_organ(
    fake_model: Make, images: list[Path], tmp_path: Path
) -> None:
    model, out = fake_model(), tmp_path / "out"
    predict_files(model, images, out)
    assert cases(out) == [["p0", "p1", "p2"]] * 2
    labels = read_labels(out / "p0.nii.gz", model.organs)
    ml = {o.name: (labels.array == o.id).sum() * labels.grid.voxel_mm3 / 1000 for o in model.organs}
    (line, *_) = rows(out / "volumes.csv")
    assert list(line) == ["case", "liver", "spleen"]
    for organ, volume in ml.items():
        assert float(line[organ]) == pytest.approx(volume, abs=0.006)
    quality = rows(out / "quality.csv")
    assert [row["organ"] for row in quality] == ["liver", "spleen"] * 3
    for row in quality:
        assert 0 < float(row["entropy"]) < 1
        assert row["z"] == "", "this model has no prior"
        assert row["verdict"] in ("ok", "look", "doubt")


def test_the_labels_are_those_of_predict(
    fake_model: Make, images: list[Path], tmp_path: Path
) -> None:
    """Measuring changes no byte: as written from ``Model.predict`` alone."""
    model = fake_model()
    predict_files(model, images[:1], tmp_path / "out")
    image = files.read_image(images[0])
    files.write_labels(
        tmp_path / "plain.nii.gz",
        model.predict(image.volume),
        image,
        model.organs,
        ("nifti",),
        None,
    )
    assert (tmp_path / "out" / "p0.nii.gz").read_bytes() == (tmp_path / "plain.nii.gz").read_bytes()


def test_a_prior_gives_z_and_its_lack_is_said(
    fake_model: Make, images: list[Path], scan: Volume, tmp_path: Path
) -> None:
    model = fake_model()
    said: list[Note] = []
    predict_files(model, images[:1], tmp_path / "out", told=said.append)
    assert sum("no prior" in note.line() for note in said) == 1
    labels = model.predict(scan)
    model.bundle = replace(model.bundle, prior=learn_prior([(labels, labels.held)], model.organs))
    said.clear()
    predict_files(model, images[:1], tmp_path / "out", told=said.append)
    assert not any("no prior" in note.line() for note in said)
    assert [float(row["z"]) for row in rows(tmp_path / "out" / "quality.csv")] == [0, 0]


def test_a_rerun_keeps_and_makes_up_rows(
    fake_model: Make, images: list[Path], tmp_path: Path
) -> None:
    model, out = fake_model(), tmp_path / "out"
    predict_files(model, images[:2], out)
    first = (out / "quality.csv").read_bytes()
    # another case later: the rows of the first two stand as they were
    predict_files(model, images, out, overwrite=False)
    assert (out / "quality.csv").read_bytes().startswith(first)
    assert cases(out) == [["p0", "p1", "p2"]] * 2
    # and where the table is lost, it is made up from the labels; how sure the network was is gone
    volumes = (out / "volumes.csv").read_bytes()
    (out / "quality.csv").unlink()
    (out / "volumes.csv").unlink()
    predict_files(model, images, out, overwrite=False)
    assert (out / "volumes.csv").read_bytes() == volumes
    assert {row["entropy"] for row in rows(out / "quality.csv")} == {""}
    # labels that are gone have no row
    (out / "p1.nii.gz").unlink()
    predict_files(model, images[2:], out, overwrite=False)
    assert cases(out) == [["p0", "p2"]] * 2


def test_a_failed_case_is_absent(fake_model: Make, images: list[Path], tmp_path: Path) -> None:
    model, out = fake_model(), tmp_path / "out"
    predict_files(model, images, out)
    images[1].write_bytes(b"no image")
    assert [failure.case for failure in predict_files(model, images, out)] == ["p1"]
    assert cases(out) == [["p0", "p2"]] * 2


def test_labels_that_cannot_be_read_are_told(
    fake_model: Make, images: list[Path], tmp_path: Path
) -> None:
    out, said = tmp_path / "out", list[Note]()
    out.mkdir()
    (out / "p0.nii.gz").write_bytes(b"mine")
    predict_files(fake_model(), images[:2], out, overwrite=False, told=said.append)
    assert any("p0.nii.gz" in note.line() and "not measured" in note.line() for note in said)
    assert cases(out) == [["p1"]] * 2
    assert (out / "p0.nii.gz").read_bytes() == b"mine"


def test_an_interrupt_keeps_what_is_done(
    fake_model: Make, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, out = fake_model(), tmp_path / "out"
    predict_files(model, images, out)
    label = model.prediction
    asked: list[str] = []

    def labelling(image: Any, *, case: str) -> Any:
        asked.append(case)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return label(image, case=case)

    monkeypatch.setattr(model, "prediction", labelling)
    with pytest.raises(KeyboardInterrupt):
        predict_files(model, images, out)
    assert "p2" not in read_quality(out / "quality.csv"), "labelled by an earlier run"
    assert "p0" in read_quality(out / "quality.csv")


def test_a_table_of_somebody_else_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "quality.csv").write_text("case,score\np0,1\n")
    assert read_quality(tmp_path / "quality.csv") == {}
    (tmp_path / "quality.csv").write_bytes(b"\xff\xfe")
    assert read_quality(tmp_path / "quality.csv") == {}


def test_a_single_file_gets_one_on_request(
    fake_model: Make, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(path: Path, **how: Any) -> Model:
        return fake_model()

    monkeypatch.setattr(foreign, "load_labeller", load)
    out = tmp_path / "one"
    assert predict(images[0], out / "a.nii.gz", model=tmp_path) == 0
    assert [path.name for path in out.iterdir()] == ["a.nii.gz"]
    assert predict(images[0], out / "a.nii.gz", model=tmp_path, quality=out / "q.csv") == 0
    assert sorted(path.name for path in out.iterdir()) == ["a.nii.gz", "q.csv"]
    assert {row["case"] for row in rows(out / "q.csv")} == {"p0"}
    before = (out / "a.nii.gz").stat().st_mtime_ns
    assert predict(images[0], out / "a.nii.gz", model=tmp_path, skip_done=True) == 0
    assert (out / "a.nii.gz").stat().st_mtime_ns == before


def test_doubtful_cases_get_one_line(
    fake_model: Make, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, said = fake_model(), list[Note]()
    label = model.prediction

    def unsure(image: Any, *, case: str) -> Any:
        return replace(label(image, case=case), entropy={1: 0.9 if case == "p1" else 0.2, 2: 0.0})

    monkeypatch.setattr(model, "prediction", unsure)
    predict_files(model, images, tmp_path / "out", told=said.append)
    assert not [note for note in said if note.severity == "warning"], "the pictures are all right"
    (line,) = [note.line() for note in said if "doubtful" in note.line()]
    assert line.startswith("p1.nii.gz: doubtful: liver ("), "named once"
    assert "the network is at a loss" in line
    verdicts = {(r["case"], r["organ"]): r["verdict"] for r in rows(tmp_path / "out/quality.csv")}
    assert (verdicts["p0", "liver"], verdicts["p1", "liver"]) == ("look", "doubt")
