"""DICOM SEG: the voxels of the NIfTI, at the same places, of the series that was labelled."""

from __future__ import annotations

import tempfile
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
from hard_dicom import IDENTITY, enhanced, series, uid, write
from hard_scene import grid, mr, save, turn
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.sr.codedict import codes
from test_hard_dicom import ORIENTATIONS

from labelferry.errors import UserError
from labelferry.io.dicomseg import ORGAN_CODES, write_seg
from labelferry.io.discover import discover
from labelferry.io.images import read_case
from labelferry.organs import FLARE, Organ, OrganSet
from labelferry.volume import LPS_TO_RAS, Grid, Segmentation

CODES = {  # SNOMED CT, and the side where there are two
    "liver": ("10200004", ""),
    "right kidney": ("64033007", "24028007"),
    "spleen": ("78961009", ""),
    "pancreas": ("15776009", ""),
    "aorta": ("15825003", ""),
    "inferior vena cava": ("64131007", ""),
    "right adrenal gland": ("23451007", "24028007"),
    "left adrenal gland": ("23451007", "7771000"),
    "gallbladder": ("28231008", ""),
    "esophagus": ("32849002", ""),
    "stomach": ("69695003", ""),
    "duodenum": ("38848004", ""),
    "left kidney": ("64033007", "7771000"),
}
TILT = 10 * np.tan(np.radians(15))


def framed(data, k) -> None:
    data.FrameOfReferenceUID = uid("frame of reference")


def drawn(shape: tuple[int, ...]) -> np.ndarray:
    """Organs everywhere but in the first two and the last slice along the third axis."""
    array = np.random.default_rng(3).integers(0, 14, shape).astype(np.uint8)
    array[:, :, :2] = array[:, :, -1] = 0
    return array


def made(folder: Path, out: Path, organs: OrganSet = FLARE) -> list[tuple[Path, Segmentation]]:
    """A SEG of random labels for every series of a folder."""
    found = []
    for case in discover(folder, "target", FLARE).cohort:
        labels = Segmentation(drawn(case.series.grid.shape), case.series.grid)
        write_seg(out / f"{case.id}.dcm", labels, case.series, organs)
        found.append((out / f"{case.id}.dcm", labels))
    return found


