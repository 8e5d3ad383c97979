"""The protocol flare24 against the rules of the official script, written down here anew."""

from __future__ import annotations

import csv
import warnings

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelferry.errors import UserError
from labelferry.evaluate import evaluate
from labelferry.evaluate.flare24 import flare24
from labelferry.io.nifti import read_bytes
from labelferry.organs import FLARE, TUBES, OrganSet
from labelferry.volume import Grid, Segmentation

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import surface_distance

MM = (5, 3, 3, 5, 2, 2, 2, 2, 2, 3, 5, 7, 3)
COLUMNS = ("Liver", "RK", "Spleen", "Pancreas", "Aorta", "IVC", "RAG", "LAG", "Gallbladder")
COLUMNS += ("Esophagus", "Stomach", "Duodenum", "LK")


def official(truth, prediction, spacing):
    """(DSC, NSD) of the organs 1…13; None where the script stops."""
    found = []
    for organ, tolerance in enumerate(MM, start=1):
        true, predicted = truth == organ, prediction == organ
        if not true.any() or not predicted.any():
            found.append((1, 1) if not true.any() and not predicted.any() else (0, 0))
            continue
        if organ in (5, 6, 10):
            slices = np.flatnonzero(true.any(axis=(0, 1)))
            if slices[0] == slices[-1]:
                found.append(None)
                continue
            true = true[:, :, slices[0] : slices[-1]]
            predicted = predicted[:, :, slices[0] : slices[-1]]
        dsc = surface_distance.compute_dice_coefficient(true, predicted)
        surface = 0.0
        if dsc >= 0.2:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                distances = surface_distance.compute_surface_distances(true, predicted, spacing)
            surface = surface_distance.compute_surface_dice_at_tolerance(distances, tolerance)
        found.append((round(dsc, 4), round(surface, 4)))
    return found


def ours(truth, prediction, spacing):
    grid = Grid(truth.shape, np.diag([*spacing, 1.0]))
    scores = flare24(Segmentation(prediction, grid), Segmentation(truth, grid), FLARE.ids, FLARE)
    assert tuple(scores) == FLARE.names
    return [(score.dsc, score.nsd) for score in scores.values()]


def agree(found, expected):
    for mine, theirs in zip(found, expected, strict=True):
        if theirs is not None:
            assert mine == pytest.approx(theirs, abs=1e-4)


side = st.integers(2, 12)
millimetres = st.floats(0.5, 5.0, width=32)


