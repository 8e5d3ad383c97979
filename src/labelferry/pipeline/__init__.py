"""The only room that knows the run folder: stages, resume, and the whole chain."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labelferry.pipeline.chain import adapt as adapt
    from labelferry.pipeline.story import explain as explain

_PUBLIC = {"adapt": "labelferry.pipeline.chain", "explain": "labelferry.pipeline.story"}
__all__ = ["adapt", "explain"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'labelferry.pipeline' has no attribute {name!r}")