def points(array: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Every voxel as (x, y, z in RAS mm, value), in an order of its own."""
    index = np.argwhere(np.ones(array.shape, bool))
    world = index @ affine[:3, :3].T + affine[:3, 3]
    rows = np.column_stack([world, array[tuple(index.T)]])
    return rows[np.lexsort(np.round(rows[:, :3], 2).T)]


def by_frames(path: Path) -> np.ndarray:
    """The same of a SEG, by the positions of its frames alone."""
    data = pydicom.dcmread(path)
    shared = data.SharedFunctionalGroupsSequence[0]
    directions = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    rows, columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    found = []
    for frame, pixels in zip(data.PerFrameFunctionalGroupsSequence, data.pixel_array, strict=True):
        affine = np.eye(4)
        affine[:3, 0] = directions[:3] * columns
        affine[:3, 1] = directions[3:] * rows
        affine[:3, 2] = np.cross(directions[:3], directions[3:])
        affine[:3, 3] = frame.PlanePositionSequence[0].ImagePositionPatient
        found.append(points(pixels.T[:, :, None], LPS_TO_RAS @ affine))
    whole = np.concatenate(found)
    return whole[np.lexsort(np.round(whole[:, :3], 2).T)]


def same(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found[:, :3], wanted[:, :3], atol=1e-3)
    np.testing.assert_array_equal(found[:, 3], wanted[:, 3])


@pytest.mark.parametrize("name", [*ORIENTATIONS, "reversed"])
def test_a_seg_reads_back_to_the_same_voxels(tmp_path, name):
    affine = ORIENTATIONS.get(name, ORIENTATIONS["oblique"] @ np.diag([1, 1, -1, 1]))

    def edit(data, k):
        framed(data, k)
        if name == "reversed":
            data.InstanceNumber = 99 - k

    series(tmp_path / "in", mr(), affine, edit=edit)
    ((path, labels),) = made(tmp_path / "in", tmp_path)
    wanted = points(labels.array, labels.grid.affine)
    same(by_frames(path), wanted)
    volume = highdicom.seg.segread(path).get_volume(combine_segments=True)
    same(
        points(np.transpose(volume.array), np.asarray(LPS_TO_RAS @ volume.affine)[:, [2, 1, 0, 3]]),
        wanted,
    )


@settings(deadline=None, max_examples=8, derandomize=True)
@given(
    st.tuples(*[st.floats(-180, 180)] * 3),
    st.tuples(*[st.floats(1, 12)] * 3),
    st.booleans(),
)
def test_any_grid_reads_back(angles, spacing, backwards):
    matrix = turn(2, angles[0]) @ turn(1, angles[1]) @ turn(0, angles[2])
    shape = (7, 6, 5)
    affine = grid(shape, spacing, matrix) @ np.diag([1, 1, -1 if backwards else 1, 1])
    array = np.arange(np.prod(shape)).reshape(shape).astype(np.int16)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        series(folder / "in", array, affine, edit=framed)
        ((path, labels),) = made(folder / "in", folder)
        same(by_frames(path), points(labels.array, labels.grid.affine))
        (case,) = discover(folder / "in", "target", FLARE).cohort
        same(points(read_case(case).volume.array, labels.grid.affine), points(array, affine))


def test_a_tilted_gantry_keeps_its_places(tmp_path):
    def tilted(data, k):
        framed(data, k)
        data.ImagePositionPatient[1] = f"{float(data.ImagePositionPatient[1]) + k * TILT:.6f}"

    series(tmp_path / "in", mr(), edit=tilted)
    ((path, labels),) = made(tmp_path / "in", tmp_path)
    same(by_frames(path), points(labels.array, labels.grid.affine))


def test_every_slice_is_there_and_refers_to_its_picture(tmp_path):
    series(tmp_path / "in", mr(), edit=framed)
    ((path, labels),) = made(tmp_path / "in", tmp_path)
    data = pydicom.dcmread(path)
    assert data.SegmentationType == "LABELMAP"
    assert data.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.7"  # label map
    assert data.NumberOfFrames == labels.grid.shape[2]
    (referenced,) = data.ReferencedSeriesSequence
    assert referenced.SeriesInstanceUID == uid("one")
    named = [item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence]
    wanted = {float(d.ImagePositionPatient[2]): d.SOPInstanceUID for d in read_all(tmp_path / "in")}
    assert sorted(named) == sorted(wanted.values())
    for frame in data.PerFrameFunctionalGroupsSequence:
        place = float(frame.PlanePositionSequence[0].ImagePositionPatient[2])
        (source,) = frame.DerivationImageSequence[0].SourceImageSequence
        assert source.ReferencedSOPInstanceUID == wanted[place]
    # for the archive: the identity of its series, unlike all other outputs
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "StudyDate"):
        assert str(data[keyword].value) == IDENTITY[keyword]
    assert data.StudyInstanceUID == uid("study")
    assert data.FrameOfReferenceUID == uid("frame of reference")
    assert data.SeriesInstanceUID != uid("one")


def read_all(folder: Path) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in folder.iterdir()]


def test_frames_of_one_file_in_any_order(tmp_path):
    array = mr() // 2 * 2
    order = np.random.default_rng(1).permutation(array.shape[2])
    path = enhanced(tmp_path / "in" / "IM", array, grid(), order)
    data = pydicom.dcmread(path)
    framed(data, 0)
    write(path, data)
    ((path, labels),) = made(tmp_path / "in", tmp_path)
    same(by_frames(path), points(labels.array, labels.grid.affine))
    frames = {
        float(group.PlanePositionSequence[0].ImagePositionPatient[2]): number
        for number, group in enumerate(data.PerFrameFunctionalGroupsSequence, start=1)
    }
    for group in pydicom.dcmread(path).PerFrameFunctionalGroupsSequence:
        place = float(group.PlanePositionSequence[0].ImagePositionPatient[2])
        (source,) = group.DerivationImageSequence[0].SourceImageSequence
        assert source.ReferencedFrameNumber == frames[place]


def test_orientations_that_are_rounded_differently_are_one(tmp_path):
    affine = ORIENTATIONS["oblique"]

    def edit(data, k):
        framed(data, k)
        digits = 4 + k % 2
        rounded = [f"{float(v):.{digits}f}" for v in data.ImageOrientationPatient]
        data.ImageOrientationPatient = rounded

    series(tmp_path / "in", mr(), affine, edit=edit)
    ((path, labels),) = made(tmp_path / "in", tmp_path)
    found, wanted = by_frames(path), points(labels.array, labels.grid.affine)
    np.testing.assert_allclose(found[:, :3].mean(0), wanted[:, :3].mean(0), atol=0.1)
    assert pydicom.dcmread(path).NumberOfFrames == 14


def test_time_points_refer_to_their_own_slices(tmp_path):
    series(tmp_path / "in" / "a", mr(seed=1), edit=framed)

    def later(data, k):
        framed(data, k)
        data.InstanceNumber, data.SOPInstanceUID = 20 + k, uid("later", k)

    series(tmp_path / "in" / "b", mr(seed=2), edit=later)
    found = made(tmp_path / "in", tmp_path)
    assert len(found) == 2
    named = []
    for path, _ in found:
        data = pydicom.dcmread(path)
        items = data.ReferencedSeriesSequence[0].ReferencedInstanceSequence
        named.append({item.ReferencedSOPInstanceUID for item in items})
    assert named[1] == {uid("later", k) for k in range(14)}
    assert not named[0] & named[1]


def test_organs_have_the_codes_of_snomed(tmp_path):
    series(tmp_path / "in", mr(), edit=framed)
    ((path, _),) = made(tmp_path / "in", tmp_path)
    segments = pydicom.dcmread(path).SegmentSequence
    assert [int(segment.SegmentNumber) for segment in segments] == list(range(14))
    assert {organ.name for organ in FLARE} == set(ORGAN_CODES) == set(CODES)
    for organ, segment in zip(FLARE, segments[1:], strict=True):
        (kind,) = segment.SegmentedPropertyTypeCodeSequence
        sides = kind.get("SegmentedPropertyTypeModifierCodeSequence", [])
        assert segment.SegmentLabel == organ.name
        assert kind.CodingSchemeDesignator == "SCT"
        assert (kind.CodeValue, "".join(side.CodeValue for side in sides)) == CODES[organ.name]
        assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "91723000"
        words = f"{kind.CodeMeaning} {''.join(side.CodeMeaning for side in sides)}".lower()
        assert set(organ.name.replace("gland", "").split()) <= set(words.split())
    known = {getattr(codes.SCT, keyword).value for keyword, _ in ORGAN_CODES.values()}
    assert known == {code for code, _ in CODES.values()}


def test_organs_of_ones_own_have_a_private_code(tmp_path):
    series(tmp_path / "in", mr(), edit=framed)
    (case,) = discover(tmp_path / "in", "target", FLARE).cohort
    organs = OrganSet((Organ(1, "liver"), Organ(2, "psoas")))
    labels = Segmentation(drawn(case.series.grid.shape) % 3, case.series.grid)
    write_seg(tmp_path / "x.dcm", labels, case.series, organs)
    kind = pydicom.dcmread(tmp_path / "x.dcm").SegmentSequence[2].SegmentedPropertyTypeCodeSequence
    assert (kind[0].CodeValue, kind[0].CodingSchemeDesignator) == ("2", "99LABELFERRY")
    assert kind[0].CodeMeaning == "psoas"


def test_headers_that_were_emptied_do_no_harm(tmp_path):
    def bare(data, k):
        framed(data, k)
        for keyword in ("PatientBirthDate", "AccessionNumber", "StudyDate", "PatientName"):
            delattr(data, keyword)

    series(tmp_path / "in", mr(), edit=bare)
    ((path, _),) = made(tmp_path / "in", tmp_path)
    assert pydicom.dcmread(path).PatientID == IDENTITY["PatientID"]


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientName", "NoCaret"),
        ("PatientName", "山田^太郎"),
        ("PatientSex", "female"),
        ("StudyDate", "2019.08.17"),
        ("SeriesNumber", None),
        ("SliceThickness", "0"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_odd_headers_end_in_a_seg_or_in_a_message(tmp_path, keyword, value):
    def odd(data, k):
        framed(data, k)
        if keyword == "PatientName":
            data.SpecificCharacterSet = "ISO_IR 192"
        setattr(data, keyword, value)

    series(tmp_path / "in", mr(), edit=odd)
    try:
        ((path, labels),) = made(tmp_path / "in", tmp_path)
    except UserError as error:
        assert "no DICOM SEG can be made" in str(error) and keyword == "PatientSex"
        assert value not in str(error) and "(PatientSex)" in str(error)
    else:
        same(by_frames(path), points(labels.array, labels.grid.affine))


def test_a_series_without_a_frame_of_reference_is_refused(tmp_path):
    series(tmp_path / "in", mr())
    with pytest.raises(UserError, match=r"no DICOM SEG can be made.*Frame Of Reference"):
        made(tmp_path / "in", tmp_path)
    assert not list(tmp_path.glob("*.dcm"))


# --- the command


@pytest.mark.parametrize("formats", [("nifti", "dicom-seg"), ("dicom-seg",)])
def test_predict_writes_what_is_asked_for(tmp_path, call, model, formats):
    affine = ORIENTATIONS["oblique"]
    series(tmp_path / "in", mr(affine=affine), affine, edit=framed)
    out = tmp_path / "out"
    code, text = call("predict", tmp_path / "in", out, "--model", model, "--format", *formats)
    assert code == 0, text
    names = {"nifti": "p001_unknown.nii.gz", "dicom-seg": "p001_unknown.dcm"}
    tables = {"quality.csv", "volumes.csv"}
    assert {p.name for p in out.iterdir()} == tables | {names[f] for f in formats}
    if len(formats) == 2:
        image = nibabel.load(out / names["nifti"])
        wanted = points(np.asarray(image.dataobj), image.affine)
        same(by_frames(out / names["dicom-seg"]), wanted)
        assert wanted[:, 3].any()


def test_a_single_output_may_be_named(tmp_path, call, model):
    series(tmp_path / "in", mr(), edit=framed)
    words = ("predict", tmp_path / "in", tmp_path / "x.dcm", "--model", model)
    code, text = call(*words)
    assert code == 2 and "Add --format dicom-seg" in text
    assert call(*words, "--format", "dicom-seg")[0] == 0
    assert pydicom.dcmread(tmp_path / "x.dcm").Modality == "SEG"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "x.dcm"]


def test_what_is_no_dicom_has_no_seg(tmp_path, call, model):
    for name in ("a_T1", "b_T1"):
        save(tmp_path / "in" / f"{name}.nii.gz", mr())
    words = ("predict", tmp_path / "in", tmp_path / "out", "--model", model)
    code, text = call(*words, "--format", "dicom-seg")
    assert code == 2
    assert "a DICOM SEG needs the DICOM series" in text and "a_T1.nii.gz and 1 more" in text
    assert "--format nifti" in text and not (tmp_path / "out").exists()


def test_a_series_that_gets_no_seg_stops_no_other(tmp_path, call, model):
    series(tmp_path / "in" / "a", mr(), edit=framed)
    series(tmp_path / "in" / "b", mr(), series="two")
    words = ("predict", tmp_path / "in", tmp_path / "out", "--model", model)
    code, text = call(*words, "--format", "dicom-seg")
    assert code == 3
    assert "no DICOM SEG can be made" in text
    assert len(list((tmp_path / "out").glob("*.dcm"))) == 1


def test_the_grid_of_a_seg_is_that_of_its_series(tmp_path):
    series(tmp_path / "in", mr(), edit=framed)
    (case,) = discover(tmp_path / "in", "target", FLARE).cohort
    moved = np.array(case.series.grid.affine)
    moved[0, 3] += 5
    labels = Segmentation(drawn(case.series.grid.shape), Grid(case.series.grid.shape, moved))
    with pytest.raises(AssertionError):
        write_seg(tmp_path / "x.dcm", labels, case.series, FLARE)
