from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from labelferry.cli.data import app, check
from labelferry.errors import UserError

AFFINE = np.diag([3.0, 3.0, 5.0, 1.0])


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, AFFINE), path)


def image(modality: str = "MR") -> np.ndarray:
    array = np.random.default_rng(0).integers(0, 900, (9, 8, 7)).astype(np.int16)
    return array - 1000 if modality == "CT" else array


def labels() -> np.ndarray:
    array = np.zeros((9, 8, 7), np.uint8)
    array[2:5, 2:5, 2:5] = np.arange(1, 28).reshape(3, 3, 3) % 14
    return array


@pytest.fixture
def source(tmp_path):
    for name in ("ct1", "ct2"):
        write(tmp_path / "ct" / "images" / f"{name}.nii.gz", image("CT"))
        write(tmp_path / "ct" / "labels" / f"{name}.nii.gz", labels())
    return tmp_path / "ct"


@pytest.fixture
def target(tmp_path):
    for name in ("p1_T1", "p1_T2"):
        write(tmp_path / "mr" / "images" / f"{name}.nii.gz", image())
    return tmp_path / "mr"


def run(*tokens: object) -> int:
    result = app(
        ["check", *map(str, tokens)],
        exit_on_error=False,
        print_error=False,
        result_action="return_value",
    )
    assert isinstance(result, int)
    return result


def test_good_data_are_shown_and_end_with_0(source, target, capsys):
    assert run(source, target) == 0
    shown = capsys.readouterr().out
    assert f"{source} (source): 2 usable cases of 2 patients (2 CT); 0 refused, 0 warnings" in shown
    assert f"{target} (target): 2 usable cases of 1 patient (1 T1, 1 T2)" in shown
    row = next(line for line in shown.splitlines() if line.split()[:1] == ["p1_T1"])
    assert row.split() == ["p1_T1", "p1", "MR", "T1", "T1", "9×8×7", "3×3×5", "RAS"]
    assert any(line.split()[-2:] == ["RAS", "1–13"] for line in shown.splitlines())


def test_warnings_alone_end_with_0(target, capsys):
    (target / "images" / "x.mgz").touch()
    assert run(target) == 0
    assert (
        "warning: 1 file in a format that is not read, left out: x.mgz" in capsys.readouterr().out
    )


def test_some_refused_end_with_3_and_their_fix(source, capsys):
    (source / "labels" / "ct2.nii.gz").write_bytes(b"")
    assert run(source) == 3
    shown = capsys.readouterr().out
    assert "1 usable case" in shown
    assert "refused: ct2.nii.gz: empty file (0 bytes). Copy or download it again" in shown
    assert shown.index("refused: ct2") > shown.index("1 usable case")


def test_all_refused_end_with_2(target, capsys):
    for path in (target / "images").iterdir():
        path.write_bytes(b"")
    assert run(target) == 2
    assert capsys.readouterr().out.count("empty file") == 2


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_a_missing_or_empty_folder_ends_with_2(tmp_path, capsys, make):
    make(tmp_path / "gone")
    assert run(tmp_path / "gone") == 2
    assert str(tmp_path / "gone") in capsys.readouterr().err


def test_a_bad_path_does_not_stop_the_next(tmp_path, target, capsys):
    assert run(tmp_path / "gone", target) == 3
    captured = capsys.readouterr()
    assert "no such file or folder" in captured.err
    assert "2 usable cases" in captured.out


def test_the_role_can_be_said(source, capsys):
    assert run(source, "--role", "target") == 0
    shown = capsys.readouterr().out
    assert "(target)" in shown
    assert "is this MRI a CT?" in shown
    assert run(source / "images", "--role", "source") == 2


def test_own_organs(tmp_path, source, capsys):
    (tmp_path / "organs.json").write_text('[{"id": 1, "name": "liver"}]')
    assert run(source, "--organs", tmp_path / "organs.json") == 2
    assert "unexpected label values" in capsys.readouterr().out


def test_names_are_not_read_as_markup(tmp_path, capsys):
    write(tmp_path / "[red]x[bold]_T1.nii.gz", image())
    assert run(tmp_path) == 0
    assert "[red]x[bold]_T1" in capsys.readouterr().out


def test_check_is_a_function_that_returns_the_code(target):
    assert check(target) == 0


def test_the_report_holds_what_was_found(source, target, tmp_path):
    report = tmp_path / "out" / "report.json"
    (source / "images" / "lost.nii.gz").touch()
    assert run(source, target, "--json", report) == 3
    first, second = json.loads(report.read_text(encoding="utf-8"))["paths"]
    assert (first["role"], second["role"]) == ("source", "target")
    row = first["cases"][0]
    assert (row["case"], row["shape"], row["axes"]) == ("ct1", [9, 8, 7], "RAS")
    organ = row["organs"]["5"]
    marked = labels() == 5
    assert organ["voxels"] == marked.sum()
    assert organ["mean_intensity"] == pytest.approx(image("CT")[marked].mean())
    np.testing.assert_allclose(
        organ["centroid_ras_mm"], np.argwhere(marked).mean(0) * [3, 3, 5], atol=1e-3
    )
    assert first["refused"][0]["case"] == "lost"
    assert second["cases"][0]["organs"] == {}
    with pytest.raises(UserError, match="this is a folder"):
        run(target, "--json", tmp_path)


def test_several_processes_say_the_same(source, monkeypatch, capsys):
    (source / "labels" / "ct2.nii.gz").write_bytes(b"")
    assert run(source, "--workers", 1) == 3
    alone = capsys.readouterr().out
    monkeypatch.setattr("labelferry.cli.data._MANY", 1)
    assert run(source, "--workers", 2) == 3
    assert capsys.readouterr().out == alone


def test_help_loads_nothing_heavy():
    script = (
        "import sys; from labelferry.cli.data import app;"
        "app(['--help'], result_action='return_value');"
        "sys.exit(any(m in sys.modules for m in ('torch', 'scipy', 'nibabel', 'numpy')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
