from __future__ import annotations

import gzip
import struct

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from io_scene import AFFINE, SHAPE, ct, labels, patch, save

from labelferry.errors import UserError
from labelferry.io.nifti import (
    is_nifti,
    qform_distance,
    read_geometry,
    read_image,
    read_labels,
    stem,
    write_labels_like,
    write_volume,
)
from labelferry.organs import FLARE
from labelferry.volume import Grid, Segmentation, Volume

TURN = np.eye(4)
TURN[:3, :3] = [[0.8660254, -0.5, 0], [0.46984631, 0.81379768, -0.34202014], [0.17101007, 0.29619813, 0.93969262]]  # noqa: E501  # fmt: skip


# --- names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.nii.gz", "a"),
        ("a.nii", "a"),
        ("UPPER.NII.GZ", "UPPER"),
        ("Mixed.Nii", "Mixed"),
        ("1.3.6.1.4.nii.gz", "1.3.6.1.4"),
        ("1.v2.nii.nii.gz", "1.v2.nii"),
    ],
)
def test_only_the_suffix_leaves_the_name(tmp_path, name, expected):
    assert stem(tmp_path / name) == expected
    assert is_nifti(tmp_path / name)


@pytest.mark.parametrize("name", ["._a.nii.gz", ".a.nii", "a.nii.gz~", "a.nrrd", "a.gz", "nii"])
def test_other_names_are_no_nifti(tmp_path, name):
    assert not is_nifti(tmp_path / name)


# --- reading


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII", "A.NII.GZ", "A.Nii", "a.niI.gZ"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_an_image_is_read_with_its_grid(tmp_path, name, kind):
    path = save(tmp_path / name, ct(), TURN @ AFFINE, kind=kind)
    image = read_image(path)
    assert image.volume.array.dtype == np.float32
    np.testing.assert_array_equal(image.volume.array, ct())
    np.testing.assert_allclose(image.volume.grid.affine, TURN @ AFFINE, atol=1e-5)
    assert image.replaced == 0
    assert image.file_shape == SHAPE
    assert read_geometry(path).matches(image.volume.grid, 1e-9)


def test_slope_and_intercept_count(tmp_path):
    path = save(tmp_path / "a.nii", (ct() + 1024).astype(np.uint16))
    patch(path, 112, struct.pack("<ff", 1.0, -1024.0))
    np.testing.assert_array_equal(read_image(path).volume.array, ct())


def test_a_slope_of_zero_means_no_scaling(tmp_path):
    path = patch(save(tmp_path / "a.nii", ct()), 112, struct.pack("<ff", 0.0, 7.0))
    np.testing.assert_array_equal(read_image(path).volume.array, ct())


def test_big_endian_is_read_and_written_like(tmp_path):
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(np.dtype(">i2"))
    nibabel.save(nibabel.Nifti1Image(ct().astype(">i2"), AFFINE, header), tmp_path / "be.nii.gz")
    image = read_image(tmp_path / "be.nii.gz")
    assert image.header.endianness == ">"
    np.testing.assert_array_equal(image.volume.array, ct())
    write_labels_like(tmp_path / "out.nii.gz", Segmentation(labels(), image.volume.grid), image)
    np.testing.assert_array_equal(read_labels(tmp_path / "out.nii.gz", FLARE).array, labels())


def test_trailing_axes_of_one_are_dropped(tmp_path):
    image = read_image(save(tmp_path / "a.nii.gz", ct()[..., None, None]))
    assert image.volume.grid.shape == SHAPE
    assert image.file_shape == (*SHAPE, 1, 1)


def test_one_slice_is_a_volume(tmp_path):
    assert read_image(save(tmp_path / "a.nii.gz", ct()[..., :1])).volume.grid.shape == (10, 8, 1)


def test_voxels_that_are_not_finite_are_replaced_and_counted(tmp_path):
    array = ct().astype(np.float32)
    array[0, 0, :3] = np.nan, np.inf, -np.inf
    image = read_image(save(tmp_path / "a.nii.gz", array))
    assert image.replaced == 3
    assert (image.volume.array[0, 0, :3] == np.nanmin(array[1:])).all()


def test_huge_values_stay_finite(tmp_path):
    array = ct().astype(np.float64)
    array[0, 0, 0] = 1e300
    assert np.isfinite(read_image(save(tmp_path / "a.nii.gz", array)).volume.array).all()


def test_tiny_values_keep_their_contrast(tmp_path):
    array = read_image(save(tmp_path / "a.nii.gz", ct() * 1e-12)).volume.array
    np.testing.assert_allclose(array, ct() * 1e-12, rtol=1e-6)


