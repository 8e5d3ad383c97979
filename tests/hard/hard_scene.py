"""Small abdomens with every fault that files have: our own bank, made where it is needed."""

from __future__ import annotations

import gzip
import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np

SHAPE = (32, 24, 14)
SPACING = (10.0, 10.0, 10.0)
_ORGANS = {  # id: centre and half axes in mm, RAS; HU; signal in MRI
    1: ((60, 10, 20), (50, 45, 35), 60, 340),
    2: ((55, -45, -25), (22, 20, 28), 110, 240),
    3: ((-85, -20, 30), (25, 28, 30), 90, 220),
    5: ((-8, -30, 0), (14, 14, 60), 150, 60),
    11: ((-50, 35, 25), (30, 25, 25), 25, 150),
    13: ((-60, -45, -20), (22, 20, 28), 112, 245),
}

OFFSETS = {
    "dim": 40,
    "datatype": 70,
    "pixdim": 76,
    "vox_offset": 108,
    "scl_slope": 112,
    "scl_inter": 116,
    "xyzt_units": 123,
    "qform_code": 252,
    "sform_code": 254,
    "quatern": 256,
    "qoffset": 268,
    "srow": 280,
}
"""Where fields of the header lie, for what no library agrees to write."""


def grid(shape=SHAPE, spacing=SPACING, turn=None) -> np.ndarray:
    """The affine of a grid with its middle at the origin."""
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if turn is None else turn) @ np.diag(spacing)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def turn(axis: int, degrees: float) -> np.ndarray:
    a, b = (k for k in range(3) if k != axis)
    matrix = np.eye(3)
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix[a, a] = matrix[b, b] = cosine
    matrix[a, b], matrix[b, a] = -sine, sine
    return matrix


def labels(shape=SHAPE, affine=None, without=()) -> np.ndarray:
    affine = grid(shape) if affine is None else affine
    index = np.stack(np.indices(shape), -1).astype(float)
    world = index @ affine[:3, :3].T + affine[:3, 3]
    array = np.zeros(shape, np.uint8)
    for organ, (centre, axes, _, _) in _ORGANS.items():
        if organ not in without:
            array[(((world - centre) / axes) ** 2).sum(-1) <= 1] = organ
    return array


def _painted(column: int, outside: float, fat: float, shape, affine, seed: int) -> np.ndarray:
    affine = grid(shape) if affine is None else affine
    index = np.stack(np.indices(shape), -1).astype(float)
    world = index @ affine[:3, :3].T + affine[:3, 3]
    body = (world[..., 0] / 145) ** 2 + (world[..., 1] / 105) ** 2 <= 1
    array = np.where(body, fat, outside)
    marked = labels(shape, affine)
    for organ, row in _ORGANS.items():
        array[marked == organ] = row[column]
    noise = np.random.default_rng(seed).normal(0, 6, shape) * (body if outside == 0 else 1)
    return np.rint(array + noise)


def ct(shape=SHAPE, affine=None, seed: int = 0) -> np.ndarray:
    return _painted(2, -1000, -90, shape, affine, seed).astype(np.int16)


def mr(shape=SHAPE, affine=None, seed: int = 0) -> np.ndarray:
    return np.abs(_painted(3, 0, 500, shape, affine, seed)).astype(np.int16)


def save(
    path: Path,
    array: np.ndarray,
    affine: np.ndarray | None = None,
    *,
    codes: tuple[int, int] = (1, 1),
    qform: np.ndarray | None = None,
    big: bool = False,
    two: bool = False,
) -> Path:
    """Write NIfTI with the codes of sform and qform as given."""
    affine = grid(array.shape[:3]) if affine is None else affine
    kind = nibabel.Nifti2Image if two else nibabel.Nifti1Image
    header = kind.header_class(endianness=">" if big else "<")
    header.set_data_dtype(array.dtype.newbyteorder(">" if big else "<"))
    image = kind(array, None, header)
    image.header.set_sform(affine, codes[0])
    image.header.set_qform(affine if qform is None else qform, codes[1], strip_shears=True)
    put(path, image.to_bytes())
    return path


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = path.name.lower().endswith(".gz")
    path.write_bytes(gzip.compress(content, 1, mtime=0) if packed else content)


