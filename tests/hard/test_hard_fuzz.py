"""Truncated and bit-flipped files: read, or refused by name; never a crash, a hang, much memory."""

from __future__ import annotations

import gzip
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from hard_dicom import compress, enhanced, slices, write
from hard_scene import grid, labels, mr, save
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from labelferry.cases import Case
from labelferry.errors import UserError
from labelferry.io.check import inspect
from labelferry.io.dicom import read_header
from labelferry.io.dicomstacks import make_stacks, read_stack
from labelferry.io.discover import discover
from labelferry.io.itk import read_itk
from labelferry.io.nifti import read_bytes, read_geometry, read_image, read_labels
from labelferry.organs import FLARE

SHAPE = (12, 10, 8)
AFFINE = grid(SHAPE, (25, 25, 20))
SLOWEST_S = 20
MOST_KB = 2_000_000

Damage = tuple[float | None, list[tuple[int, int]]]
"""Where the file is cut, as a share of it, and which bytes become which."""
damages = st.tuples(
    st.one_of(st.none(), st.none(), st.floats(0, 1)),
    st.lists(
        st.tuples(
            st.one_of(*[st.integers(0, 351)] * 3, st.integers(0, 100_000)), st.integers(0, 255)
        ),
        max_size=6,
    ),
)


def damaged(content: bytes, damage: Damage) -> bytes:
    cut, changes = damage
    out = bytearray(content if cut is None else content[: int(cut * len(content))])
    for place, value in changes:
        if out:
            out[place % len(out)] = value
    return bytes(out)


# --- NIfTI, NRRD, MHA: one file


def nifti_seeds(folder: Path) -> list[Path]:
    """Both kinds, both byte orders, image and label."""
    array = mr(SHAPE, AFFINE)
    rows = [(array, {}), (array, {"big": True}), (array.astype(np.float64), {"two": True})]
    rows.append((labels(SHAPE, AFFINE), {}))
    return [save(folder / f"seed{n}.nii", data, **more) for n, (data, more) in enumerate(rows)]


def itk_seeds(folder: Path) -> list[Path]:
    image = SimpleITK.GetImageFromArray(mr(SHAPE, AFFINE).T)
    paths = [folder / name for name in ("plain.nrrd", "plain.mha", "packed.nrrd", "packed.mha")]
    for path in paths:
        SimpleITK.WriteImage(image, str(path), path.name.startswith("packed"))
    return paths


def try_nifti(folder: Path, path: Path, damage: Damage, packed: bool) -> None:
    content = path.read_bytes()
    bad = folder / ("x.nii.gz" if packed else "x.nii")
    if packed and damage[0] is None:  # a whole stream of damaged content
        bad.write_bytes(gzip.compress(damaged(content, damage), 1))
    else:
        bad.write_bytes(damaged(gzip.compress(content, 1) if packed else content, damage))
    inspect(Case("x", "x", "CT", "CT", "CT", bad, bad), FLARE)
    for look in (read_image, lambda p: read_labels(p, FLARE), read_geometry, read_bytes):
        named(look, bad)


def try_itk(folder: Path, path: Path, damage: Damage, packed: bool) -> None:
    bad = folder / f"x{path.suffix}"
    bad.write_bytes(damaged(path.read_bytes(), damage))
    named(read_itk, bad)


def named(look: Callable[[Path], object], path: Path) -> None:
    try:
        look(path)
    except UserError as error:
        assert path.name in str(error)


# --- DICOM: one bad file in a series


def dicom_seeds(folder: Path) -> list[Path]:
    """A plain slice, a compressed one, and a file of many frames."""
    kinds = [folder / name for name in ("plain", "packed", "frames")]
    for k, data in enumerate(slices(mr(SHAPE, AFFINE)[:, :, :4], AFFINE)):
        write(kinds[0] / str(k), data)
    for k, data in enumerate(slices(mr(SHAPE, AFFINE)[:, :, :4], AFFINE)):
        write(kinds[1] / str(k), data, compress(data, folder, "JPEG2000"))
    enhanced(kinds[2] / "0", mr(SHAPE, AFFINE), AFFINE, np.arange(SHAPE[2]))
    return [kind / "0" for kind in kinds]


def try_dicom(folder: Path, path: Path, damage: Damage, packed: bool) -> None:
    start = 132 if packed else 0
    content = path.read_bytes()
    bad = folder / "bad" / path.name
    shutil.rmtree(bad.parent, ignore_errors=True)
    shutil.copytree(path.parent, bad.parent)
    bad.write_bytes(content[:start] + damaged(content[start:], damage))
    frames = []
    for file in sorted(bad.parent.iterdir()):
        try:
            frames += read_header(file).frames
        except UserError as error:
            assert file.name in str(error)
    stacks, _ = make_stacks(frames)
    for stack in stacks:
        try:
            volume = read_stack(stack)
        except UserError as error:
            assert error.path is not None and error.path.parent == bad.parent
        else:
            assert volume.array.shape == volume.grid.shape
    try:
        found = discover(bad.parent, "target", FLARE)
    except UserError as error:  # nothing in it begins as DICOM does
        assert bad.parent.name in str(error)
        return
    for case in found.cohort:
        notes = inspect(case, FLARE).notes
        assert all(str(folder) not in str(note.nameless) for note in notes)


KINDS = {
    "nifti": (nifti_seeds, try_nifti),
    "itk": (itk_seeds, try_itk),
    "dicom": (dicom_seeds, try_dicom),
}


def fuzz(folder: Path, kind: str, examples: int, number: int) -> None:
    make, attempt = KINDS[kind]
    seeds = make(folder / "seeds" if kind == "dicom" else folder)

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(seeds), damages, st.booleans())
    def one(path: Path, damage: Damage, packed: bool) -> None:
        started = time.process_time()  # a hang is the business of pytest's timeout
        attempt(folder, path, damage, packed)
        assert time.process_time() - started < SLOWEST_S, "too slow"

    one()
    resource = pytest.importorskip("resource")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < MOST_KB


@pytest.mark.parametrize("kind", KINDS)
def test_some_damaged_files(tmp_path, kind):
    (tmp_path / "seeds").mkdir()
    fuzz(tmp_path, kind, 60, 0)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
def test_minutes_of_damaged_files(tmp_path, kind):
    (tmp_path / "seeds").mkdir()
    end, number = time.monotonic() + 200, 0
    while time.monotonic() < end:
        fuzz(tmp_path, kind, 500, number)
        number += 1