def _rgb(path):
    colour = np.zeros(SHAPE, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    return save(path, colour)


def _cut(path):
    noise = np.random.default_rng(0).integers(0, 999, (20, 20, 20)).astype(np.int16)
    whole = save(path, noise).read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    return path


def _bytes(content):
    def make(path):
        path.write_bytes(content)
        return path

    return make


def _plain_named_gz(path):
    path.write_bytes(save(path.with_name("b.nii"), ct()).read_bytes())
    return path


BAD = {
    "absent": (lambda path: path, "not found"),
    "empty": (_bytes(b""), "empty file"),
    "cut": (_cut, "truncated"),
    "cut header": (_bytes(gzip.compress(b"\x5c\x01\0\0short")), "not a NIfTI"),
    "not gzip": (_plain_named_gz, "not gzip-compressed"),
    "text": (_bytes(gzip.compress(b"hello" * 200)), "not a NIfTI"),
    "half a gzip header": (_bytes(b"\x1f\x8b\x08"), "not a readable NIfTI"),
    "colour": (_rgb, "colour"),
    "complex": (lambda path: save(path, ct().astype(np.complex64)), "complex"),
    "time series": (lambda path: save(path, np.stack([ct()] * 2, -1)), "not a 3-D image"),
    "all NaN": (lambda path: save(path, np.full(SHAPE, np.nan, np.float32)), "finite"),
    "NaN affine": (
        lambda path: save(path, labels(), qform=0, srow_x=[np.nan, 0, 0, 0]),
        "affine",
    ),
    "flat affine": (
        lambda path: save(path, labels(), qform=0, srow_x=[0, 0, 0, 0]),
        "spacing of 0",
    ),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_file_is_named_with_its_cause(tmp_path, fault):
    make, cause = BAD[fault]
    path = make(tmp_path / "bad.nii.gz")
    for read in (read_image, lambda p: read_labels(p, FLARE)):
        if fault == "all NaN" and read is not read_image:
            continue
        with pytest.raises(UserError) as caught:
            read(path)
        assert cause in str(caught.value)
        assert "bad.nii.gz" in str(caught.value)


def test_a_folder_or_compressed_nii_is_refused(tmp_path):
    (tmp_path / "a.nii.gz").mkdir()
    with pytest.raises(UserError, match=r"a\.nii\.gz"):
        read_image(tmp_path / "a.nii.gz")
    (tmp_path / "b.nii").write_bytes(save(tmp_path / "c.nii.gz", ct()).read_bytes())
    with pytest.raises(UserError, match="compressed content"):
        read_image(tmp_path / "b.nii")


# sizes, type, place of the voxels, and any other byte of the header
offsets = st.one_of(
    st.integers(40, 56), st.integers(70, 73), st.integers(76, 123), st.integers(0, 351)
)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(offsets, st.integers(0, 255)), min_size=1, max_size=4))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_damaged_header_gives_an_image_or_a_message(tmp_path, damage):
    path = save(tmp_path / "a.nii", labels())
    for offset, value in damage:
        patch(path, offset, bytes([value]))
    for read in (read_image, read_geometry, lambda p: read_labels(p, FLARE)):
        try:
            read(path)
        except UserError as error:
            assert "a.nii" in str(error)


def test_a_header_that_promises_too_much_is_refused(tmp_path):
    path = patch(save(tmp_path / "a.nii", ct()), 42, struct.pack("<hhh", 32767, 32767, 32767))
    packed = tmp_path / "a.nii.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    for some in (path, packed):
        with pytest.raises(UserError, match="truncated or damaged"):
            read_image(some)


# --- labels


def test_scaled_labels_are_rounded_never_cut(tmp_path):
    array = np.arange(14, dtype=np.int16).reshape(14, 1, 1)
    path = patch(save(tmp_path / "a.nii", array), 112, struct.pack("<ff", 0.9999, 0.0))
    out = read_labels(path, FLARE)
    assert out.array.dtype == np.uint8
    np.testing.assert_array_equal(out.array, array)


@pytest.mark.parametrize("odd", [0.5, 1.02, np.nan, np.inf, -np.inf])
def test_labels_that_are_no_integers_are_refused(tmp_path, odd):
    array = labels().astype(np.float32)
    array[0, 0, 0] = odd
    with pytest.raises(UserError, match=r"not integers.*a\.nii\.gz"):
        read_labels(save(tmp_path / "a.nii.gz", array), FLARE)


@pytest.mark.parametrize("odd", [25, -1, 30000])
def test_unknown_ids_are_refused_and_shown(tmp_path, odd):
    array = labels().astype(np.int16)
    array[0, 0, 0] = odd
    with pytest.raises(UserError, match=rf"unexpected.*seen: {odd}; allowed: 0…13"):
        read_labels(save(tmp_path / "a.nii.gz", array), FLARE)


def test_an_image_in_place_of_labels_is_recognised_in_few_words(tmp_path):
    array = np.arange(SHAPE[0] * SHAPE[1] * SHAPE[2], dtype=np.int16).reshape(SHAPE) - 300
    with pytest.raises(UserError, match="looks like an image") as caught:
        read_labels(save(tmp_path / "a.nii.gz", array), FLARE)
    assert len(str(caught.value).replace(str(tmp_path), "")) < 300