def patched(path: Path, **fields: tuple[object, ...]) -> Path:
    """Overwrite fields of a little-endian NIfTI-1 header: ``scl_slope=("<f", nan)``."""
    content = path.read_bytes()
    whole = bytearray(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
    for name, (form, *values) in fields.items():
        struct.pack_into(str(form), whole, OFFSETS[name], *values)
    put(path, bytes(whole))
    return path


def pair(folder: Path, name: str, image=None, label=None, affine=None) -> None:
    """A labelled CT."""
    save(folder / "images" / f"{name}.nii.gz", ct() if image is None else image, affine)
    save(folder / "labels" / f"{name}.nii.gz", labels() if label is None else label, affine)


Make = Callable[[Path], object]
"""Writes one file of a fault; its argument is the file's path."""


def _cut(path: Path, array: np.ndarray, share: float) -> None:
    content = save(path, array).read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def _flipped(path: Path, array: np.ndarray) -> None:
    content = bytearray(save(path, array).read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


def _with(array: np.ndarray, value: float, count: int = 1) -> np.ndarray:
    out = array.astype(np.float32)
    out.reshape(-1)[:: max(1, out.size // count)][:count] = value
    return out


def _colour(array: np.ndarray, names: str) -> np.ndarray:
    out = np.zeros(array.shape, [(name, "u1") for name in names])
    for name in names:
        out[name] = np.clip(np.abs(array) / 4, 0, 255)
    return out


def _zeros(path: Path, array: np.ndarray) -> None:
    save(path, array)
    nothing = ("<12f", *[0.0] * 12)
    patched(path, srow=nothing, qform_code=("<h", 0), pixdim=("<8f", 1, 0, 0, 0, 1, 1, 1, 1))


def bad_images(array: np.ndarray) -> dict[str, tuple[Make, str]]:
    """Images that nothing can be made of, and a word that must be said of each."""
    nan = np.full(SHAPE, np.nan, np.float32)
    return {
        "empty": (lambda p: p.write_bytes(b""), "empty"),
        "cut": (lambda p: _cut(p, array, 0.6), "truncated"),
        "header_only": (lambda p: _cut(p, array, 0.03), "ended"),
        "bits": (lambda p: _flipped(p, array), "damaged"),
        "text": (lambda p: p.write_bytes(b"to be copied\n" * 99), "gzip"),
        "plain": (lambda p: p.write_bytes(save(p.with_name("x.nii"), array).read_bytes()), "gzip"),
        "series": (lambda p: save(p, np.stack([array] * 3, -1), grid()), "3-d"),
        "vector": (lambda p: save(p, np.stack([array] * 3, -1)[..., None, :], grid()), "3-d"),
        "rgb": (lambda p: save(p, _colour(array, "RGB")), "colour"),
        "rgba": (lambda p: save(p, _colour(array, "RGBA")), "colour"),
        "complex": (lambda p: save(p, array.astype(np.complex64)), "complex"),
        "constant": (lambda p: save(p, np.full(SHAPE, 7, np.int16)), "constant"),
        "all_nan": (lambda p: save(p, nan), "finite"),
        "nan_or_one": (lambda p: save(p, _with(nan, 3, 99)), "constant"),
        "no_voxel_size": (lambda p: _zeros(p, array), "affine"),
        "nan_affine": (lambda p: patched(save(p, array), srow=("<f", np.nan)), "affine"),
        "huge": (lambda p: patched(save(p, array), dim=("<4h", 3, 32000, 32000, 32000)), "damaged"),
    }


def odd_images(array: np.ndarray) -> dict[str, tuple[Make, str]]:
    """Images that work, and a word of the warning that some of them need."""
    shear = grid()
    shear[1, 2] += 2.7
    flat = array[:, :, 7:8]
    tilted = turn(2, 30) @ turn(0, 20)
    scaled = grid(SHAPE, (0.01, 0.01, 0.01))
    rough = grid(turn=turn(2, 12) @ turn(0, 23))
    rough[:3, :3] = np.round(rough[:3, :3] / 10, 3) * 10
    other = grid(turn=turn(2, 90))
    return {
        "oblique": (lambda p: save(p, array, grid(turn=tilted)), ""),
        "left_handed": (lambda p: save(p, array[::-1], grid() @ _mirror()), ""),
        "rounded": (lambda p: save(p, array, rough, codes=(1, 0)), ""),
        "sheared": (lambda p: save(p, array, shear, codes=(1, 0)), "sheared"),
        "qform_only": (lambda p: save(p, array, codes=(0, 1)), ""),
        "sform_only": (lambda p: save(p, array, codes=(2, 0)), ""),
        "qform_other": (lambda p: save(p, array, qform=other, codes=(2, 1)), "qform"),
        "no_codes": (lambda p: save(p, array, codes=(0, 0)), "orientation"),
        "metres": (lambda p: save(p, array, scaled), "unit"),
        "four_axes": (lambda p: save(p, array[..., None], grid()), ""),
        "six_axes": (lambda p: save(p, array[..., None, None, None], grid()), ""),
        "one_slice": (lambda p: save(p, flat, grid(flat.shape, (10, 10, 1))), ""),
        "two_axes": (lambda p: save(p, flat[..., 0], grid(flat.shape)), ""),
        "small": (lambda p: save(p, array[10:22, 8:18, 4:9]), ""),
        "big_endian": (lambda p: save(p, array, big=True), ""),
        "nifti_2": (lambda p: save(p, array, two=True), ""),
        "slope_0": (
            lambda p: patched(save(p, array), scl_slope=("<f", 0.0), scl_inter=("<f", 7.0)),
            "",
        ),
        "slope_nan": (lambda p: patched(save(p, array), scl_slope=("<f", np.nan)), ""),
        "nan": (lambda p: save(p, _with(array, np.nan, 50)), "finite"),
        "infinite": (lambda p: save(p, _with(array, np.inf, 5)), "finite"),
        "minus_infinite": (lambda p: save(p, _with(array, -np.inf, 5)), "finite"),
        "spike": (lambda p: save(p, _with(array, 1e30)), "beyond"),
        "negative_spike": (lambda p: save(p, _with(array, -1e30)), "beyond"),
        "doubles": (lambda p: save(p, array.astype(np.float64)), ""),
        "64_bits": (lambda p: save(p, array.astype(np.int64)), ""),
    }


def _mirror() -> np.ndarray:
    matrix = np.diag([-1.0, 1, 1, 1])
    matrix[0, 3] = SHAPE[0] - 1
    return matrix


def bad_labels() -> dict[str, tuple[Make, str]]:
    """Label maps that no image can be paired with, and a word that must be said of each."""
    array = labels()
    half = array.astype(np.float32)
    half[half == 1] = 1.5
    far, near = grid(), grid()
    far[2, 3] += 345.6
    near[0, 3] += 5.0
    lut = np.array([0, 205, 420, 500, 550, 600, 820, 850, 900, 901, 902, 903, 904, 905], np.int16)
    extra = array.copy()
    extra[15:17, 12:14, 6:8] = 25
    return {
        "empty": (lambda p: p.write_bytes(b""), "empty"),
        "cut": (lambda p: _cut(p, array, 0.6), "truncated"),
        "half": (lambda p: save(p, half), "integer"),
        "nan": (lambda p: save(p, _with(array, np.nan)), "integer"),
        "negative": (lambda p: save(p, -array.astype(np.int16)), "-1"),
        "extra": (lambda p: save(p, extra), "25"),
        "mmwhs": (lambda p: save(p, lut[array]), "205"),
        "the_image": (lambda p: save(p, ct()), "image"),
        "far": (lambda p: save(p, array, far), "345.6"),
        "half_a_voxel": (lambda p: save(p, array, near), "5.0 mm apart"),
        "short": (lambda p: save(p, array[:, :, :9], grid()), "shape"),
        "background": (lambda p: save(p, np.zeros_like(array)), "no voxel"),
        "rgb": (lambda p: save(p, _colour(array, "RGB")), "colour"),
        "channels": (lambda p: save(p, np.stack([array] * 2, -1), grid()), "3-d"),
        "no_codes": (lambda p: save(p, array, codes=(0, 0)), "no orientation"),
    }


def odd_labels() -> dict[str, tuple[Make, str]]:
    """Label maps of the same voxels that work, and a word of the warning that some need."""
    array = labels()
    turned = nibabel.Nifti1Image(array, grid()).as_reoriented(
        nibabel.orientations.ornt_transform(
            nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt("SLP")
        )
    )
    swapped = array.copy()
    swapped[array == 2], swapped[array == 13] = 13, 2
    scaled = ("<f", 0.9999)
    return {
        "other_axes": (
            lambda p: save(p, np.asarray(turned.dataobj).astype(np.uint8), turned.affine),
            "",
        ),
        "floats": (lambda p: save(p, array.astype(np.float32)), ""),
        "f999": (
            lambda p: patched(
                save(p, array.astype(np.int16)), scl_slope=scaled, scl_inter=("<f", 0)
            ),
            "",
        ),
        "big_endian": (lambda p: save(p, array.astype(np.int16), big=True), ""),
        "four_axes": (lambda p: save(p, array[..., None], grid()), ""),
        "nifti_2": (lambda p: save(p, array, two=True), ""),
        "qform_other": (lambda p: save(p, array, qform=grid(turn=turn(2, 90))), "qform"),
        "mirrored": (lambda p: save(p, array[::-1].copy()), "left and right"),
        "upside_down": (lambda p: save(p, array[:, :, ::-1].copy()), "head and foot"),
        "back_to_front": (lambda p: save(p, array[:, ::-1].copy()), "front and back"),
        "kidneys": (lambda p: save(p, swapped), "swapped"),
        "without_spleen": (lambda p: save(p, labels(without=(3,))), ""),
    }


def hashes(folder: Path) -> dict[str, str]:
    """All files of a folder with their content: the input is never written to."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def line_of(text: str, file: str) -> str:
    """The first line that names a file as it stands in a message about it."""
    marks = ("refused:", "warning:", "failed:", "error:")
    lines = [line for line in text.splitlines() if line.startswith(marks) and file in line]
    return lines[0] if lines else ""
