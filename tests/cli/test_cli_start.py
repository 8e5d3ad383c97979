"""What a command does not load."""

import subprocess
import sys

LOOK = """
import sys
from labelferry.cli.nibabelalone import load_nibabel
load_nibabel()
from labelferry.io.nifti import read_image
import labelferry.io.images
loaded = "pydicom" in sys.modules
import pydicom.dataset
print(loaded, pydicom.dataset.Dataset.__name__)
load_nibabel()
"""


def test_nibabel_is_loaded_without_pydicom_which_can_be_loaded_later():
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "Dataset"], done.stderr


def test_a_header_with_dicom_in_an_extension_is_read(tmp_path):
    look = f"""
from labelferry.cli.nibabelalone import load_nibabel
load_nibabel()
import nibabel, numpy
image = nibabel.Nifti1Image(numpy.ones((3, 4, 5), numpy.float32), numpy.eye(4))
image.header.extensions.append(nibabel.nifti1.Nifti1Extension(2, bytes(16)))
image.to_filename({str(tmp_path / "a.nii")!r})
from pathlib import Path
from labelferry.io.nifti import read_image
print(read_image(Path({str(tmp_path / "a.nii")!r})).volume.array.sum())
"""
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True)
    assert done.stdout.strip() == "60.0", done.stderr