# --- writing


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII.GZ"])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.int16, bool])
def test_a_volume_comes_back(tmp_path, name, dtype):
    array = (ct() > 0).astype(dtype)
    grid = Grid(SHAPE, TURN @ AFFINE)
    write_volume(tmp_path / name, Volume(array, grid))
    image = read_image(tmp_path / name)
    np.testing.assert_array_equal(image.volume.array, array)
    assert image.volume.grid.matches(grid, 1e-4)
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
    assert qform_distance(image.header, image.volume.grid) < 1e-3


def test_a_sheared_grid_keeps_its_sform(tmp_path):
    affine = np.array(AFFINE)
    affine[1, 2] = 1.3
    write_volume(tmp_path / "a.nii.gz", Volume(ct(), Grid(SHAPE, affine)))
    np.testing.assert_allclose(read_geometry(tmp_path / "a.nii.gz").affine, affine, atol=1e-5)


def test_the_same_content_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_volume(tmp_path / f"{name}.nii.gz", Volume(ct(), Grid(SHAPE, AFFINE)))
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize(("sform", "qform"), [(0, 0), (1, 0), (0, 1), (2, 1), (4, 4)])
@pytest.mark.parametrize("shape", [SHAPE, (*SHAPE, 1)])
def test_labels_are_written_on_the_images_own_grid(tmp_path, kind, sform, qform, shape):
    affine = TURN @ AFFINE @ np.diag([-1, -1, 1, 1])
    path = save(
        tmp_path / "a.nii.gz", ct().reshape(shape), affine, sform=sform, qform=qform, kind=kind
    )
    image = read_image(path)
    out = tmp_path / "out" / "a.nii.gz"
    write_labels_like(out, Segmentation(labels(), image.volume.grid), image)

    before, after = nibabel.load(path), nibabel.load(out)
    assert type(after) is kind
    assert after.shape == SHAPE  # a trailing axis of length 1 is dropped
    assert after.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(after.affine, before.affine)
    np.testing.assert_array_equal(after.header.get_zooms(), before.header.get_zooms()[:3])
    for field in ("sform_code", "qform_code", "quatern_b", "quatern_c", "quatern_d", "srow_x"):
        np.testing.assert_array_equal(after.header[field], before.header[field])
    np.testing.assert_array_equal(np.asarray(after.dataobj).reshape(SHAPE), labels())
    np.testing.assert_array_equal(read_labels(out, FLARE).array, labels())


def test_a_qform_that_contradicts_the_sform_is_put_right(tmp_path):
    path = save(tmp_path / "a.nii.gz", ct())
    nii = nibabel.load(path)
    quarter = np.array([[0, -3.0, 0, 40], [3, 0, 0, 7], [0, 0, 5, 0], [0, 0, 0, 1]])
    nii.header.set_qform(quarter, 1)
    path.write_bytes(gzip.compress(nibabel.Nifti1Image(ct(), None, nii.header).to_bytes()))
    image = read_image(path)
    np.testing.assert_allclose(image.volume.grid.affine, AFFINE)
    assert qform_distance(image.header, image.volume.grid) > 10
    write_labels_like(tmp_path / "out.nii.gz", Segmentation(labels(), image.volume.grid), image)
    back = read_image(tmp_path / "out.nii.gz")
    np.testing.assert_allclose(back.volume.grid.affine, AFFINE)
    assert qform_distance(back.header, back.volume.grid) < 1e-3
    assert int(back.header["qform_code"]) == 1


def test_scaling_and_free_text_stay_behind(tmp_path):
    path = save(
        tmp_path / "a.nii", ct(), descrip=b"Jane Doe", aux_file=b"jane", db_name=b"JD", cal_max=400
    )
    patch(path, 112, struct.pack("<ff", 2.0, -1024.0))
    image = read_image(path)
    write_labels_like(tmp_path / "out.nii", Segmentation(labels(), image.volume.grid), image)
    content = (tmp_path / "out.nii").read_bytes().lower()
    assert b"jane" not in content
    assert b"jd" not in content[:348]
    np.testing.assert_array_equal(read_labels(tmp_path / "out.nii", FLARE).array, labels())


def test_header_extensions_stay_behind(tmp_path):
    nii = nibabel.Nifti1Image(ct(), AFFINE)
    nii.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"Jane Doe"))
    nibabel.save(nii, tmp_path / "a.nii")
    image = read_image(tmp_path / "a.nii")
    write_labels_like(tmp_path / "out.nii", Segmentation(labels(), image.volume.grid), image)
    assert b"Jane" not in (tmp_path / "out.nii").read_bytes()
    assert nibabel.load(tmp_path / "out.nii").header["vox_offset"] in (0, 352)
    np.testing.assert_array_equal(read_labels(tmp_path / "out.nii", FLARE).array, labels())


def test_a_failed_write_leaves_the_old_labels(tmp_path, monkeypatch):
    grid = Grid(SHAPE, AFFINE)
    write_volume(tmp_path / "a.nii.gz", Volume(labels(), grid))
    before = (tmp_path / "a.nii.gz").read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gzip, "compress", full)
    with pytest.raises(OSError, match="No space"):
        write_volume(tmp_path / "a.nii.gz", Volume(labels((3,)), grid))
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii.gz"]
    assert (tmp_path / "a.nii.gz").read_bytes() == before
