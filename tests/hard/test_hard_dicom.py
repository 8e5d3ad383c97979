"""DICOM as it comes: one volume for each series, at its place, and no word of the patient."""

from __future__ import annotations

import csv
import errno
import gzip
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from hard_dicom import (
    IDENTITY,
    base,
    compress,
    enhanced,
    put_pixels,
    read,
    series,
    slices,
    uid,
    write,
)
from hard_scene import ct, grid, hashes, labels, mr, pair, save, turn
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

import labelferry.io.importing


def volumes(out: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Voxels and affines of a cohort's images, brought into RAS order."""
    images = [nibabel.load(path) for path in sorted((out / "images").iterdir())]
    canonical = [nibabel.as_closest_canonical(image) for image in images]
    return [(np.asarray(image.dataobj), image.affine) for image in canonical]


def check_equal(
    found: tuple[np.ndarray, np.ndarray], array: np.ndarray, affine: np.ndarray
) -> None:
    wanted = nibabel.as_closest_canonical(nibabel.Nifti1Image(array.astype(np.int16), affine))
    np.testing.assert_allclose(found[1], wanted.affine, atol=1e-3)
    np.testing.assert_allclose(found[0], np.asarray(wanted.dataobj), atol=0.6)


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "cohort.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


COLUMNS = np.eye(4)[:, [0, 2, 1, 3]]
ORIENTATIONS = {
    "axial": grid(),
    "head_first_down": grid() @ np.diag([1, 1, -1, 1]),
    "coronal": COLUMNS @ grid(),
    "oblique": grid(turn=turn(2, 30) @ turn(0, 20)),
    "left_handed": grid() @ np.diag([-1, 1, 1, 1]),
}


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_a_series_lies_where_its_positions_say(tmp_path, call, name):
    affine, array = ORIENTATIONS[name], mr()
    series(tmp_path / "in", array, affine)
    before = hashes(tmp_path / "in")
    code, text = call("data", "import", tmp_path / "in", tmp_path / "out")
    assert code == 0, text
    (found,) = volumes(tmp_path / "out")
    check_equal(found, array, affine)
    assert hashes(tmp_path / "in") == before
    assert call("data", "check", tmp_path / "out")[0] == 0


def test_instance_numbers_may_run_backwards(tmp_path, call):
    array = mr()
    series(tmp_path / "in", array, edit=lambda data, k: setattr(data, "InstanceNumber", 99 - k))
    assert call("data", "import", tmp_path / "in", tmp_path / "out")[0] == 0
    check_equal(volumes(tmp_path / "out")[0], array, grid())


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless])
def test_transfer_syntaxes(tmp_path, call, syntax):
    array = mr()
    for k, data in enumerate(slices(array)):
        if syntax == ExplicitVRBigEndian:
            data.PixelData = np.frombuffer(data.PixelData, "<i2").astype(">i2").tobytes()
        if syntax == RLELossless:
            data.file_meta = FileMetaDataset()
            data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            data.compress(RLELossless)
        write(tmp_path / "in" / str(k), data, syntax)
    code, text = call("data", "import", tmp_path / "in", tmp_path / "out")
    assert code == 0, text
    check_equal(volumes(tmp_path / "out")[0], array, grid())


@pytest.mark.parametrize("compressor", ["JPEG2000", "JPEG"])
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_compressed_pixels_keep_their_own_slope(tmp_path, call, compressor, modality):
    """The decoder applies slope and intercept for some modalities, and not for others."""
    array = 2 * (ct() if modality == "CT" else mr()) // 2 * 2
    for k, data in enumerate(
        slices(array, modality=modality, slope=lambda k: 2.0, intercept=-1000)
    ):
        syntax = compress(data, tmp_path, compressor)
        write(tmp_path / "in" / str(k), data, syntax)
    code, text = call("data", "import", tmp_path / "in", tmp_path / "out")
    assert code == 0, text
    check_equal(volumes(tmp_path / "out")[0], array, grid())


def test_pixels_that_nothing_decodes_are_refused(tmp_path, call):
    for k, data in enumerate(slices(mr())):
        data.PixelData = encapsulate([b"no JPEG at all"])
        data["PixelData"].VR = "OB"
        write(tmp_path / "in" / "odd" / str(k), data, JPEG2000Lossless)
    series(tmp_path / "in" / "good", ct(), modality="CT", series="two")
    code, text = call("data", "import", tmp_path / "in", tmp_path / "out")
    assert code == 3
    assert JPEG2000Lossless in text and "odd" in text
    check_equal(volumes(tmp_path / "out")[0], ct(), grid())


