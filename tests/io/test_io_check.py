from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
from io_scene import AFFINE, SHAPE, ct, labels, mr, save, source, target

from labelferry.cases import Case
from labelferry.io.check import check_case, check_cohort
from labelferry.io.discover import discover
from labelferry.organs import FLARE

ALL = tuple(range(1, 14))


def ct_case(folder: Path, *, image=None, label=None, affine=AFFINE, annotated=None) -> Case:
    """A labelled CT; ``affine`` is the label's."""
    return Case(
        "x",
        "x",
        "CT",
        "CT",
        "CT",
        image or save(folder / "images" / "x.nii.gz", ct()),
        save(folder / "labels" / "x.nii.gz", labels() if label is None else label, affine),
        annotated,
    )


def mr_case(path: Path) -> Case:
    return Case("x", "x", "MR", "T1", "T1", path)


def told(case: Case) -> list[tuple[str, str]]:
    return [(note.severity, note.text) for note in check_case(case, FLARE)]


def only(case: Case, severity: str) -> str:
    ((found, text),) = told(case)
    assert found == severity
    return text


def test_a_good_case_has_no_note(tmp_path):
    assert told(ct_case(tmp_path)) == []
    assert told(mr_case(save(tmp_path / "m.nii.gz", mr()))) == []


# --- intensities


def test_a_constant_image_is_refused(tmp_path):
    case = mr_case(save(tmp_path / "zero.nii.gz", np.zeros(SHAPE, np.int16)))
    assert "zero.nii.gz is a constant image" in only(case, "refused")


def test_voxels_that_are_not_finite_are_told(tmp_path):
    array = mr().astype(np.float32)
    array[0] = np.nan
    text = only(mr_case(save(tmp_path / "nan.nii.gz", array)), "warning")
    assert "nan.nii.gz has 48 voxels that are not finite (NaN" in text


@pytest.mark.parametrize(
    "array",
    [
        (ct() + 1024.0) / 2048,
        np.clip((ct() + 160) / 400 * 255, 0, 255).astype(np.uint8),
        (ct() + 1024).astype(np.uint16),
        ct() / 1000.0,
    ],
    ids=["0 to 1", "8 bit", "intercept lost", "-1 to 1"],
)
def test_ct_that_cannot_be_hounsfield_units_is_told(tmp_path, array):
    text = only(ct_case(tmp_path, image=save(tmp_path / "unit.nii.gz", array)), "warning")
    assert "unit.nii.gz has intensities in [" in text
    assert "Hounsfield" in text


def test_clipped_hounsfield_units_pass(tmp_path):
    image = save(tmp_path / "a.nii.gz", np.clip(ct(), -125, 275))
    assert told(ct_case(tmp_path, image=image)) == []


def test_an_outlier_and_a_ct_among_mri_are_told(tmp_path):
    array = mr().astype(np.float32)
    array[0, 0, 0] = 1e30
    assert "far beyond" in only(mr_case(save(tmp_path / "a.nii.gz", array)), "warning")
    assert "is this MRI a CT?" in only(mr_case(save(tmp_path / "b.nii.gz", ct())), "warning")


# --- geometry


def test_a_missing_orientation_is_told(tmp_path):
    case = mr_case(save(tmp_path / "noori.nii.gz", mr(), sform=0, qform=0))
    assert "noori.nii.gz has no orientation" in only(case, "warning")


def test_a_contradicting_qform_is_told(tmp_path):
    path = save(tmp_path / "sq.nii.gz", mr())
    nii = nibabel.load(path)
    nii.header.set_qform(np.diag([-3.0, -3.0, 5.0, 1.0]), 1)
    path.write_bytes(gzip.compress(nibabel.Nifti1Image(mr(), None, nii.header).to_bytes()))
    assert "the qform of sq.nii.gz contradicts its sform" in only(mr_case(path), "warning")


@pytest.mark.parametrize("factor", [0.001, 1000])
def test_implausible_voxel_sizes_are_told(tmp_path, factor):
    path = save(tmp_path / "m.nii.gz", mr(), AFFINE @ np.diag([factor] * 3 + [1]))
    assert "is the unit right?" in only(mr_case(path), "warning")