@settings(max_examples=80, deadline=None)
@given(
    shape=st.tuples(side, side, side),
    spacing=st.tuples(millimetres, millimetres, millimetres),
    changed=st.floats(0, 0.9),
    seed=st.integers(0, 2**32 - 1),
)
def test_random_label_maps_as_the_official_script(shape, spacing, changed, seed):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 16, [(n + 3) // 4 for n in shape]).astype(np.uint8)
    truth = coarse.repeat(4, 0).repeat(4, 1).repeat(4, 2)[tuple(slice(n) for n in shape)]
    truth[rng.random(shape) < 0.1] = 0
    prediction = np.roll(truth, 1, rng.integers(3)).copy()
    flip = rng.random(shape) < changed
    prediction[flip] = rng.integers(0, 16, flip.sum())
    agree(ours(truth, prediction, spacing), official(truth, prediction, spacing))


def box(organ=1, moved=0):
    mask = np.zeros((12, 12, 12), np.uint8)
    mask[3 + moved : 9 + moved, 3:9, 3:9] = organ
    return mask


def bar(organ, first, last):
    mask = np.zeros((6, 6, 12), np.uint8)
    mask[2:4, 2:4, first : last + 1] = organ
    return mask


def test_the_golden_tube():
    everywhere, tube, short = (0, 11), (2, 7), (2, 6)
    for organ, expected in ((5, (1, 1)), (6, (1, 1)), (10, (1, 1))):
        found = ours(bar(organ, *tube), bar(organ, *everywhere), (1, 1, 1))
        assert found[organ - 1] == expected
        # the last slice of the truth is not looked at
        assert ours(bar(organ, *tube), bar(organ, *short), (1, 1, 1))[organ - 1] == expected
    assert ours(bar(1, *tube), bar(1, *everywhere), (1, 1, 1))[0][0] == 0.6667


def test_the_golden_box_in_one_voxel_more():
    assert ours(box(), box(moved=1), (1, 1, 1))[0] == (0.8333, 1.0)
    assert ours(box(7), box(7, moved=1), (2.5, 1, 1))[6][0] == 0.8333


def test_a_tube_on_a_single_slice_is_scored_on_it():
    assert ours(bar(5, 4, 4), bar(5, 0, 11), (1, 1, 1))[4] == (1.0, 1.0)
    assert ours(bar(5, 4, 4), bar(5, 6, 8), (1, 1, 1))[4] == (0.0, 0.0)


def test_empty_masks():
    nothing = np.zeros((4, 4, 4), np.uint8)
    assert ours(nothing, nothing, (1, 1, 1)) == [(1, 1)] * 13
    assert ours(box(9)[:4, :4, :4], nothing, (1, 1, 1))[8] == (0, 0)
    assert ours(nothing, box(9)[:4, :4, :4], (1, 1, 1))[8] == (0, 0)


def test_a_low_dice_makes_the_surface_dice_zero():
    truth, prediction = np.zeros((2, 20, 8, 8), np.uint8)
    truth[2:8, 2:6, 2:6] = 12
    prediction[7:13, 2:6, 2:6] = 12
    found = ours(truth, prediction, (1, 1, 1))[11]
    assert found == (0.1667, 0.0)  # within 7 mm as a whole, all the same


def test_tolerances_are_not_stretched():
    # five voxels of 0.4 mm, as a header holds them, are a little more than 2 mm
    spacing = float(np.float32(0.4))
    truth, prediction = np.zeros((2, 20, 3, 3), np.uint8)
    truth[:10], prediction[:15] = 9, 9
    assert ours(truth, prediction, (spacing, 1, 1))[8][1] < 1
    agree(ours(truth, prediction, (spacing, 1, 1)), official(truth, prediction, (spacing, 1, 1)))


def test_more_than_the_script_gives():
    grid = Grid((12, 12, 12), np.diag([2.0, 1.0, 1.0, 1.0]))
    pair = Segmentation(box(moved=1), grid), Segmentation(box(), grid)
    score = flare24(*pair, frozenset({1}), FLARE)["liver"]
    assert (score.hd95_mm, score.volume_ml, score.truth_volume_ml) == (2.0, 0.432, 0.432)


def test_the_tubes_of_the_set():
    assert [organ.id for organ in FLARE if organ.tube] == [5, 6, 10]
    assert {organ.name for organ in FLARE if organ.tube} == TUBES
    # the form that older runs are hashed by says nothing of tubes
    assert all("tube" not in row for row in FLARE.to_json())
    with pytest.raises(UserError, match="wrong kind"):
        OrganSet.from_json([{"id": 1, "name": "vein", "tube": 1}])


def test_a_users_own_tube():
    own = OrganSet.from_json([{"id": 1, "name": "vein", "tube": True}])
    grid = Grid((6, 6, 12), np.eye(4))
    pair = Segmentation(bar(1, 0, 11), grid), Segmentation(bar(1, 2, 7), grid)
    assert flare24(*pair, own.ids, own)["vein"].dsc == 1


def save(path, array, affine=None, *, slope=1.0, zooms=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine)
    if zooms is not None:
        image.header.set_zooms(zooms)
    if slope != 1:
        image.header.set_slope_inter(slope, 0)
    nibabel.save(image, path)


@pytest.mark.parametrize(
    "values",
    [
        np.array([0, 1, 0.9999, 1.9999, 12.5, 13.999, 255.5, 256.2, 300, -0.5, -1, -255.5]),
        np.array([0, 1, 255, 256, 257, 269, -1, -243, 1000, 32767, -32768, 13], np.int16),
        np.array([0, 1, 3.7, 13.2, 5.999, 7, 8, 9, 10, 11, 12, 300.5], np.float32),
    ],
)
def test_bytes_are_read_by_truncation(tmp_path, values):
    save(tmp_path / "a.nii.gz", values.reshape(2, 3, 2))
    found = read_bytes(tmp_path / "a.nii.gz")
    expected = np.trunc(values.astype(float)).astype(np.int64) % 256
    np.testing.assert_array_equal(found.array, expected.reshape(2, 3, 2))
    inside = (values >= 0) & (values < 256)
    data = nibabel.load(tmp_path / "a.nii.gz").get_fdata().ravel()
    np.testing.assert_array_equal(found.array.ravel()[inside], np.uint8(data[inside]))


def test_what_is_not_finite_is_background(tmp_path):
    save(tmp_path / "a.nii.gz", np.array([np.nan, np.inf, -np.inf, 1e30, 2.5, 3]).reshape(1, 2, 3))
    assert read_bytes(tmp_path / "a.nii.gz").array.ravel().tolist() == [0, 0, 0, 0, 2, 3]


def test_the_slope_of_the_header_counts(tmp_path):
    save(tmp_path / "a.nii.gz", np.arange(14, dtype=np.int16).reshape(1, 2, 7), slope=0.9999)
    # a label just below its number becomes the one before, as in the script
    data = np.uint8(nibabel.load(tmp_path / "a.nii.gz").get_fdata())
    np.testing.assert_array_equal(read_bytes(tmp_path / "a.nii.gz").array, data)
    assert data.ravel()[-1] == 12


def test_geometry_is_not_looked_at_but_the_truths_spacing_is(tmp_path):
    truth, prediction = box(), box(moved=1)
    turned = np.array([[0, -7.0, 0, 50], [3.0, 0, 0, 0], [0, 0, 2.0, 9], [0, 0, 0, 1]])
    save(tmp_path / "truth" / "a.nii.gz", truth, np.diag([9.0, 9.0, 9.0, 1.0]), zooms=(2, 1, 1))
    save(tmp_path / "pred" / "a.nii.gz", prediction, turned)
    (case,) = evaluate(tmp_path / "pred", tmp_path / "truth", protocol="flare24").cases
    found = [(score.dsc, score.nsd) for score in case.organs.values()]
    agree(found, official(truth, prediction, (2.0, 1.0, 1.0)))


def test_another_shape_is_refused_by_name_and_a_missing_one_counts_zero(tmp_path):
    for name in ("a", "b", "c"):
        save(tmp_path / "truth" / f"{name}.nii.gz", box())
    save(tmp_path / "pred" / "a.nii.gz", box())
    save(tmp_path / "pred" / "b.nii.gz", box()[:, :, 1:])
    found = evaluate(tmp_path / "pred", tmp_path / "truth", protocol="flare24")
    assert found.missing == ("b", "c")
    assert "another shape than the truth; seen: 12×12×11" in found.refused["b"]
    assert found.organs["liver"].dsc == pytest.approx(1 / 3)
    # organs that are in neither map: 1 in case a, 0 where there is no prediction
    assert found.organs["spleen"].dsc == pytest.approx(1 / 3)


def test_foreign_labels_are_no_mistake(tmp_path):
    truth = box()
    truth[0, 0] = 77
    save(tmp_path / "truth.nii.gz", truth)
    save(tmp_path / "pred.nii.gz", box().astype(np.float32) * 1.4)
    found = evaluate(tmp_path / "pred.nii.gz", tmp_path / "truth.nii.gz", protocol="flare24")
    assert found.organs["liver"].dsc == 1
    with pytest.raises(UserError):
        evaluate(tmp_path / "pred.nii.gz", tmp_path / "truth.nii.gz")


def test_every_organ_is_scored_unless_some_are_named(tmp_path):
    save(tmp_path / "truth" / "a.nii.gz", box())
    (tmp_path / "truth" / "cohort.csv").write_text("case,annotated\na,1\n", encoding="utf-8")
    save(tmp_path / "pred" / "a.nii.gz", box())
    folders = tmp_path / "pred", tmp_path / "truth"
    assert len(evaluate(*folders, protocol="flare24").organs) == 13
    named = evaluate(*folders, protocol="flare24", annotated=["liver", "left kidney"])
    assert list(named.organs) == ["liver", "left kidney"]


def test_the_columns_of_the_official_table(tmp_path):
    for name, moved in (("FLARE_1", 0), ("FLARE_2", 1)):
        save(tmp_path / "truth" / f"{name}.nii.gz", box(13))
        save(tmp_path / "pred" / f"{name}.nii.gz", box(13, moved=moved))
    found = evaluate(tmp_path / "pred", tmp_path / "truth", protocol="flare24")
    header, *rows = csv.reader(found.to_csv().splitlines())
    assert header == ["Name", *(f"{c}_DSC" for c in COLUMNS), *(f"{c}_NSD" for c in COLUMNS)]
    assert [row[0] for row in rows] == ["FLARE_1.nii.gz", "FLARE_2.nii.gz"]
    expected = official(box(13), box(13, moved=1), (1, 1, 1))
    values = [float(value) for value in rows[1][1:]]
    assert values == [d for d, _ in expected] + [n for _, n in expected]
    # means of rounded values
    assert found.organs["left kidney"].dsc == (1 + 0.8333) / 2
