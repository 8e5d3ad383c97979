"""On real scans, where they lie beside the repository: never part of it."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

import labelferry

REAL = Path(__file__).parents[3] / "shared" / "data" / "real"
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not REAL.is_dir(), reason="the real scans are not here"),
]
HEADER = (
    "sform_code",
    "qform_code",
    "srow_x",
    "srow_y",
    "srow_z",
    "quatern_b",
    "quatern_c",
    "quatern_d",
    "qoffset_x",
    "qoffset_y",
    "qoffset_z",
    "pixdim",
    "dim",
    "xyzt_units",
)


def test_labels_lie_on_the_grid_of_every_real_mri(cohort, tiny, tmp_path):
    labelferry.adapt(
        tmp_path / "run",
        cohort / "source",
        cohort / "target",
        size="demo",
        overrides=tiny,
        until="teach",
    )
    from labelferry.predict.files import predict_files

    images = sorted((REAL / "mr" / "images").glob("*.nii.gz"))
    model = labelferry.load_model(tmp_path / "run")
    assert predict_files(model, images, tmp_path / "labels") == []
    for path in images:
        image, labels = nibabel.load(path), nibabel.load(tmp_path / "labels" / path.name)
        assert image.shape == labels.shape
        np.testing.assert_array_equal(image.affine, labels.affine)
        for key in HEADER:
            np.testing.assert_array_equal(image.header[key], labels.header[key], err_msg=key)