def test_a_file_without_preamble_is_read(tmp_path, call):
    array = mr()
    for k, data in enumerate(slices(array)):
        whole = write(tmp_path / "x", data, ImplicitVRLittleEndian)
        content = whole.read_bytes()
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{k}.dcm").write_bytes(content[content.index(b"\x08\x00\x08\x00") :])
    code, text = call("data", "import", tmp_path / "in", tmp_path / "out")
    assert code == 0, text
    check_equal(volumes(tmp_path / "out")[0], array, grid())


def test_a_deflated_file_is_read(tmp_path, call):
    array = mr()
    for k, data in enumerate(slices(array)):
        write(tmp_path / "in" / str(k), data, DeflatedExplicitVRLittleEndian)
    assert call("data", "import", tmp_path / "in", tmp_path / "out")[0] == 0
    check_equal(volumes(tmp_path / "out")[0], array, grid())


def test_frames_of_one_file_are_ordered_by_their_places(tmp_path, call):
    array = mr() // 2 * 2
    order = np.random.default_rng(1).permutation(array.shape[2])
    path = enhanced(tmp_path / "in" / "IM_0001", array, grid(), order)
    for given in (path.parent, path):
        out = tmp_path / f"out_{given.name}"
        code, text = call("data", "import", given, out)
        assert code == 0, text
        check_equal(volumes(out)[0], array, grid())


# --- what is in one folder


def test_series_are_told_apart_and_what_is_none_is_named(tmp_path, call):
    folder, thick = tmp_path / "in", mr((32, 24, 7))
    series(folder, ct(), modality="CT", series="thin")
    series(folder, thick, grid((32, 24, 7), (10, 10, 20)), series="thick")
    kind = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    series(folder, mr()[:, :, :3], series="s", edit=lambda d, k: setattr(d, "ImageType", kind))
    for k, data in enumerate(slices(mr()[:, :, :2], series="few")):
        write(folder / f"few{k}", data)
    capture = base("capture", "OT", "c", 1)
    put_pixels(capture, np.zeros((30, 30)))
    write(folder / "capture", capture)
    for name, content in (("README.TXT", b"x"), ("run.exe", b"MZ"), (".hidden", b"x")):
        (folder / name).write_bytes(content)
    (folder / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + bytes(64))
    code, text = call("data", "import", folder, tmp_path / "out")
    assert code == 0, text
    assert [row["case"] for row in rows(tmp_path / "out")] == ["p001_CT", "p001_unknown"]
    found = volumes(tmp_path / "out")
    check_equal(found[0], ct(), grid())
    check_equal(found[1], thick, grid((32, 24, 7), (10, 10, 20)))
    assert "3 files of Localizer" in text
    assert "warning: CT and MRI are in one cohort" in text
    assert "Secondary Capture Image Storage, no volume, left out: capture" in text
    assert "2 slices make no volume, left out: few0, few1" in text
    for word in ("README", "DICOMDIR", "run.exe", "hidden"):
        assert word not in text


def test_one_series_may_hold_echoes_and_time_points(tmp_path, call):
    """Pictures of one place that differ are another volume, also where both are empty."""
    first, second, third = mr(seed=1), mr(seed=2), mr(seed=3)
    for array in (first, second, third):
        array[:, :, :2] = 0
    series(tmp_path / "in" / "a", first, edit=lambda d, k: setattr(d, "EchoTime", "2.3"))
    for n, array in ((20, second), (40, third)):

        def later(data, k, n=n):
            data.EchoTime = "4.6"
            data.InstanceNumber = n + k
            data.SOPInstanceUID = uid("later", n, k)

        series(tmp_path / "in" / str(n), array, edit=later)
    code, text = call("data", "import", tmp_path / "in", tmp_path / "out")
    assert code == 0, text
    found = volumes(tmp_path / "out")
    for volume, array in zip(found, (second, third, first), strict=True):
        check_equal(volume, array, grid())


def test_copies_of_slices_are_counted_and_left_out(tmp_path, call):
    array = mr()
    folder = series(tmp_path / "in" / "dup", array)
    files = sorted(folder.iterdir())
    for path in files[:4]:  # exported twice
        path.with_name(f"copy_{path.name}").write_bytes(path.read_bytes())
    for n, path in enumerate(files[4:6]):  # under another identity
        data = read(path)
        data.SOPInstanceUID = uid("new", n)
        write(path.with_name(f"copy_{path.name}"), data)
    for path in files[6:8]:  # and not to the end
        path.with_name(f"copy_{path.name}").write_bytes(path.read_bytes()[:-200])
    code, text = call("data", "import", tmp_path / "in", tmp_path / "out")
    assert code == 0, text
    check_equal(volumes(tmp_path / "out")[0], array, grid())
    (line,) = (line for line in text.splitlines() if "8 duplicates of slices" in line)
    assert line.startswith("warning: dup: ") and f"copy_{files[0].name}" in line


