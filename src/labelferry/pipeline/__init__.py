"""The only room that knows the run folder: stages, resume, and the whole chain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labelferry.pipeline.chain import adapt as adapt


def __getattr__(name: str) -> Any:
    if name == "adapt":
        from labelferry.pipeline.chain import adapt

        return adapt
    raise AttributeError(f"module 'labelferry.pipeline' has no attribute {name!r}")
