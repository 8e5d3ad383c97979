from __future__ import annotations

import csv
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from labelferry.cli.predict import predict
from labelferry.errors import UserError
from labelferry.io.nifti import write_volume
from labelferry.predict import files, foreign
from labelferry.predict.files import case_id, find_images, output_paths, predict_files
from labelferry.predict.predictor import Model
from labelferry.volume import Volume

Make = Callable[..., Model]


@pytest.fixture
def cohort(tmp_path: Path, scan: Volume) -> Path:
    """Two images and one that is no image."""
    folder = tmp_path / "cohort" / "images"
    write_volume(folder / "p1_T1.nii.gz", scan)
    write_volume(folder / "p2_0000.nii", scan)
    (folder / "p3.nii.gz").write_bytes(b"not an image")
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.nii.gz").write_bytes(b"")
    return tmp_path / "cohort"


def tree(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_case_ids() -> None:
    assert case_id(Path("a/case_0000.nii.gz")) == "case"
    assert case_id(Path("p.1_T1.NII")) == "p.1_T1"
    assert case_id(Path("_0000.nii")) == "_0000"


def test_finds_images(cohort: Path) -> None:
    names = [path.name for path in find_images(cohort)]
    assert names == ["p1_T1.nii.gz", "p2_0000.nii", "p3.nii.gz"]
    assert find_images(cohort / "images") == find_images(cohort)
    with pytest.raises(UserError, match="has no image"):
        (cohort / "empty").mkdir()
        find_images(cohort / "empty")
    with pytest.raises(UserError, match="no such file"):
        find_images(cohort / "nowhere")


def test_a_failed_case_stops_no_other(cohort: Path, fake_model: Make, tmp_path: Path) -> None:
    before = tree(cohort)
    out = tmp_path / "out"
    seen: list[tuple[int, int]] = []
    failures = predict_files(
        fake_model(), find_images(cohort), out, progress=lambda a, b: seen.append((a, b))
    )
    assert [failure.case for failure in failures] == ["p3"]
    assert sorted(p.name for p in out.iterdir()) == [
        "failures.csv", "p1_T1.nii.gz", "p2.nii.gz", "quality.csv", "volumes.csv",
    ]  # fmt: skip
    with (out / "failures.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert rows[0]["case"] == "p3"
    assert str(tmp_path) not in rows[0]["reason"]
    assert seen[-1] == (3, 3)
    assert tree(cohort) == before
    # a later success leaves no list of failures behind
    assert predict_files(fake_model(), find_images(cohort)[:2], out) == []
    assert not (out / "failures.csv").exists()


def test_a_fault_of_ours_is_told_too(
    cohort: Path, fake_model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fake_model()
    monkeypatch.setattr(model, "_scored", lambda *_: 1 / 0)
    failures = predict_files(model, find_images(cohort)[:2], tmp_path / "out")
    assert [f.reason for f in failures] == [
        f"{name}: ZeroDivisionError: division by zero" for name in ("p1_T1.nii.gz", "p2_0000.nii")
    ]


def test_the_header_is_the_images(fake_model: Make, scan: Volume, tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(scan.array[..., None], None)
    affine = scan.grid.affine @ np.diag([-1.0, 1.0, 1.0, 1.0])
    image.set_qform(affine, 2)
    image.set_sform(affine, 4)
    image.header["descrip"] = b"a patient's name"
    image.to_filename(tmp_path / "scan.nii.gz")
    target = tmp_path / "out" / "labels.nii.gz"
    assert predict_files(fake_model(), [tmp_path / "scan.nii.gz"], target) == []
    labels = nibabel.load(target)
    assert labels.shape == scan.grid.shape
    assert (int(labels.header["qform_code"]), int(labels.header["sform_code"])) == (2, 4)
    np.testing.assert_allclose(labels.affine, affine)
    assert b"name" not in bytes(labels.header["descrip"])
    assert np.asanyarray(labels.dataobj).any()
    assert list(target.parent.iterdir()) == [target]


def test_existing_labels_can_be_kept(cohort: Path, fake_model: Make, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "p1_T1.nii.gz").write_bytes(b"mine")
    (first, *_) = find_images(cohort)
    predict_files(fake_model(), [first], out, overwrite=False)
    assert (out / "p1_T1.nii.gz").read_bytes() == b"mine"
    predict_files(fake_model(), [first], out)
    assert (out / "p1_T1.nii.gz").read_bytes() != b"mine"


def test_outputs_that_would_harm_are_refused(tmp_path: Path) -> None:
    one, other = tmp_path / "a.nii.gz", tmp_path / "a_0000.nii"
    one.touch()
    with pytest.raises(UserError, match="same label file"):
        output_paths([one, other], tmp_path / "out")
    with pytest.raises(UserError, match="place of an input"):
        output_paths([one], tmp_path)
    with pytest.raises(UserError, match="must be a folder"):
        output_paths([one, tmp_path / "b.nii"], one)


def test_a_place_without_the_right_to_write_is_refused_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locked").mkdir()
    monkeypatch.setattr("os.access", lambda path, mode: Path(path).name != "locked")
    one = tmp_path / "a.nii.gz"
    for output in ("locked", "locked/deep/down", "locked/labels.nii.gz"):
        with pytest.raises(UserError, match=r"written.*locked\)"):
            output_paths([one], tmp_path / output)
    assert output_paths([one], tmp_path / "free")


def test_the_command(
    cohort: Path,
    fake_model: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given: list[object] = []

    def load(path: Path, *, device: str, export: object, **how: object) -> Model:
        given.extend((path, device, export, *how.values()))
        return fake_model()

    monkeypatch.setattr(foreign, "load_labeller", load)
    model = tmp_path / "run"
    out = tmp_path / "out"
    how: dict[str, Any] = {"export": "paper", "engine": "torch", "amp": "bf16"}
    assert predict(cohort, out, model=model, device="cpu", **how) == 3
    assert given == [model, "cpu", "paper", "torch", "bf16", None]
    said = capsys.readouterr()
    assert "2 of 3 images" in said.out
    assert "failed: p3" in said.err
    single = tmp_path / "one.nii.gz"
    assert predict(cohort / "images/p1_T1.nii.gz", single, model=model) == 0
    assert single.read_bytes() == (out / "p1_T1.nii.gz").read_bytes()
    assert predict(cohort / "images/p3.nii.gz", tmp_path / "x", model=model) == 2
    for place in (cohort, cohort / "images", cohort / "labels"):
        with pytest.raises(UserError, match="in the input"):
            predict(cohort, place, model=model)
    with pytest.raises(UserError, match="in the input"):
        predict(single, single, model=model)


def test_the_next_image_is_read_while_the_network_works(
    cohort: Path, fake_model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = find_images(cohort)[:2]
    second = threading.Event()
    read = files.read_image

    def reading(path: Path) -> Any:
        if path == inputs[1]:
            second.set()
        return read(path)

    model = fake_model()
    predict = model.prediction

    def predicting(*args: Any, **kwargs: Any) -> Any:
        assert second.wait(60), "the second image is read before the first is labelled"
        return predict(*args, **kwargs)

    monkeypatch.setattr(files, "read_image", reading)
    monkeypatch.setattr(model, "prediction", predicting)
    assert predict_files(model, inputs, tmp_path / "out") == []


def test_labels_that_cannot_be_written_are_told(
    cohort: Path, fake_model: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = find_images(cohort)[:2]
    write = files.write_labels

    def writing(path: Path, *rest: Any) -> None:
        if path.name.startswith(case_id(inputs[0])):
            raise OSError(28, "No space left on device")
        write(path, *rest)

    monkeypatch.setattr(files, "write_labels", writing)
    failures = predict_files(fake_model(), inputs, tmp_path / "out")
    assert [failure.case for failure in failures] == [case_id(inputs[0])]
    assert "No space left" in failures[0].reason
    labelled = {path.name for path in (tmp_path / "out").glob("*.nii.gz")}
    assert labelled == {f"{case_id(path)}.nii.gz" for path in inputs[1:]}