def broken(folder: Path, how: str) -> str:
    """A series that is no volume; returns a word of the reason."""
    array = mr()
    if how == "gap":
        for k, data in enumerate(slices(array)):
            if k not in (5, 6):
                write(folder / f"IM{k}", data)
        return "slices are missing"
    if how == "uneven":
        places = np.linspace(0, 1, array.shape[2]) ** 2 * 140
        for k, data in enumerate(slices(array)):
            data.ImagePositionPatient[2] = float(places[k])
            write(folder / f"IM{k}", data)
        return "evenly spaced" if places[-1] - places[-2] < 0 else "slices are missing"
    series(folder, array)
    path = sorted(folder.iterdir())[3]
    if how == "contradiction":
        data = read(path)
        put_pixels(data, data.pixel_array + 5)
        write(folder / "other", data)
        return "different slices lie at one place"
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-200])
        return f"{path.name}: the pixels of the DICOM file are truncated"
    if how == "colour":
        for path in folder.iterdir():
            data = read(path)
            data.SamplesPerPixel, data.PhotometricInterpretation = 3, "RGB"
            data.PlanarConfiguration = 0
            data.PixelData = bytes(3 * data.Rows * data.Columns)
            data.BitsAllocated = data.BitsStored = 8
            data.HighBit, data.PixelRepresentation = 7, 0
            data["PixelData"].VR = "OB"
            write(path, data)
        return "colour"
    raise AssertionError(how)


@pytest.mark.parametrize("how", ["gap", "uneven", "contradiction", "cut", "colour"])
def test_a_series_that_is_no_volume_is_refused_and_stops_no_other(tmp_path, call, how):
    word = broken(tmp_path / "in" / "bad_one", how)
    series(tmp_path / "in" / "good", ct(), modality="CT", series="two")
    code, text = call("data", "import", tmp_path / "in", tmp_path / "out")
    assert code == 3
    (line,) = (line for line in text.splitlines() if line.startswith("refused:"))
    assert word in line and "bad_one" in line
    (found,) = volumes(tmp_path / "out")
    check_equal(found, ct(), grid())
    code, text = call("data", "import", tmp_path / "in" / "bad_one", tmp_path / "alone")
    assert code == 2
    assert "no volume can be used" in text and word in text
    assert not (tmp_path / "alone").exists()


def test_a_damaged_header_is_named(tmp_path, call):
    folder = series(tmp_path / "in", mr())
    content = next(folder.iterdir()).read_bytes()
    (folder / "99999999").write_bytes(content[:300])
    (folder / "88888888").write_bytes(content[:140] + bytes(400))
    (folder / "77777777").write_bytes(b"")
    code, text = call("data", "import", folder, tmp_path / "out")
    assert code == 0
    assert "1 file empty, locked or a broken link, left out: 77777777" in text
    for name in ("99999999", "88888888"):
        assert any(line.startswith(f"warning: {name}: ") for line in text.splitlines()), text


# --- geometry and values


def test_positions_that_are_rounded_are_taken_as_even(tmp_path, call):
    def rounded(data, k):
        data.ImagePositionPatient[2] = f"{float(data.ImagePositionPatient[2]) + (-1) ** k * 0.001}"

    series(tmp_path / "in", mr(), edit=rounded)
    code, text = call("data", "import", tmp_path / "in", tmp_path / "out")
    assert code == 0
    assert "warning" not in text
    assert volumes(tmp_path / "out")[0][1][2, 2] == pytest.approx(10, abs=1e-3)


def test_a_tilted_gantry_gives_sheared_axes(tmp_path, call):
    shift = 10 * np.tan(np.radians(15))

    def tilted(data, k):
        data.ImagePositionPatient[1] = f"{float(data.ImagePositionPatient[1]) + k * shift:.6f}"

    series(tmp_path / "in", ct(), modality="CT", edit=tilted)
    code, text = call("data", "import", tmp_path / "in", tmp_path / "out")
    assert code == 0
    assert "sheared by 15.0°" in text
    ((array, affine),) = volumes(tmp_path / "out")
    np.testing.assert_array_equal(array, np.asarray(ct()))
    assert affine[1, 2] == pytest.approx(-shift, abs=1e-3)
    assert affine[2, 2] == pytest.approx(10)


