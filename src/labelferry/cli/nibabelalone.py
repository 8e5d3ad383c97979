"""nibabel without pydicom, for commands that are over sooner than both are loaded."""

from __future__ import annotations

import sys


def load_nibabel() -> None:
    """Load nibabel as if pydicom were not installed; a later ``import pydicom`` works as ever.

    nibabel loads all of pydicom, and with it an HTTP client, to read one kind of NIfTI header
    extension, which nothing here looks at. Where pydicom is loaded already nothing is saved.
    """
    if "pydicom" in sys.modules or "nibabel" in sys.modules:
        return
    sys.modules["pydicom"] = None  # type: ignore[assignment]  # Python's way to say: not there
    try:
        import nibabel  # noqa: F401
    finally:
        del sys.modules["pydicom"]
