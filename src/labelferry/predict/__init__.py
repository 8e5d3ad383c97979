"""From an image to its labels: pseudo-labels and final labels alike.

The public names load on first use, so that importing the room loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labelferry.predict.predictor import load_model as load_model
    from labelferry.predict.publish import export_model as export_model
    from labelferry.predict.quality import assess as assess

_PUBLIC = {
    "load_model": "labelferry.predict.predictor",
    "export_model": "labelferry.predict.publish",
    "assess": "labelferry.predict.quality",
}
__all__ = ["assess", "export_model", "load_model"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'labelferry.predict' has no attribute {name!r}")