@pytest.mark.parametrize("flips", [(-1, -1, 1), (1, -1, -1), (-1, -1, -1)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_labels_of_another_orientation_are_fine(tmp_path, order, flips):
    ornt = np.array([[axis, flip] for axis, flip in zip(order, flips, strict=True)], float)
    turned = nibabel.orientations.apply_orientation(labels(), ornt)
    affine = AFFINE @ nibabel.orientations.inv_ornt_aff(ornt, SHAPE)
    assert told(ct_case(tmp_path, label=turned, affine=affine)) == []


def test_labels_of_another_shape_are_refused_with_both_shapes(tmp_path):
    text = only(ct_case(tmp_path, label=labels()[:, :, :4]), "refused")
    assert "label (10, 8, 4) RAS; allowed: image (10, 8, 6) RAS" in text


def test_labels_at_another_place_are_refused_with_the_distance(tmp_path):
    affine = np.array(AFFINE)
    affine[2, 3] += 345.6
    text = only(ct_case(tmp_path, affine=affine), "refused")
    assert "345.6 mm apart" in text
    assert "label origin (-14.0, -11.0, 332.6) mm" in text


def test_rounded_headers_pass(tmp_path):
    affine = np.array(AFFINE)
    affine[0, 3] += 0.05
    assert told(ct_case(tmp_path, affine=affine)) == []


# --- labels


def test_an_empty_label_map_is_refused(tmp_path):
    text = only(ct_case(tmp_path, label=np.zeros(SHAPE, np.uint8)), "refused")
    assert "label map x.nii.gz is empty" in text


def test_annotated_organs_without_voxel_are_told(tmp_path):
    text = only(ct_case(tmp_path, annotated=frozenset({1, 2, 9})), "info")
    assert "gallbladder" in text


def test_organs_that_the_table_does_not_annotate_are_told(tmp_path):
    text = only(ct_case(tmp_path, annotated=frozenset({1})), "warning")
    assert "not annotated by the table" in text
    assert "right kidney" in text


def test_all_faults_of_a_case_come_in_one_run(tmp_path):
    case = ct_case(tmp_path)
    case.image.write_bytes(b"")
    assert case.label is not None
    case.label.write_bytes(b"")
    notes = check_case(case, FLARE)
    assert [(note.severity, note.path) for note in notes] == [
        ("refused", case.image),
        ("refused", case.label),
    ]
    assert all("x.nii.gz: empty file" in note.text for note in notes)


# --- cohorts


def test_one_bad_file_never_stops_the_others(tmp_path):
    source(tmp_path, "a", "cut", "odd", "z")
    whole = (tmp_path / "images" / "cut.nii.gz").read_bytes()
    (tmp_path / "images" / "cut.nii.gz").write_bytes(whole[: len(whole) * 6 // 10])
    save(tmp_path / "labels" / "odd.nii.gz", labels((1, 25)))
    steps = []
    checked = check_cohort(
        discover(tmp_path, "source", FLARE), FLARE, lambda done, total: steps.append((done, total))
    )
    assert [case.id for case in checked.cohort] == ["a", "z"]
    assert [(note.case, note.severity) for note in checked.refused] == [
        ("cut", "refused"),
        ("odd", "refused"),
    ]
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert set(checked.grids) == {"a", "z"}


def test_without_table_a_label_annotates_what_it_holds(tmp_path):
    source(tmp_path, "a", "b")
    save(tmp_path / "labels" / "b.nii.gz", labels((3, 4, 5)))
    checked = check_cohort(discover(tmp_path, "source", FLARE), FLARE)
    assert checked.cohort["a"].annotated == {1, 2}
    assert checked.cohort["b"].annotated == {3, 4, 5}
    (warning,) = (note for note in checked.notes if note.severity == "warning")
    assert "no labelled case annotates inferior vena cava" in warning.text
    assert "spleen" not in warning.text


def test_a_full_source_has_no_warning(tmp_path):
    source(tmp_path, "a")
    save(tmp_path / "labels" / "a.nii.gz", labels(ALL))
    checked = check_cohort(discover(tmp_path, "source", FLARE), FLARE)
    assert all(note.severity == "info" for note in checked.notes)


def test_domains_and_patients_of_a_target_are_counted(tmp_path):
    target(tmp_path, "p1_T1", "p1_T2", "p2_T1", "p3_T1")
    checked = check_cohort(discover(tmp_path, "target", FLARE), FLARE)
    assert [(note.severity, note.text) for note in checked.notes] == [
        ("info", "the domain T2 has one case only"),
        ("info", "patients with more than one image: 1 of 3"),
    ]


def test_a_cohort_may_end_empty(tmp_path):
    save(tmp_path / "zero.nii.gz", np.zeros(SHAPE, np.int16))
    checked = check_cohort(discover(tmp_path, "target", FLARE), FLARE)
    assert len(checked.cohort) == 0
    assert len(checked.refused) == 1


def test_the_input_is_left_as_it_is(tmp_path):
    source(tmp_path, "a")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.nii.gz")}
    check_cohort(discover(tmp_path, "source", FLARE), FLARE)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
