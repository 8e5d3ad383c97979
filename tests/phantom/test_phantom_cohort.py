from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from labelferry.cli.phantom import phantom
from labelferry.errors import UserError
from labelferry.files import hash_file, read_json
from labelferry.io.nifti import read_geometry, read_image, read_labels
from labelferry.organs import FLARE
from labelferry.phantom import cohort
from labelferry.phantom.cohort import write_cohort
from labelferry.phantom.frame import PhantomGrid
from labelferry.phantom.plan import Group, plan_subjects

TINY = PhantomGrid.of_spacing((12.8, 12.8, 20.0))
COLUMNS = "case,patient,modality,sequence,domain,image,label,annotated"
ALL = "1;2;3;4;5;6;7;8;9;10;11;12;13"


def make(out: Path, **changes: int) -> Path:
    arguments = {"ct": 3, "mri": 6, "test": 1, "seed": 7} | changes
    write_cohort(out, grid=TINY, **arguments)
    return out


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def digests(out: Path) -> dict[str, str]:
    return {
        path.relative_to(out).as_posix(): hash_file(path)
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("phantom") / "out")


def test_two_workers_write_the_same_bytes(made: Path, tmp_path: Path) -> None:
    assert digests(make(tmp_path / "two", workers=2)) == digests(made)


def test_another_seed_gives_other_images(made: Path, tmp_path: Path) -> None:
    first, other = digests(made), digests(make(tmp_path / "other", seed=8))
    assert first.keys() == other.keys()
    assert all(first[n] != other[n] for n in first if n.endswith(".nii.gz"))


def test_the_files_are_those_of_the_tables(made: Path) -> None:
    named = {"phantom.json"}
    for name in ("source", "target", "test", "truth/target", "truth/test"):
        path = made / name / "cohort.csv"
        assert path.read_text(encoding="utf-8").splitlines()[0] == COLUMNS
        named.add(f"{name}/cohort.csv")
        for row in table(path):
            named |= {f"{name}/{row[column]}" for column in ("image", "label") if row[column]}
    assert set(digests(made)) == named


def test_source_rows(made: Path) -> None:
    rows = table(made / "source" / "cohort.csv")
    assert rows[0] == {
        "case": "ph0001_CT",
        "patient": "ph0001",
        "modality": "CT",
        "sequence": "CT",
        "domain": "CT",
        "image": "images/ph0001_CT.nii.gz",
        "label": "labels/ph0001_CT.nii.gz",
        "annotated": ALL,
    }
    for row in rows:
        labels = read_labels(made / "source" / row["label"], FLARE)
        image = read_image(made / "source" / row["image"])
        assert labels.grid.matches(image.volume.grid)
        assert image.volume.grid.axes == "RAS"
        assert image.volume.array.min() == -1024
        assert labels.array.any()


def test_target_holds_no_label_and_truth_lies_apart(made: Path) -> None:
    for name in ("target", "test"):
        rows, truth = (table(made / p / "cohort.csv") for p in (name, f"truth/{name}"))
        assert [row["case"] for row in rows] == [row["case"] for row in truth]
        assert not any(row["label"] or row["annotated"] for row in rows)
        for row, true in zip(rows, truth, strict=True):
            assert (true["image"], true["label"]) == ("", f"{true['case']}.nii.gz")
            assert true["annotated"] == ALL
            assert row["modality"] == "MR" and row["domain"] == row["sequence"]
            labels = read_labels(made / "truth" / name / true["label"], FLARE)
            assert labels.grid.matches(read_geometry(made / name / row["image"]))
        below = [path.name for path in (made / name).rglob("*") if path.is_file()]
        assert len(below) == len(rows) + 1
        assert not list((made / name).rglob("*label*"))


def test_patients_and_sequences(made: Path) -> None:
    patients = {
        name: [row["patient"] for row in table(made / name / "cohort.csv")]
        for name in ("source", "target", "test")
    }
    sets = [set(names) for names in patients.values()]
    assert sum(map(len, sets)) == len(set().union(*sets)) == 10
    rows = table(made / "target" / "cohort.csv")
    of_last = [row["sequence"] for row in rows if row["patient"] == "ph0009"]
    assert of_last == ["T1", "T2", "DWI"]
    assert [row["sequence"] for row in table(made / "test" / "cohort.csv")] == ["T1", "T2", "DWI"]


def test_the_cycle_of_sixteen() -> None:
    target = [s for s in plan_subjects(2, 17, 0) if s.group is Group.TARGET]
    assert sum(len(s.sequences) == 1 for s in target[:16]) == 9
    assert target[16].sequences == target[0].sequences
    counts = {q: sum(q in s.sequences for s in target[:16]) for q in ("T1", "T2", "DWI")}
    assert counts == {"T1": 10, "T2": 8, "DWI": 6}


def test_one_patient_has_one_anatomy(made: Path) -> None:
    t1, t2 = (
        read_labels(made / "truth" / "target" / f"ph0009_{q}.nii.gz", FLARE) for q in ("T1", "T2")
    )
    np.testing.assert_array_equal(t1.array, t2.array)
    assert t1.grid.matches(t2.grid)
    other = read_geometry(made / "target" / "images" / "ph0008_T1.nii.gz")
    assert other.distance(t1.grid) > 1


def test_no_test_patients(tmp_path: Path) -> None:
    out = make(tmp_path / "out", ct=1, mri=1, test=0)
    assert not (out / "test").exists() and not (out / "truth" / "test").exists()


def test_a_whole_cohort_is_left_alone(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    monkeypatch.setattr(cohort, "write_subject", None)
    make(made)
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before
    assert read_json(made / "phantom.json", schema=1)["seed"] == 7


def test_a_stopped_cohort_goes_on(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    calls = 0
    write = cohort.write_volume

    def stop_at_the_sixth(path: Path, volume: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        write(path, volume)

    monkeypatch.setattr(cohort, "write_volume", stop_at_the_sixth)
    with pytest.raises(KeyboardInterrupt):
        make(out)
    assert not (out / "phantom.json").exists()
    with pytest.raises(UserError, match="other arguments"):
        make(out, seed=8)
    (out / "source" / ".part-xyz.nii.gz").write_bytes(b"half")
    kept = out / "source" / "images" / "ph0001_CT.nii.gz"
    before = kept.stat().st_mtime_ns
    monkeypatch.setattr(cohort, "write_volume", write)
    make(out)
    assert kept.stat().st_mtime_ns == before
    assert digests(out) == digests(made)


def test_other_folders_are_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="other arguments"):
        make(made, ct=4)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        make(tmp_path)
    with pytest.raises(UserError, match="in the way"):
        make(tmp_path / "mine.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("name", "value"), [("ct", 0), ("mri", 0), ("test", -1), ("seed", -1), ("workers", 0)]
)
def test_numbers_out_of_range_are_refused(tmp_path: Path, name: str, value: int) -> None:
    with pytest.raises(UserError, match=f"{name} is too small"):
        phantom(tmp_path / "out", **{name: value})
    assert not (tmp_path / "out").exists()


def test_command(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cohort, "PhantomGrid", lambda: TINY)
    phantom(tmp_path / "out", ct=3, mri=6, test=1, seed=7, workers=1)
    assert "3 CT" in capsys.readouterr().out
    assert digests(tmp_path / "out") == digests(made)