def test_every_slice_has_its_own_slope(tmp_path, call):
    array = mr()
    series(tmp_path / "in", array, slope=lambda k: 0.25 + 0.05 * k)
    assert call("data", "import", tmp_path / "in", tmp_path / "out")[0] == 0
    check_equal(volumes(tmp_path / "out")[0], array, grid())


def test_padding_outside_of_the_field_of_view_is_air(tmp_path, call):
    array = ct()
    array[:4] = -2048

    def padded(data, k):
        data.PixelPaddingValue = -1048

    series(tmp_path / "in", array, modality="CT", intercept=-1000, edit=padded)
    assert call("data", "import", tmp_path / "in", tmp_path / "out")[0] == 0
    array[:4] = -1024
    check_equal(volumes(tmp_path / "out")[0], array, grid())


# --- what is written


def everything(folder: Path) -> bytes:
    """Names and contents of all files, compressed ones unpacked."""
    found = b""
    for path in sorted(folder.rglob("*")):
        found += str(path.relative_to(folder)).encode() + b"\n"
        if path.is_file():
            content = path.read_bytes()
            found += gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
            found += content
    return found


def test_no_output_tells_who_the_patient_is(tmp_path, call):
    patient = tmp_path / "in" / "Winterbottom_Ottilie" / "PID-774411"
    series(patient / "20190817", mr(), edit=lambda d, k: setattr(d, "EchoTime", "90"))
    save(tmp_path / "in" / "PID-774411_T2.nii.gz", mr())
    code, text = call("data", "import", tmp_path / "in", tmp_path / "out")
    assert code == 0, text
    assert len(rows(tmp_path / "out")) == 2
    whole = everything(tmp_path / "out")
    planted = [*IDENTITY.values(), "Winterbottom", "Ottilie", "774411", "2019", str(tmp_path)]
    for word in (*planted, uid("one"), uid("study")):
        assert word.encode() not in whole, word
    key = tmp_path / "key.csv"
    again = ("data", "import", tmp_path / "in", tmp_path / "again")
    assert call(*again, "--key", key)[0] == 0
    assert everything(tmp_path / "again") == whole
    assert "p001" in key.read_text() and "PID-774411" in key.read_text()
    code, text = call(*again[:-1], tmp_path / "third", "--key", tmp_path / "third" / "key.csv")
    assert code == 2 and "key.csv" in text


def test_patients_and_sequences_are_told_and_said_to_be_guesses(tmp_path, call):
    for n, (who, words) in enumerate((("a", "t2_tse_fs_tra"), ("a", "DWI b800"), ("b", "x"))):

        def named(data, k, who=who, words=words):
            data.PatientID, data.SeriesDescription = who, words

        series(tmp_path / "in" / str(n), mr(), series=str(n), edit=named)
    code, text = call("data", "import", tmp_path / "in", tmp_path / "out")
    assert code == 0
    table = rows(tmp_path / "out")
    patients = {row["sequence"]: row["patient"] for row in table}
    assert patients["T2fs"] == patients["DWI-b800"] != patients["unknown"]
    assert {(row["sequence"], row["sequence_guessed_from"]) for row in table} == {
        ("T2fs", "series description"),
        ("DWI-b800", "series description"),
        ("unknown", ""),
    }
    assert "2 sequences guessed" in text
    assert call("data", "check", tmp_path / "out")[0] == 0


