"""Carry organ labels from annotated CT to unannotated MRI of any sequence.

The public names load on first use, so that importing the package loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labelferry.evaluate import evaluate as evaluate
    from labelferry.pipeline import adapt as adapt
    from labelferry.pipeline import explain as explain
    from labelferry.predict import export_model as export_model
    from labelferry.predict import load_model as load_model

__version__ = "0.1.0"

_PUBLIC = {
    "adapt": "labelferry.pipeline",
    "explain": "labelferry.pipeline",
    "load_model": "labelferry.predict",
    "export_model": "labelferry.predict",
    "evaluate": "labelferry.evaluate",
    "Case": "labelferry.cases",
    "Cohort": "labelferry.cases",
    "Grid": "labelferry.volume",
    "Volume": "labelferry.volume",
    "Segmentation": "labelferry.volume",
    "OrganSet": "labelferry.organs",
    "FLARE": "labelferry.organs",
    "UserError": "labelferry.errors",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'labelferry' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