def test_patients_without_a_name_are_told_apart_by_their_studies(tmp_path, call):
    for n in range(3):

        def anonymous(data, k, n=n):
            data.PatientID, data.PatientName = "ANONYMOUS", "^"
            data.StudyInstanceUID = uid("study", n // 2)

        series(tmp_path / "in" / str(n), mr(), series=str(n), edit=anonymous)
    assert call("data", "import", tmp_path / "in", tmp_path / "out")[0] == 0
    times = Counter(row["patient"] for row in rows(tmp_path / "out"))
    assert sorted(times.values()) == [1, 2]


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ImagePositionPatient", ["nan", "0", "0"]),
        ("ImageOrientationPatient", None),
        ("PixelSpacing", ["0", "0"]),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_a_picture_without_a_place_is_named(tmp_path, call, keyword, value):
    folder = series(tmp_path / "in", mr())
    path = write(folder / "nowhere", next(slices(mr(), series="two")))
    data = read(path)
    if value is None:
        delattr(data, keyword)
    else:
        setattr(data, keyword, value)
    write(path, data)
    code, text = call("data", "import", folder, tmp_path / "out")
    assert code == 0
    assert "warning: nowhere: the DICOM file does not say where its picture lies" in text


def test_other_formats_become_a_cohort_too(tmp_path, call):
    array, affine = mr(), grid(turn=turn(2, 20))
    save(tmp_path / "in" / "a_T1.nii.gz", array, affine)
    lps = np.diag([-1.0, -1.0, 1.0])
    for name in ("b_T1.nrrd", "c_T2.mha"):
        image = SimpleITK.GetImageFromArray(array.T)
        image.SetSpacing([10.0, 10.0, 10.0])
        image.SetOrigin((lps @ affine[:3, 3]).tolist())
        image.SetDirection((lps @ affine[:3, :3] / 10).ravel().tolist())
        SimpleITK.WriteImage(image, str(tmp_path / "in" / name))
    colours = SimpleITK.GetImageFromArray(np.zeros((5, 5, 5, 3), np.uint8), isVector=True)
    SimpleITK.WriteImage(colours, str(tmp_path / "in" / "colours.nrrd"))
    (tmp_path / "in" / "cut.mha").write_bytes((tmp_path / "in" / "c_T2.mha").read_bytes()[:900])
    (tmp_path / "in" / "old.hdr").write_bytes(b"x")
    code, text = call("data", "import", tmp_path / "in", tmp_path / "out")
    assert code == 3
    assert sorted(row["sequence"] for row in rows(tmp_path / "out")) == ["T1", "T1", "T2"]
    for found in volumes(tmp_path / "out"):
        check_equal(found, array, affine)
    for name in ("colours.nrrd", "cut.mha"):
        assert any(name in line for line in text.splitlines() if line.startswith("refused:"))
    assert "not read, left out: old.hdr" in text


def test_a_labelled_cohort_keeps_its_labels_and_loses_its_names(tmp_path, call):
    pair(tmp_path / "in", "Winterbottom")
    pair(tmp_path / "in", "mirrored", label=labels()[::-1].copy())
    affine = grid()
    affine[2, 3] += 345.6
    save(tmp_path / "in" / "images" / "far.nii.gz", ct())
    save(tmp_path / "in" / "labels" / "far.nii.gz", labels(), affine)
    code, text = call("data", "import", tmp_path / "in", tmp_path / "out")
    assert code == 3
    assert "345.6" in text and "left and right are swapped" in text
    assert b"Winterbottom" not in everything(tmp_path / "out")
    found = [
        np.asarray(nibabel.load(p).dataobj) for p in sorted((tmp_path / "out/labels").iterdir())
    ]
    assert sorted(int((f == 1).sum()) for f in found) == [int((labels() == 1).sum())] * 2
    assert call("data", "check", tmp_path / "out")[0] == 0


def test_an_image_without_orientation_gets_none(tmp_path, call):
    save(tmp_path / "in" / "noori_T1.nii.gz", mr(), codes=(0, 0))
    _, text = call("data", "import", tmp_path / "in", tmp_path / "out")
    assert "noori_T1.nii.gz has no orientation" in text
    (path,) = (tmp_path / "out" / "images").iterdir()
    made, given = nibabel.load(path), nibabel.load(tmp_path / "in" / "noori_T1.nii.gz")
    assert (int(made.header["sform_code"]), int(made.header["qform_code"])) == (0, 0)
    np.testing.assert_array_equal(np.asarray(made.dataobj), np.asarray(given.dataobj))
    np.testing.assert_allclose(made.affine, given.affine)


def test_places_that_cannot_be_written_are_refused(tmp_path, call):
    series(tmp_path / "in", mr())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    for out, said in ((tmp_path / "full", "no empty folder"), (tmp_path / "in" / "o", "lies in")):
        code, text = call("data", "import", tmp_path / "in", out)
        assert code == 2 and said in text
    code, text = call("data", "import", tmp_path / "gone", tmp_path / "out")
    assert code == 2 and "gone" in text
    (tmp_path / "empty").mkdir()
    code, text = call("data", "import", tmp_path / "empty", tmp_path / "out")
    assert code == 2 and "no volume can be used" in text
    assert sorted((tmp_path / "full").iterdir()) == [tmp_path / "full" / "x"]


def test_a_full_disk_leaves_nothing_and_the_rerun_completes(tmp_path, call, monkeypatch):
    for n in range(3):
        series(tmp_path / "in" / str(n), mr(), series=str(n))
    write_volume, written = labelferry.io.importing.write_volume, []

    def full(path, *words, **more):
        written.append(path)
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write_volume(path, *words, **more)

    monkeypatch.setattr(labelferry.io.importing, "write_volume", full)
    words = ("data", "import", tmp_path / "in", tmp_path / "out")
    code, text = call(*words)
    assert code == 2 and "the disk is full" in text
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert call(*words)[0] == 0
    assert len(volumes(tmp_path / "out")) == 3
